"""Code blocks of README and docs/, and the commands in them, run as a stranger would at a terminal.

Blocks ```sh are commands; in blocks ```console, commands stand behind `$ ` and above what they print.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from commands import FENCED, INDENTED, PAGES, ROOT
from tutorial import QUICK

# what a test changes so that seconds are enough; everything else is run as it stands
SHORTER = QUICK | {
    "--preset best": "--preset best --tokens 512",
    "--bytes 300000": "--bytes 300",
    "--bytes 30000": "--bytes 300",
    "--documents 20": "--documents 1",
    "squeeze audit": "squeeze audit --tokens 64",
    "data fetch sp1024 -o data": "data fetch sp1024 -o data --from mirror --train-shards 1",
    "--preset baseline": "--preset baseline --set num_layers=2 --set model_dim=64 --set mlp_hidden=64"
    " --set batch_tokens=2048 --set seq_len=128 --steps 2",
    "--seq-len 1024": "--seq-len 64",
    "--nproc-per-node 8": "--nproc-per-node 2",
    "train …": "train --data fineweb_train_000000.bin --tokenizer sp1024.model --preset tiny --steps 2"
    " --set batch_tokens=2048 --set seq_len=128 -o model.safetensors",
    "submit model.sqz …": "submit model.sqz -o three/ --name Nine --author 'A. Name' --github-id aname"
    " --tokenizer sp1024.model --val val.bin",
}
SECONDS = 1.0  # until something is printed
LONGEST = 900  # seconds of one command
OWN = re.compile(r"^squeeze ")  # torchrun loads torch before it starts anything
COMMAND = re.compile(r"(\$ |squeeze |torchrun |python |pip |make )")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FROWN = re.compile(r"^.*(?:\w*Warning: .*|Traceback \(most recent.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block. page: below the root. kind: its language, or none. number: of its kind, from 1."""

    page: str
    kind: str
    number: int
    text: str

    @property
    def name(self) -> str:
        """The block as the tables of tests/docs/rooms.py name it."""
        return f"{self.page} {self.kind} {self.number}"


def blocks() -> list[Block]:
    """Return every fenced block of README and docs/, in order; those of a page are numbered by kind."""
    found_blocks: list[Block] = []
    for path in PAGES:
        counts: dict[str, int] = {}
        for kind, text in FENCED.findall(path.read_text(encoding="utf-8")):
            counts[kind] = counts.get(kind, 0) + 1
            page = path.relative_to(ROOT).as_posix()
            found_blocks.append(Block(page, kind, counts[kind], text))
    return found_blocks


def hidden_commands() -> Iterator[str]:
    """Yield lines that look like commands in blocks that nobody runs: of no language, or indented."""
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        texts = [text for kind, text in FENCED.findall(page) if kind in ("", "text")]
        texts += [match[0] for match in INDENTED.finditer(FENCED.sub("", page))]
        for line in "".join(texts).splitlines():
            if COMMAND.match(line.strip()):
                yield f"{path.name}: {line.strip()}"


@dataclass(frozen=True)
class Shown:
    """A command of a block, and the lines that the page shows below it (console blocks alone)."""

    command: str
    output: str = ""


def commands_in(block: Block) -> list[Shown]:
    """Return the commands of a block, continued lines and here-documents with their first line."""
    lines, commands = block.text.splitlines(), list[Shown]()
    while lines:
        line = lines.pop(0)
        while line.endswith("\\"):
            line += "\n" + lines.pop(0)
        if match := re.search(r"<<'(\w+)'", line):
            end = lines.index(match[1]) + 1
            line, lines = "\n".join([line, *lines[:end]]), lines[end:]
        if block.kind == "console" and not line.startswith("$ "):
            last = commands.pop()
            commands.append(Shown(last.command, f"{last.output}{line}\n"))
        elif line.strip() and not line.startswith("#"):
            commands.append(Shown(line.removeprefix("$ ")))
    return commands


def shorter(command: str) -> str:
    """Return a command with less to do; each replacement is made once, of what stands in the page."""
    pattern = re.compile("|".join(map(re.escape, SHORTER)))
    return pattern.sub(lambda match: SHORTER[match[0]], command)


@dataclass(frozen=True)
class Ran:
    """A command that ended: exit code, what the terminal showed, seconds until the first of it."""

    command: str
    code: int
    printed: str
    first: float

    @property
    def frowns(self) -> list[str]:
        """Warnings and tracebacks among what it printed."""
        return FROWN.findall(self.printed)


def run(command: str, folder: Path, *, until_output: bool = False) -> Ran:
    """Run a command by bash under a terminal, squeeze and python being those of this interpreter.

    until_output: kill it once something is shown
    """
    binaries = os.path.dirname(sys.executable)
    variables = {"PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "120", "TERM": "xterm"}
    ours, theirs = pty.openpty()
    began, first, printed = time.perf_counter(), 0.0, b""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        alarm = threading.Timer(LONGEST, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        while chunk := _read(ours):
            printed += chunk
            if not first and CONTROL.sub("", printed.decode(errors="replace")).strip():
                first = time.perf_counter() - began
                if until_output:
                    os.killpg(process.pid, signal.SIGKILL)
        alarm.cancel()
    os.close(ours)
    text = CONTROL.sub("", printed.decode(errors="replace")).replace("\r\n", "\n")
    return Ran(command, process.returncode, text, first or time.perf_counter() - began)


def _read(terminal: int) -> bytes:
    """Return what the terminal got; nothing once every process has left it."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def quiet_first(command: str, folder: Path) -> float:
    """Return seconds until a command shows something: median of three, each in a copy of the folder."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as copy:
            room = shutil.copytree(folder, Path(copy) / "room", symlinks=True)
            seconds.append(run(command, room, until_output=True).first)
    return statistics.median(seconds)
