"""Three counts of one submission: what ships, the rule as it is worded, what recent entries counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from squeeze.bundle.emit.virtual import virtual
from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.files import files_of
from squeeze.ledger.submission import CODE, MODELS, is_submission, shipped_bytes
from squeeze.ledger.table import Ledger
from squeeze.outside import script
from squeeze.outside.source import MAX_TOKENS, Source

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class Total:
    """One count in bytes, None where it cannot be had. counted: what it counts, in words."""

    bytes: int | None
    counted: str

    def verdict(self, limit: int) -> str:
        """Return where it stands against the limit, in words."""
        if self.bytes is None:
            return "unknown"
        left = limit - self.bytes
        return f"{left:,} under the limit" if left >= 0 else f"OVER by {-left:,}"

    def as_json(self, limit: int) -> dict[str, Any]:
        """Return plain values; `fits` is None where the count is unknown."""
        fits = None if self.bytes is None else self.bytes <= limit
        return {"bytes": self.bytes, "counted": self.counted, "fits": fits}


@dataclass(frozen=True)
class Totals:
    """shipped: every file but papers, which is what the limit is held against. rule: train_gpt.py and
    model. virtual: model, and a minified base85 wrapper that is no file.

    papers: bytes by name of what lies in the folder and does not count. difference: in one sentence.
    has_model: False when there is none, so that the counts say nothing of the limit
    """

    shipped: Total
    rule: Total
    virtual: Total
    papers: Mapping[str, int]
    difference: str
    has_model: bool = True

    @property
    def shipped_bytes(self) -> int:
        """The binding count, which is always known."""
        return self.shipped.bytes or 0

    def as_json(self, limit: int) -> dict[str, Any]:
        """Return a plain dictionary for `--json` and the page."""
        return {
            **{
                name: total.as_json(limit) | ({} if self.has_model else {"fits": None})
                for name, total in self.named().items()
            },
            "papers": dict(self.papers),
            "difference": self.difference,
        }

    def named(self) -> dict[str, Total]:
        """Return the three by name, the binding one first."""
        return {"shipped": self.shipped, "rule": self.rule, "virtual": self.virtual}


def totals(paths: Paths) -> Totals:
    """Return the three counts of a submission: a folder, or its files.

    Nothing is run: a self-extracting train_gpt.py is unpacked as data. Raises SqueezeError when there is
    not exactly one train_gpt.py with files beside it.
    """
    every = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return totals_of(attribute_paths(every), every)


def totals_of(ledger: Ledger, paths: Iterable[str | os.PathLike[str]]) -> Totals:
    """Return the same from the ledger of the paths. Takes a second for a script to be minified."""
    if not is_submission(ledger):
        raise SqueezeError(
            "not one submission", expected=f"one {CODE} and a model", found=", ".join(ledger.files)
        )
    (code,) = [name for name in ledger.files if PurePath(name).name == CODE]
    papers = ledger.papers
    ships = {name: size for name, size in ledger.files.items() if name not in papers}
    model = {
        name: size
        for name, size in ships.items()
        if name != code and (name in ledger.models or PurePath(name).suffix in MODELS)
    }
    rule = ships[code] + sum(model.values())
    named = " + ".join([CODE, *(PurePath(name).name for name in model)])
    size, how = _virtual(read_file(dict(files_of(paths))[code]))
    return Totals(
        shipped=Total(
            shipped_bytes(ledger),
            f"{len(ships)} files on disk" + (", without papers" if papers else ""),
        ),
        rule=Total(rule, named),
        virtual=Total(None if size is None else size + sum(model.values()), how),
        papers=papers,
        difference=_difference(ships, model, code, size),
        has_model=ledger.has_model,
    )


def _virtual(data: bytes) -> tuple[int | None, str]:
    """(bytes of the wrapper, how it is made) of a script that may extract itself."""
    try:
        source = Source(data)
        packed = script.read(source, CODE)
        if packed is not None and packed.code is None:
            return None, f"not known: {packed.unread}"
        if not (source if packed is None else Source(packed.code or b"")).short:
            return None, f"not known: {CODE} has more than {MAX_TOKENS:,} tokens"
        wrapper = virtual(data) if packed is None else virtual(packed.code or b"", minified=True)
    except SqueezeError as error:
        return None, f"not known: {error}"
    return len(wrapper.data), f"no file: {wrapper.made}; model"


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
