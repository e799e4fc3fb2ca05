"""`squeeze submit` on disks that are full or read-only, and killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from squeeze.submit.check import sums
from tests.disks import FILLER, KINDS, refusing_disk
from tests.killing import UNFINISHED, Killable, killable

MOMENTS = 50


def arguments(inputs: Path, target: Path) -> list[str]:
    return [
        "submit", f"{inputs}/m.sqz", "-o", str(target), "--force", "--date", "2026-03-18",
        "--script", f"{inputs}/code.py", "--file", f"{inputs}/protocol.py", "--tokenizer",
        f"{inputs}/t.model", "--val", f"{inputs}/d.bin", "--name", "new", "--author", "A",
        "--github-id", "a", "--tokens", "64",
    ]  # fmt: skip


OLD = {"submission.json": b"{}", "old.py": b"pass"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def begin(place: Path) -> Path:
    target = place / "s"
    if target.exists():
        for path in target.iterdir():
            path.unlink()
    target.mkdir(parents=True, exist_ok=True)
    for name, data in OLD.items():
        (target / name).write_bytes(data)
    return target


def is_new(folder: Path, names: set[str]) -> bool:
    """Whether these files are there, each as SHA256SUMS has it."""
    found = content(folder)
    listed = found.pop("SHA256SUMS", b"")
    return {*found, "SHA256SUMS"} == names and sums(found) == listed


def kill_and_recover(
    process: Killable,
    inputs: Path,
    place: Path,
    names: set[str],
    seconds: float,
) -> bool:
    target = begin(place)
    ended = process.run(place, arguments(inputs, target), seconds=seconds)
    assert ended.code in (0, -9), ended.printed
    assert content(target) == OLD or is_new(target, names), "neither the old folder nor the new"
    recovered = process.run(place, arguments(inputs, target))
    assert recovered.code == 0, recovered.printed
    assert is_new(target, names)
    assert [path.name for path in place.iterdir()] == ["s"]
    assert not list(process.temporary.rglob(f"*{UNFINISHED}"))
    return ended.code == -9


@pytest.mark.parametrize("moments", [2, pytest.param(MOMENTS, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_leaves_the_old_folder_or_the_new_one(
    moments: int,
    inputs: Path,
    tmp_path: Path,
) -> None:
    place, rng = tmp_path / "work", random.Random(moments)
    with killable(tmp_path / "server") as process:
        target = begin(place)
        took = []
        for _ in range(2):
            whole = process.run(place, arguments(inputs, target))
            assert whole.code == 0, whole.printed
            took.append(whole.seconds)
        names = set(content(target))
        assert names > {"train_gpt.py", "SHA256SUMS"}
        killed = [
            kill_and_recover(
                process, inputs, place, names, (part + rng.random()) / moments * min(took)
            )
            for part in range(moments)
        ]
        assert sum(killed) >= moments // 2


SLEEPER = """
import sys
from pathlib import Path
from squeeze.score.box.sandbox import Box, Limits, isolation
with Box(Path(sys.argv[1]), [sys.executable, "-c", "import time; time.sleep(60)"], Limits(),
         isolation()) as box:
    print(box.process.pid, flush=True)
    box.process.wait()
"""


def test_a_killed_check_takes_what_it_runs_along(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    runner = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path / "s")], stdout=subprocess.PIPE
    )
    assert runner.stdout is not None
    box = int(runner.stdout.readline())
    runner.kill()
    runner.wait()
    runner.stdout.close()
    deadline = time.monotonic() + 20
    while alive(box) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(box)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_takes_nothing_is_one_clear_error(
    kind: str,
    inputs: Path,
    tmp_path: Path,
) -> None:
    old = {f"s/{name}": data for name, data in OLD.items()}
    with refusing_disk(tmp_path / "disk", kind, old) as disk:
        command = [sys.executable, "-m", "squeeze", *arguments(inputs, disk / "s")]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 1
        (line,) = ended.stderr.strip().splitlines()
        assert "cannot be written" in line and str(disk) in line
        assert content(disk / "s") == OLD
        assert {path.name for path in disk.iterdir()} <= {"s", FILLER}
