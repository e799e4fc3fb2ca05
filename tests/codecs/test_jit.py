"""Machine code of kernels: kept where this user can write, never stale, and never a reason to fail."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from numba import config

from squeeze.codecs import jit
from squeeze.codecs.jit import cache_folder, njit

ROOT = Path(__file__).parents[2]
NOBODY = 65534
USE_A_KERNEL = """
import numpy as np
from squeeze.codecs import get
codes = np.arange(-20, 20, dtype=np.int8).reshape(4, 10)
codec = get("range-histogram")
assert (codec.decode(codec.encode(codes), codes.shape, codes.dtype) == codes).all()
print("decoded")
"""


@pytest.fixture
def read_only_install() -> Iterator[Path]:
    """A folder anyone may enter, with an install in `site`, which only root could write to."""
    folder = Path(tempfile.mkdtemp(prefix="squeeze-guest-"))
    try:
        folder.chmod(0o755)
        no_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "squeeze", folder / "site" / "squeeze", ignore=no_caches)
        shutil.copytree(ROOT / "codecs", folder / "site" / "squeeze" / "codecs", ignore=no_caches)
        subprocess.run(["chmod", "-R", "a+rX,a-w", str(folder / "site")], check=True)
        (folder / "home").mkdir(mode=0o555)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o777)
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def run_as_guest(folder: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the install and the home of `folder`, as a user who may change neither."""
    command = [sys.executable, "-c", program]
    if os.geteuid() == 0:  # permissions do not stop root
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
        command = ["setpriv", *user, "--inh-caps=-all", *command]
        try:
            if subprocess.run([*command[:-1], "import numba"], capture_output=True).returncode:
                pytest.skip(f"user {NOBODY} cannot run {sys.executable} with numba")
        except FileNotFoundError:
            pytest.skip("no setpriv command to give up root's rights with")
    places = {
        "PYTHONPATH": str(folder / "site"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        command, env=places | variables, capture_output=True, text=True, cwd=folder / "tmp"
    )


def machine_code(folder: Path) -> dict[Path, int]:
    """Return the files of machine code in `folder` with their times of change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_a_read_only_install_and_home_keep_machine_code_in_a_private_temporary_folder(
    read_only_install: Path,
) -> None:
    folder = read_only_install
    first = run_as_guest(folder, USE_A_KERNEL)
    assert (first.returncode, first.stdout) == (0, "decoded\n"), first.stderr
    assert first.stderr.count("Notice: compiled kernels are kept in") == 1
    assert "NUMBA_CACHE_DIR" in first.stderr
    (private,) = (folder / "tmp").iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    kept = machine_code(private)
    assert kept
    assert run_as_guest(folder, USE_A_KERNEL).returncode == 0
    assert machine_code(private) == kept  # used, not compiled again


def test_machine_code_that_somebody_else_could_have_written_is_not_used(
    read_only_install: Path,
) -> None:
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    foreign = read_only_install / "tmp" / f"squeeze-{user}"
    foreign.mkdir()
    foreign.chmod(0o777)
    done = run_as_guest(read_only_install, USE_A_KERNEL)
    assert (done.returncode, done.stdout) == (0, "decoded\n"), done.stderr
    assert done.stderr.count("Notice: kernels are compiled again in every run") == 1
    assert not list(foreign.iterdir())


def test_a_folder_of_the_users_choice_comes_first_and_without_a_note(
    read_only_install: Path,
) -> None:
    chosen = str(read_only_install / "tmp" / "chosen")
    done = run_as_guest(read_only_install, USE_A_KERNEL, NUMBA_CACHE_DIR=chosen)
    assert (done.returncode, done.stdout, done.stderr) == (0, "decoded\n", "")
    assert machine_code(Path(chosen))


def test_a_change_of_a_kernel_reaches_those_that_inline_it(tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(
        "from squeeze.codecs.jit import njit\n"
        "@njit(nogil=True, inline='always')\ndef inner():\n    return 1\n"
    )
    (tmp_path / "outer.py").write_text(
        "from squeeze.codecs.jit import njit\nfrom inner import inner\n"
        "@njit(nogil=True)\ndef outer():\n    return inner()\n"
    )
    homes = tmp_path / "homes"

    def result() -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from outer import outer; print(outer())"],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(homes)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert result() == "1"
    before = machine_code(homes)
    source = (tmp_path / "inner.py").read_text()
    (tmp_path / "inner.py").write_text(source.replace("return 1", "return 2"))
    assert result() == "2"
    after = machine_code(homes)
    assert after and not set(after) & set(before)  # what was stale is gone


def test_other_users_of_numba_keep_their_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    one = njit(nogil=True)(lambda: 1)
    assert one() == 1
    assert str(tmp_path) == config.CACHE_DIR


def test_threads_that_decorate_at_once_keep_the_folder_of_each_other_and_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    folders = []

    def slow_njit(**options: object) -> object:
        first = config.CACHE_DIR
        time.sleep(0.02)
        folders.extend((first, config.CACHE_DIR))
        return lambda function: function

    monkeypatch.setattr(jit.numba, "njit", slow_njit)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: njit(nogil=True)(lambda: 1), range(8)))
    assert set(folders) == {str(cache_folder(Path(__file__).parent))}
    assert str(tmp_path) == config.CACHE_DIR
