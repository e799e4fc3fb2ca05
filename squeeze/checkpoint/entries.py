"""Sets of weights in a file's object: trainers wrap them in dictionaries, and some save several.

A set of weights is a dictionary from names to tensors. One is found wherever it is; several are listed,
and the user names one. The state of an optimizer is none: its dictionaries have `param_groups` or
numbers for keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadCheckpoint
from squeeze.outside.pickles import MAX_DEPTH, Call, TensorView

QUANTIZED = "__quant_format__"  # a key of the baseline's int8 export
TOP = "."  # the entry of weights that no dictionary wraps
TABLE, BLOCKS = "tok_emb.weight", "blocks."  # a model of the challenge has both


@dataclass(frozen=True)
class WeightSet:
    """A set of weights. entry: the keys that lead to it, joined by dots; TOP when there are none."""

    entry: str
    values: Mapping[Any, Any]

    def matches(self, entry: str | None) -> bool:
        """Return whether `entry` names this set: by all of its keys, or by one of them."""
        return entry in (self.entry, *self.entry.split("."))


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor, also one of a kind that cannot be read."""
    return isinstance(value, TensorView) or (
        isinstance(value, Call) and value.name.startswith("torch._utils _rebuild_")
    )


def weight_sets(root: Any) -> list[WeightSet]:
    """Return the sets of weights in a torch file's object; those with matrices if any has one."""
    sets = list(_dictionaries_of_tensors(root))
    return [weights for weights in sets if _has_matrix(weights.values)] or sets


def _has_matrix(values: Mapping[Any, Any]) -> bool:
    return QUANTIZED in values or any(
        len(value.shape) > 1 if isinstance(value, TensorView) else is_tensor(value)
        for value in values.values()
    )


def _dictionaries_of_tensors(root: Any) -> Iterator[WeightSet]:
    visited: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, dict) or id(value) in visited or len(path) > MAX_DEPTH:
            continue
        visited.add(id(value))
        if "param_groups" in value or any(isinstance(key, int) for key in value):
            continue
        if QUANTIZED in value or any(map(is_tensor, value.values())):
            yield WeightSet(".".join(path) or TOP, value)
        if QUANTIZED not in value:
            inner = [key for key in value if isinstance(key, str) and isinstance(value[key], dict)]
            waiting += [((*path, key), value[key]) for key in reversed(inner)]


def chosen(sets: Sequence[WeightSet], entry: str | None, what: str) -> WeightSet:
    """Return the only set, or the one that `entry` names. Raises BadCheckpoint, which lists them."""
    if not sets:
        raise BadCheckpoint(f"{what}: no state dict", expected="a dictionary of tensors by name")
    if len(sets) == 1:
        return sets[0]
    matching = [weights for weights in sets if entry is None or weights.matches(entry)]
    matching = [weights for weights in matching if weights.entry == entry] or matching
    if len(matching) == 1:
        return matching[0]
    raise no_choice([weights.entry for weights in matching or sets], entry, what, bool(matching))


def no_choice(entries: Sequence[str], entry: str | None, what: str, several: bool) -> BadCheckpoint:
    """Return the error that lists the entries of a file when not just one of them is meant."""
    listed = ", ".join(name[:60] for name in entries[:8])
    if len(entries) > 8:
        listed += f" and {len(entries) - 8} more"
    if several:
        fault, expected = "holds several sets of weights", "a choice"
    else:
        fault, expected = f"has no weights called {entry!r:.60}", "one of its entries"
    return BadCheckpoint(
        f"{what} {fault}", expected=expected, found=listed, fix="Name one with --entry."
    )


def fronts(names: Sequence[str]) -> list[str]:
    """Return the prefix of the names of each model of the challenge, "" for none.

    >>> fronts(["model.tok_emb.weight", "model.blocks.0.attn_scale", "loss.weight"])
    ['model.']
    """
    starts = {name.removesuffix(TABLE) for name in names if name.endswith(TABLE)}
    return sorted(
        start
        for start in starts
        if (not start or start.endswith("."))
        and any(name.startswith(start + BLOCKS) for name in names)
    )
