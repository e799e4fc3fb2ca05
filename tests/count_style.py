"""Counts what makes code hard to read, over the product's four folders; `python -m tests.count_style`.

Each count has a ceiling that tests/test_style.py holds. They were 95, 19, 143, 274, 162 and 161 when
counting began (2026-11-28). With `--list NAME`, prints the places of one count.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("squeeze", "codecs", "calib", "train")
RIDDLES = re.compile(r"(What|Whether|How)\b")


@dataclass(frozen=True)
class Place:
    """One occurrence: the file below the root, its line, and what stands there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


CEILINGS = {
    "functions of more than 5 parameters": 40,
    "functions of more than 10 parameters": 4,
    "fmt: skip": 20,
    "indented imports": 120,
    "docstrings that open with What, Whether or How": 10,
    "found as a bare name": 10,
}


def count() -> dict[str, list[Place]]:
    """Return the places of every count, by its name."""
    counts: dict[str, list[Place]] = {name: [] for name in CEILINGS}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            file = path.relative_to(ROOT).as_posix()
            for name, line, text in _places(source):
                counts[name].append(Place(file, line, text))
    return counts


def _places(source: str) -> Iterator[tuple[str, int, str]]:
    """Yield (count, line, text) for everything that is counted in one file."""
    for number, line in enumerate(source.splitlines(), start=1):
        if "# fmt: skip" in line:
            yield "fmt: skip", number, line.strip()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = _parameters(node)
            if parameters > 5:
                yield "functions of more than 5 parameters", node.lineno, node.name
            if parameters > 10:
                yield "functions of more than 10 parameters", node.lineno, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node) or ""
            if RIDDLES.match(text):
                first = text.splitlines()[0]
                line = getattr(node, "lineno", 1)
                yield "docstrings that open with What, Whether or How", line, first
        if isinstance(node, ast.Name) and node.id == "found" and isinstance(node.ctx, ast.Store):
            yield "found as a bare name", node.lineno, "found"
        if isinstance(node, ast.arg) and node.arg == "found":
            yield "found as a bare name", node.lineno, "found (a parameter)"
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset:
            yield "indented imports", node.lineno, ast.unparse(node)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of parameters, without self and cls."""
    a = function.args
    names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    names += [p.arg for p in (a.vararg, a.kwarg) if p is not None]
    return len([name for name in names if name not in ("self", "cls")])


def main() -> None:
    """Print every count with its ceiling, or the places of one."""
    counts = count()
    if sys.argv[1:2] == ["--list"]:
        for place in counts[" ".join(sys.argv[2:])]:
            print(place)
        return
    for name, places in counts.items():
        print(f"{len(places):4} of {CEILINGS[name]:3}  {name}")


if __name__ == "__main__":
    main()
