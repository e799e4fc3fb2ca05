"""Tensors under the names of the model itself: without wrappers' parts, one front, a tied head once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.entries import TABLE, TOP, fronts, no_choice
from squeeze.errors import BadCheckpoint
from squeeze.files import sha256
from squeeze.outside.naming import PARALLEL, unwrapped
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

HEAD = "lm_head.weight"
Named = dict[str, Tensor]


def without_wrappers(tensors: Named, notes: list[str], what: str) -> Named:
    """Return the tensors under the names they have in the module that was wrapped.

    Raises BadCheckpoint when two tensors would have one name.
    """
    names = model_names(list(tensors), what)
    parts = {
        part for old, new in names.items() for part in set(old.split(".")) - set(new.split("."))
    }
    if parts:
        listed = ", ".join(f"{part}." for part in sorted(parts))
        notes.append(f"wrappers' parts removed from names: {listed}")
    return {names[name]: tensor for name, tensor in tensors.items()}


def model_names(names: Sequence[str], what: str) -> dict[str, str]:
    """Return the name without wrappers' parts for each name. Raises BadCheckpoint when two are equal.

    `module` inside a name is DataParallel's where its parent has nothing else.

    >>> model_names(["_orig_mod.blocks.0.module.scale", "_orig_mod.head"], "m.pt")
    {'_orig_mod.blocks.0.module.scale': 'blocks.0.scale', '_orig_mod.head': 'head'}
    """
    clean = {name: unwrapped(name).split(".") for name in names}
    children: dict[tuple[str, ...], set[str]] = {}
    for parts in clean.values():
        for depth, part in enumerate(parts):
            children.setdefault(tuple(parts[:depth]), set()).add(part)
    result: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, parts in clean.items():
        kept = [
            part
            for depth, part in enumerate(parts)
            if part != PARALLEL
            or depth == len(parts) - 1
            or children[tuple(parts[:depth])] != {PARALLEL}
        ]
        result[name] = ".".join(kept)
        if owners.setdefault(result[name], name) != name:
            raise BadCheckpoint(
                f"{what}: two tensors are called {result[name][:80]} once prefixes are removed",
                found=f"{owners[result[name]][:80]} and {name[:80]}",
            )
    return result


def with_one_front(
    tensors: Named, entry: str | None, notes: list[str], what: str
) -> tuple[Named, str]:
    """Return the tensors of one model, without what stands before all their names; and that front.

    A Lightning module keeps its model under `model.`, say, and an averaged one beside it under `ema.`.
    entry: names one of several. Raises BadCheckpoint, which lists them.
    """
    candidates = fronts(list(tensors))
    named = [front for front in candidates if (front.rstrip(".") or TOP) == entry]
    if entry is not None and not named:
        raise no_choice([f.rstrip(".") or TOP for f in candidates], entry, what, False)
    if len(candidates) > 1 and not named:
        raise no_choice([f.rstrip(".") or TOP for f in candidates], entry, what, True)
    front = (named or candidates or [""])[0]
    inside = [name for name in tensors if name.startswith(front)]
    if not front or (len(inside) < len(tensors) and not named):
        return tensors, ""
    notes.append(f"{front} removed from names")
    if len(inside) < len(tensors):
        others = [name for name in tensors if not name.startswith(front)]
        notes.append(f"left out, not under {front}: {', '.join(others[:4])}")
    return {name.removeprefix(front): tensors[name] for name in inside}, front.rstrip(".")


def with_tied_head(tensors: Named, notes: list[str]) -> Named:
    """Return the tensors without a head that is the embedding table, bit by bit."""
    if HEAD not in tensors or not same_bits(tensors[HEAD], tensors.get(TABLE)):
        return tensors
    notes.append(f"{HEAD} is {TABLE}, bit by bit: read as tied, stored once")
    return {name: tensor for name, tensor in tensors.items() if name != HEAD}


def repeated_tensors(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the tensors that are an earlier one bit by bit, each with that one's name."""
    first: dict[str, str] = {}
    repeated: dict[str, str] = {}
    for name, tensor in tensors.items():
        values = np.ascontiguousarray(
            tensor.bits if isinstance(tensor, RawTensor) else tensor.codes
        )
        if values.ndim < 2:
            continue
        key = sha256(repr(values.shape).encode() + values.tobytes())
        other = first.setdefault(key, name)
        if other != name and same_bits(tensor, tensors[other]):
            repeated[name] = other
    return repeated


def same_bits(one: Tensor, other: Tensor | None) -> bool:
    """Return whether two tensors hold the same numbers in the same formats.

    >>> ones = RawTensor(np.ones(2, np.uint32), "fp32")
    >>> same_bits(ones, RawTensor(np.ones(2, np.uint32), "fp32")), same_bits(ones, None)
    (True, False)
    """
    if isinstance(one, RawTensor) and isinstance(other, RawTensor):
        formats = (one.stored, one.logical) == (other.stored, other.logical)
        return formats and np.array_equal(one.bits, other.bits)
    if not (isinstance(one, QuantizedTensor) and isinstance(other, QuantizedTensor)):
        return False
    mine, others = (
        (t.shape, t.quantizer, t.step_format, t.logical, t.states, t.columns is None)
        for t in (one, other)
    )
    return (
        mine == others
        and np.array_equal(one.codes, other.codes)
        and np.array_equal(one.steps, other.steps)
        and (
            one.columns is None
            or other.columns is None
            or np.array_equal(one.columns, other.columns)
        )
    )
