"""docs/api.md is what the docstrings say, and what it says runs; importing squeeze stays instant."""

from __future__ import annotations

import doctest
import inspect
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import squeeze

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
SECONDS = 0.06  # of processor time that `python -c "import squeeze"` may take


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/write_api.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_name_that_the_package_offers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in set(squeeze.__all__) - {"__version__"}:
        assert f"## squeeze.{name}\n" in page or f"- `{name}`:" in page, name


def test_every_function_has_an_example() -> None:
    for name in squeeze.__all__:
        offered = getattr(squeeze, name)
        if inspect.isfunction(offered):
            assert ">>> squeeze." in offered.__doc__ or f" squeeze.{name}(" in offered.__doc__


def test_every_example_of_the_page_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # fences end an example, as they end a block on the page
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    examples = doctest.DocTestParser().get_doctest(text, {}, "api.md", str(PAGE), 0)
    assert len(examples.examples) > 20
    failures: list[str] = []
    results = doctest.DocTestRunner().run(examples, out=failures.append)
    assert not results.failed, "".join(failures)


def test_importing_squeeze_takes_less_than_sixty_milliseconds() -> None:
    def processor_seconds() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    seconds = []
    for _ in range(5):
        before = processor_seconds()
        subprocess.run([sys.executable, "-c", "import squeeze"], check=True)
        seconds.append(processor_seconds() - before)
    assert min(seconds) < SECONDS


def test_numpy_weights_need_no_torch(tmp_path: Path) -> None:
    golden = ROOT / "tests" / "golden" / "v1-raw.sqz"
    program = (
        "import sys, squeeze\n"
        f"state = squeeze.load({str(golden)!r}, framework='np')\n"
        "assert state and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
