"""The commands of docs/tutorial.md, run one after the other in an empty folder.

    python tests/docs/tutorial.py      # run them as they stand and put what they print into the page

A block ```sh is run by bash; the block ```text after it holds what it printed on stdout.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

# what a test changes so that a minute is enough; everything else is run as it stands
QUICK = {
    "--budget-seconds 60": "--budget-seconds 60 --steps 4",
    "--tokens 16384": "--tokens 512",
    "--tokens 2048": "--tokens 256",
    "--documents 10": "--documents 1",
    "python_docs_text()": "python_docs_text()[:60]",
}


@dataclass(frozen=True)
class Step:
    """A block of commands and what the page says that they print."""

    commands: str
    printed: str


def steps(page: str) -> list[Step]:
    """The blocks of a page, in order."""
    return [Step(match[1], match[2] or "") for match in BLOCK.finditer(page)]


def quick(commands: str) -> str:
    """Commands with less to do; each replacement is made once, of what stands in the page."""
    pattern = re.compile("|".join(map(re.escape, QUICK)))
    return pattern.sub(lambda match: QUICK[match[0]], commands)


def run(commands: str, folder: Path) -> str:
    """Stdout of commands, squeeze and python being those of this interpreter. Raises on any failure."""
    binaries = os.path.dirname(sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{commands}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:

        def with_output(match: re.Match[str]) -> str:
            print(match[1], file=sys.stderr)
            printed = run(match[1], Path(folder))
            block = f"\n```text\n{printed}```\n" if match[2] is not None else ""
            return f"```sh\n{match[1]}```\n{block}"

        PAGE.write_text(BLOCK.sub(with_output, page), encoding="utf-8")


if __name__ == "__main__":
    main()
