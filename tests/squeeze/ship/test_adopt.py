"""The lines of docs/adopt.md, word for word, behind the programs of tests/programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MARK = "    # squeeze goes here\n"
PROGRAMS = ["looped", "baseline", "banks"]
SQUEEZE = Path(sys.executable).with_name("squeeze")
SMALL = "--specialise --no-checks --terse-errors --rename-classes --coder mixed".split()
# bytes that a bundle may grow by
DECODER, BOTH = 5_000, 15_000


@cache
def lines_of_docs() -> tuple[str, str, str]:
    """Return the three ways of docs/adopt.md: installed, the decoder alone, packer and decoder."""
    text = (ROOT / "docs" / "adopt.md").read_text()
    first, second, third = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return first, second, third


def write_program(folder: Path, program: str, lines: str = "") -> Path:
    """Write a program with these lines behind its training."""
    source = (ROOT / "tests" / "programs" / f"{program}.py").read_text()
    indented = "".join(f"    {line}" if line.strip() else line for line in lines.splitlines(True))
    assert source.count(MARK) == 1
    path = folder / "train_gpt.py"
    path.write_text(source.replace(MARK, indented))
    return path


def run(path: Path, *launcher: str, alone: bool = False) -> dict[str, float]:
    """Run a script in its folder; return the losses that it prints, by their first word."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    isolated = ["-I"] if alone else []
    command = [sys.executable, *isolated, *launcher, path.name]
    done = subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        word: float(loss) for word, loss in re.findall(r"^(\w+) val_loss:(\S+)", done.stdout, re.M)
    }


def bundled(entry: Path, folder: Path, *options: str) -> Path:
    """Return the bundle of a script, in a folder of its own."""
    folder.mkdir()
    out = folder / "train_gpt.py"
    command = [SQUEEZE, "bundle", entry, "--package", "squeeze", *options, "-o", out]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out


def limit_of(program: str) -> int:
    text = (ROOT / "tests" / "programs" / f"{program}.py").read_text()
    return int(re.search(r"^LIMIT = (\S+)", text, re.M)[1].replace("_", ""))


def check(losses: dict[str, float], size: int, program: str) -> None:
    assert losses.keys() == {"trained", "final"}
    assert abs(losses["final"] - losses["trained"]) < 0.02
    assert 0.98 * limit_of(program) < size <= limit_of(program)


@pytest.mark.parametrize(
    "program", [PROGRAMS[0], *(pytest.param(p, marks=pytest.mark.slow) for p in PROGRAMS[1:])]
)
def test_a_program_packs_with_the_packer_it_ships(program: str, tmp_path: Path) -> None:
    path = write_program(tmp_path, program, lines_of_docs()[2])
    losses = run(path)
    check(losses, path.stat().st_size + (tmp_path / "model.sqz").stat().st_size, program)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_packs_with_an_installed_squeeze(program: str, tmp_path: Path) -> None:
    path = write_program(tmp_path, program, lines_of_docs()[0])
    losses = run(path)
    check(losses, path.stat().st_size + (tmp_path / "model.sqz").stat().st_size, program)


@pytest.mark.slow
@pytest.mark.parametrize("way", [0, 2])
def test_two_ranks_pack_together(way: int, tmp_path: Path) -> None:
    path = write_program(tmp_path, "banks", lines_of_docs()[way])
    losses = run(path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    check(losses, path.stat().st_size + (tmp_path / "model.sqz").stat().st_size, "banks")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bundle_packs_and_scores_in_an_empty_folder(program: str, tmp_path: Path) -> None:
    entry = write_program(tmp_path, program, lines_of_docs()[2])
    out = bundled(entry, tmp_path / "empty", *SMALL)
    losses = run(out, alone=True)
    check(losses, out.stat().st_size + (out.parent / "model.sqz").stat().st_size, program)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bundle_with_the_decoder_scores_what_the_command_packed(
    program: str, tmp_path: Path
) -> None:
    entry = write_program(tmp_path, program, lines_of_docs()[1])
    trained = run(entry)
    out = bundled(entry, tmp_path / "empty", *SMALL)
    command = "pack final_model.pt --preset fast --model train_gpt.py:build --seq-len 64"
    command += f" --limit {limit_of(program)}"
    subprocess.run(
        [SQUEEZE, *command.split(), "--code", out, "-o", out.parent / "model.sqz"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    losses = run(out, alone=True)
    check(losses, out.stat().st_size + (out.parent / "model.sqz").stat().st_size, program)
    assert losses["trained"] == trained["final"] != losses["final"]


@pytest.mark.slow
def test_the_bytes_that_adopting_costs_stay_under_their_bars(tmp_path: Path) -> None:
    sizes = []
    for at, lines in enumerate(("", *lines_of_docs()[1:])):
        entry = write_program(tmp_path, "baseline", lines)
        sizes.append(bundled(entry, tmp_path / str(at), *SMALL).stat().st_size)
        shutil.rmtree(tmp_path / str(at))
    plain, decoder, both = sizes
    assert decoder - plain <= DECODER and both - plain <= BOTH
