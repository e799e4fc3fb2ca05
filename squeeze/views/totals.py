"""Three counts of one submission: what ships, the rule as it is worded, what recent entries counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.files import files_of
from squeeze.ledger.papers import is_paper
from squeeze.ledger.table import Ledger

CODE = "train_gpt.py"
MODELS = {".sqz", ".ptz", ".pt", ".pth", ".safetensors", ".bin", ".xz", ".lzma", ".br", ".zst"}
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class Total:
    """One count in bytes, None where it cannot be had. counted: what it counts, in words."""

    bytes: int | None
    counted: str

    def verdict(self, limit: int) -> str:
        """Where it stands against the limit."""
        if self.bytes is None:
            return "unknown"
        left = limit - self.bytes
        return f"{left:,} under the limit" if left >= 0 else f"OVER by {-left:,}"

    def as_json(self, limit: int) -> dict[str, Any]:
        """Plain values; `fits` is None where the count is unknown."""
        fits = None if self.bytes is None else self.bytes <= limit
        return {"bytes": self.bytes, "counted": self.counted, "fits": fits}


@dataclass(frozen=True)
class Totals:
    """shipped: every file but papers, which is what the limit is held against. rule: train_gpt.py and
    model. virtual: model, and a minified base85 wrapper that is no file.

    papers: bytes by name of what lies in the folder and does not count. difference: in one sentence.
    """

    shipped: Total
    rule: Total
    virtual: Total
    papers: Mapping[str, int]
    difference: str

    @property
    def shipped_bytes(self) -> int:
        """The binding count, which is always known."""
        return self.shipped.bytes or 0

    def as_json(self, limit: int) -> dict[str, Any]:
        """A plain dictionary for `--json` and the page."""
        return {
            **{name: total.as_json(limit) for name, total in self.named().items()},
            "papers": dict(self.papers),
            "difference": self.difference,
        }

    def named(self) -> dict[str, Total]:
        """The three by name, the binding one first."""
        return {"shipped": self.shipped, "rule": self.rule, "virtual": self.virtual}


def totals(paths: Paths) -> Totals:
    """The three counts of a submission: a folder, or its files.

    Nothing is run: a self-extracting train_gpt.py is unpacked as data. Raises SqueezeError when there is
    not exactly one train_gpt.py with files beside it.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return totals_of(attribute_paths(given), given)


def is_submission(result: Ledger) -> bool:
    """Whether the three counts apply: one train_gpt.py and something beside it."""
    return len(result.files) > 1 and sum(PurePath(f).name == CODE for f in result.files) == 1


def totals_of(result: Ledger, paths: Iterable[str | os.PathLike[str]]) -> Totals:
    """The same from the ledger of the paths."""
    if not is_submission(result):
        raise SqueezeError(
            "not one submission", expected=f"one {CODE} and a model", found=", ".join(result.files)
        )
    (code,) = [name for name in result.files if PurePath(name).name == CODE]
    papers = {name: size for name, size in result.files.items() if is_paper(name)}
    ships = {name: size for name, size in result.files.items() if name not in papers}
    weights = {row.file for row in result.rows if row.component == "weights"}
    model = {
        name: size for name, size in ships.items()
        if name != code and (name in weights or PurePath(name).suffix in MODELS)
    }  # fmt: skip
    shipped, rule = sum(ships.values()), ships[code] + sum(model.values())
    named = " + ".join([CODE, *(PurePath(name).name for name in model)])
    size, made = _virtual(read_file(dict(files_of(paths))[code]))
    return Totals(
        Total(shipped, f"{len(ships)} files on disk" + (", without papers" if papers else "")),
        Total(rule, named),
        Total(None if size is None else size + sum(model.values()), made),
        papers,
        _difference(ships, model, code, size),
    )


def _virtual(data: bytes) -> tuple[int | None, str]:
    """(bytes of the wrapper, how it is made) of a script that may extract itself."""
    from squeeze.bundle.emit.virtual import virtual
    from squeeze.outside import script  # loads numpy

    try:
        found = script.read(memoryview(data), CODE) if script.looks(memoryview(data)) else None
        if found is not None and found.code is None:
            return None, f"not known: {found.unread}"
        made = virtual(data) if found is None else virtual(found.code or b"", minified=True)
    except SqueezeError as error:
        return None, f"not known: {error}"
    return len(made.data), f"no file: {made.made}; model"


def _difference(
    ships: Mapping[str, int], model: Mapping[str, int], code: str, size: int | None
) -> str:
    others = {name: size for name, size in ships.items() if name != code and name not in model}
    names = ", ".join(PurePath(name).name for name in list(others)[:4])
    names += ", …" if len(others) > 4 else ""
    said = (
        f"rule leaves out {sum(others.values()):,} bytes that ship ({names})"
        if others
        else "rule counts what ships"
    )
    if size is None:
        return said
    less = ships[code] - size
    word = f"{abs(less):,} {'fewer' if less >= 0 else 'more'} than the file that runs"
    counts = f"counts a wrapper of {size:,} bytes for {CODE}, {word}"
    return f"{said}; virtual, never held against the limit, {counts}"
