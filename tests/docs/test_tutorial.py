"""docs/tutorial.md: its commands run, and print what the page says, but for their numbers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as `python tests/docs/tutorial.py` finds itself
from tutorial import PAGE, QUICK, Step, quick, run, steps

STEPS = steps(PAGE.read_text(encoding="utf-8"))
NUMBER = re.compile(r"\b[0-9a-f]{64}\b|[-+]?\d[\d,.]*(e-?\d+)?")
# what depends on the machine, or on how long the model learnt
FREE = re.compile(r"^machine .*|isolation: .*|\b(shrunk|grown|under the limit|OVER|over)\b|^head.*")


def shape(line: str) -> str:
    """A line without its numbers and the plurals that go by them, and with single spaces."""
    words = NUMBER.sub("#", FREE.sub("", line)).replace("#", " # ").split()
    return " ".join(word.removesuffix("s") for word in words)


def shapes(text: str) -> set[str]:
    """Shapes of all lines; numbers of other lengths wrap a row of a table elsewhere."""
    return {shape(line) for line in re.sub(r"\n {20,}", " ", text).splitlines()}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Step, str]]:
    """Every step of the page, shortened as QUICK says, with what it prints in one folder."""
    folder = tmp_path_factory.mktemp("tutorial")
    return [(step, run(quick(step.commands), folder)) for step in STEPS]


def test_every_line_of_the_tutorial_is_printed(printed: list[tuple[Step, str]]) -> None:
    for step, text in printed:
        missing = shapes(step.printed) - shapes(text)
        if (
            "head -n 5" in step.commands
        ):  # the text of the first document, another one in the short run
            missing = {line for line in missing if line.startswith(("text", "SHA"))}
        assert not missing, f"{step.commands}\nprinted\n{text}"


def test_the_packed_file_keeps_its_limit_and_the_proof_decodes(
    printed: list[tuple[Step, str]],
) -> None:
    assert shape(f"SHA-256 of text  {'5d' * 32}") == "SHA # of text #"
    everything = "".join(text for _, text in printed)
    assert "0 fail" in everything
    assert "identical, in another process" in everything
    size = re.search(r"model\.sqz: [\d,]+ → ([\d,]+) bytes", everything)
    assert size is not None and int(size[1].replace(",", "")) <= 200_000


def test_what_the_short_run_changes_stands_in_the_page() -> None:
    commands = "".join(step.commands for step in STEPS)
    for original in QUICK:
        assert original in commands, f"{original!r} is not in the tutorial any more"


def test_every_step_shows_what_it_prints() -> None:
    assert len(STEPS) >= 12
    assert all(step.printed for step in STEPS)
