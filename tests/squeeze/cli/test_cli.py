"""The command line as a whole: start-up, help pages, errors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from squeeze.cli import COMMANDS, cli
from squeeze.cli.terminal.next_step import NEXT, print_next
from squeeze.errors import BadData

ROOT = Path(__file__).parents[3]


def modules_after(*arguments: str) -> tuple[set[str], int]:
    """Top-level modules loaded by a command in a fresh process, and its exit code."""
    program = (
        "import sys\n"
        "from squeeze.cli import main\n"
        f"sys.argv = ['squeeze', *{list(arguments)!r}]\n"
        "code = 0\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code or 0\n"
        "print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split()), done.returncode


@pytest.mark.parametrize("arguments", [("--help",), ("budget", "GOLDEN"), ("budget", "--help")])
def test_light_commands_import_neither_torch_nor_numba(arguments: tuple[str, ...]) -> None:
    golden = str(ROOT / "tests" / "golden" / "v1-default.sqz")
    loaded, code = modules_after(*(golden if a == "GOLDEN" else a for a in arguments))
    assert code == 0
    assert not loaded & {"torch", "numba"}


def test_help_starts_within_the_budget() -> None:
    # processor time, which another program on the machine lengthens little
    seconds = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "squeeze", "--help"], check=True, capture_output=True)
        after = os.times()
        seconds.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    assert min(seconds) < 0.3


def every_command() -> list[str]:
    """Names of all commands, those of groups as `group command`."""
    names = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        names.append(name)
        if isinstance(command, click.Group):
            names += [f"{name} {inner}" for inner in command.list_commands(click.Context(command))]
    return names


@pytest.mark.parametrize("name", every_command())
def test_every_command_has_a_help_page_with_an_example_that_fits_a_screen(name: str) -> None:
    result = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert f"squeeze {name}" in result.output.split("Example:")[1]
    lines = result.output.splitlines()
    assert len(lines) <= 50
    options = lines[lines.index(next(line for line in lines if line in ("Input:", "Options:"))) :]
    assert all(len(line) <= 80 for line in options)


def test_the_list_of_commands_says_what_each_does_at_80_columns() -> None:
    for arguments in (["--help"], ["data", "--help"]):
        result = CliRunner().invoke(cli, arguments, terminal_width=80)
        assert result.exit_code == 0
        described = result.output.split("Commands:")[1].splitlines()[1:]
        assert described and not any(line.endswith("...") for line in described)


def test_usage_errors_exit_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "squeeze", "nothing"], capture_output=True, text=True
    )
    assert done.returncode == 2


def test_errors_are_one_line_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "m.sqz").write_bytes(b"junk")
    command = [sys.executable, "-m", "squeeze", "inspect", str(tmp_path / "m.sqz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("squeeze: m.sqz: not a checkpoint")
    assert len(done.stderr.splitlines()) == 1


def test_every_command_knows_what_comes_next_and_says_so_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = {name.split()[-1] for name in every_command()} - {"data"}
    assert set(NEXT) == names
    golden = str(ROOT / "tests" / "golden" / "v1-default.sqz")
    shown: list[str] = []
    monkeypatch.setattr("squeeze.cli.terminal.next_step.print_line", lambda t, err: shown.append(t))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    print_next("budget", {"paths": [golden], "html": None, "diff": False})
    assert shown == [f"next: squeeze budget {golden} --html report.html"]
    print_next("budget", {"paths": [golden], "html": None, "diff": False, "as_json": True})
    assert len(shown) == 1


def test_what_comes_next_is_a_command_that_squeeze_takes() -> None:
    options = {
        "out": Path("o"), "text": ("t",), "tokenizer": Path("t"), "model": "m.sqz", "artifact": "m.sqz",
        "models": ("m.sqz",), "paths": ("p",), "html": None, "diff": False, "data": ("v.bin",),
        "output": Path("p"), "encoded": None, "submission": "s", "check": None, "folder": "f",
        "squeezed": False, "script": "m.py:M", "shim": True, "like": "baseline", "seq_len": 64,
        "settings": ("a=1", "b=2"),
    }  # fmt: skip
    for name, command in NEXT.items():
        words = command(options)
        if words is not None:
            with contextlib.suppress(BadData):  # a pattern that nothing matches here
                first, *rest = map(str, words)
                found_command = cli.get_command(click.Context(cli), first)
                if isinstance(found_command, click.Group):
                    found_command, rest = found_command.commands[rest[0]], rest[1:]
                assert found_command is not None, name
                found_command.make_context(first, rest)


def test_what_comes_next_runs_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("squeeze.cli.terminal.next_step.print_line", lambda t, err: shown.append(t))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    given = {"out": Path("o.sqz"), "model": "m.pt", "tokenizer": None, "squeezed": False}
    model = {"script": "my model.py:M", "shim": True, "seq_len": 64, "settings": ("rope_dims=4",)}
    print_next("pack", given | model)
    print_next("calibrate", given | model)
    print_next("pack", given | {"squeezed": True})
    assert shown == [
        "next: squeeze eval o.sqz --model 'my model.py:M' --shim --tokenizer TOKENIZER --val SHARDS",
        "next: squeeze pack m.pt --model 'my model.py:M' --shim --seq-len 64 --set rope_dims=4"
        " --preset best",
        "next: squeeze budget o.sqz --depth 3",
    ]


def test_what_is_no_whole_number_is_said_in_words_of_the_reader() -> None:
    for limit in ("16MB", "16,00", "1.5", "9" * 5000):
        done = CliRunner().invoke(cli, ["budget", "m.sqz", "--limit", limit])
        assert done.exit_code == 2
        assert f"'{limit[:40]}' is not a whole number: digits, no unit" in done.output
    shown = CliRunner().invoke(cli, ["budget", "nothing.sqz", "--limit", "16,000"])
    assert "nothing.sqz" in str(shown.exception)


@pytest.mark.parametrize("arguments", ["config", "budget GOLDEN", "unpack GOLDEN -o OUT", "--help"])
def test_a_working_folder_that_is_gone_is_one_clear_error(arguments: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    golden = ROOT / "tests" / "golden" / "v1-default.sqz"
    words = arguments.replace("GOLDEN", str(golden)).replace("OUT", str(tmp_path / "o")).split()
    program = f"import os, squeeze.cli as c\nos.rmdir({str(gone)!r})\nc.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("squeeze: the working folder: No such file")
    assert len(done.stderr.splitlines()) == 1
