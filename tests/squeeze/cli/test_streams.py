"""Standard streams that lack characters, are closed, full, or have nobody who reads them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.squeeze.cli.test_cli import ROOT, every_command

SQUEEZE = [sys.executable, "-m", "squeeze"]
COMMAND_LINES = {
    "inspect": ["inspect", "{in}/m.sqz"],
    "budget": ["budget", "{in}/m.sqz"],
    "budget --json": ["budget", "{in}/m.sqz", "--json"],
    "budget --diff": ["budget", "--diff", "{in}/m.sqz", "{in}/old.sqz"],
    "unpack": ["unpack", "{in}/m.sqz", "-o", "{out}/m.safetensors"],
    "bundle": ["bundle", "{in}/entry.py", "-o", "{out}/small.py"],
    "stats": ["stats", "{in}/a.json", "{in}/b.json"],
    "a wrong option": ["pack", "--limit", "≤"],
    "a missing file": ["budget", "{in}/…"],
    "help": ["--help"],
    "help of a command": ["pack", "--help"],
}

EXIT_CODES = {"a wrong option": 2, "a missing file": 1}  # of the others: 0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.squeeze.whole.test_paths import artifact

    folder = tmp_path_factory.mktemp("inputs")
    for name in ("m.sqz", "old.sqz"):
        (folder / name).write_bytes(artifact())
    (folder / "entry.py").write_text("print('hello')\n")
    report = {"bpb": 1.2, "nats_per_token": 2.0, "config": {}, "mode": "window", "options": {},
              "tokens": 9, "bytes": 9, "official": None, "device_name": "x",
              "sha256": {"model": "m", "tokenizer": "t", "data": {"a": "d"}, "code": "c"},
              "versions": {"torch": "2"}}  # fmt: skip
    for name in ("a", "b"):
        sums = {**report["sha256"], "model": name}  # type: ignore[dict-item]
        facts = report | {"sha256": sums, "nats_per_token": 2.0 + (name == "b")}
        (folder / f"{name}.json").write_text(json.dumps(facts))
    return folder


def filled(arguments: Sequence[str], inputs: Path, out: Path) -> list[str]:
    return [text.replace("{in}", str(inputs)).replace("{out}", str(out)) for text in arguments]


def squeeze(
    arguments: Sequence[str], redirections: str = "", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command through a shell, with its streams redirected."""
    script = f'exec "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *SQUEEZE, *arguments],
        env=os.environ | variables,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("name", "encoding"),
    [*((name, "ascii") for name in COMMAND_LINES), ("budget --diff", "latin-1")],
)
def test_characters_that_a_terminal_lacks_are_replaced(
    name: str, encoding: str, inputs: Path, tmp_path: Path
) -> None:
    done = squeeze(filled(COMMAND_LINES[name], inputs, tmp_path), PYTHONIOENCODING=encoding)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode == EXIT_CODES.get(name, 0)
    text = (done.stdout + done.stderr).decode(encoding)
    assert text and not set(text) & set("Ãâ")  # no UTF-8 past the terminal's encoding


def test_arrows_and_bounds_become_their_look_alikes(inputs: Path) -> None:
    pair = [str(inputs / name) for name in ("m.sqz", "old.sqz")]
    done = squeeze(["budget", "--diff", *pair], PYTHONIOENCODING="ascii")
    assert b" -> " in done.stdout
    done = squeeze(["budget", "…", "--fail-over", "1"], PYTHONIOENCODING="ascii")
    assert b"squeeze: ...: " in done.stderr


def test_help_pages_are_ascii_where_the_terminal_is() -> None:
    program = (
        "import sys\n"
        "from squeeze.cli import cli\n"
        "from squeeze.cli.terminal.streams import prepare_streams\n"
        "prepare_streams()\n"
        "for name in sys.argv[1:]:\n"
        "    cli.main([*name.split(), '--help'], standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *every_command()],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode("ascii").count("Usage: ") == len(every_command())


@pytest.mark.parametrize(
    ("name", "redirection", "reason"),
    [
        *((name, ">/dev/full", "No space left on device") for name in COMMAND_LINES),
        ("budget", ">&-", "it is closed"),
        ("help", ">&-", "it is closed"),
    ],
)
def test_standard_output_that_takes_nothing_is_one_line(
    name: str, redirection: str, reason: str, inputs: Path, tmp_path: Path
) -> None:
    done = squeeze(filled(COMMAND_LINES[name], inputs, tmp_path), redirection)
    if name in EXIT_CODES:  # nothing is printed there
        assert done.returncode == EXIT_CODES[name] and b"standard output" not in done.stderr
        return
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == f"squeeze: standard output: {reason}"
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_a_reader_that_goes_ends_a_command_like_other_tools(inputs: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*SQUEEZE, "budget", inputs / "m.sqz"], stdout=write, stderr=-1)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_standard_error_that_takes_nothing_changes_nothing(
    redirection: str, inputs: Path, tmp_path: Path
) -> None:
    arguments = ["unpack", str(inputs / "m.sqz"), "-o", str(tmp_path / "m.safetensors")]
    done = squeeze(arguments, redirection)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    assert squeeze(["budget", "nothing"], redirection).returncode == 1


def test_no_file_gets_the_descriptor_of_a_stream_that_was_closed(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from squeeze.cli.terminal.streams import prepare_streams\n"
        "prepare_streams()\n"
        "print(os.open(sys.executable, os.O_RDONLY) > 2, file=open(sys.argv[1], 'w'))\n"
    )
    told = tmp_path / "told"
    script = 'exec "$@" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", script, "sh", sys.executable, "-c", program, told], check=True)
    assert told.read_text() == "True\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("RecursionError", "nested too deeply"),
        ("MemoryError", "not enough memory"),
        ("RuntimeError('DefaultCPUAllocator: cannot allocate memory')", "not enough memory"),
        ("RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')", "memory on the GPU"),
    ],
)
def test_what_no_reader_foresaw_is_one_line(error: str, told: str) -> None:
    program = (
        "import sys, squeeze.cli as face\n"
        f"def fails(*a, **k): raise {error}\n"
        "face.cli.main = fails\n"
        "face.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and told in done.stderr


@pytest.mark.parametrize(("error", "code"), [("SqueezeError('told')", 1), ("KeyError('told')", 1)])
def test_a_rank_that_fails_ends_without_taking_leave(error: str, code: int) -> None:
    program = (
        "import atexit, torch.distributed as group, squeeze.cli as face\n"
        "from squeeze.errors import SqueezeError\n"
        f"def fails(*a, **k): print('begun'); raise {error}\n"
        "face.cli.main, group.is_initialized = fails, lambda: True\n"
        "atexit.register(print, 'waiting for the other ranks')\n"
        "face.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "begun\n") and "told" in done.stderr


def test_a_notice_is_a_note() -> None:
    program = (
        "import warnings, squeeze.cli as face\n"
        "from squeeze.errors import Notice\n"
        "face.cli.main = lambda **k: warnings.warn('a\\nb', Notice)\n"
        "face.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "note: a\\nb\n")


def test_commands_print_through_one_module() -> None:
    for path in (ROOT / "squeeze" / "cli").rglob("*.py"):
        text = path.read_text()
        assert "click.echo" not in text and "rich.console" not in text, path
        assert path.name == "printing.py" or not re.search(r"(?<![\w.])print\(", text), path
