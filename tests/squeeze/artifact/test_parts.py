"""Tensors in parts and under two names: put together as they were, or refused."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np
import pytest

from squeeze.artifact.facts import assumed_of, tokenizer_of
from squeeze.artifact.file import decode, encode
from squeeze.artifact.parts import PARTS, TIED, name_of_part, parts_field, whole_tensors
from squeeze.artifact.streams import Artifact
from squeeze.errors import CorruptData
from squeeze.tensors.floats import to_bits
from squeeze.tensors.matrices import Slice
from squeeze.tensors.quantized import RawTensor

SHAPE = (2, 4, 6)
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 7, 1 << 31, 1 << 70, 0.5, "", "bank", "bank[0]", "other", [], [[]], {},
    [1, 2], {"bank": "bank"},
)  # fmt: skip


def artifact() -> Artifact:
    """Return a bank of two transposed matrices, and a name tied to it."""
    values = np.arange(48, dtype=np.float32).reshape(SHAPE)
    slices = [Slice("bank", 24 * i, ((6, 1),), ((4, 6),)) for i in range(2)]
    tensors = {
        name_of_part("bank", i): RawTensor(to_bits(part.matrix_of(values), "fp32"), "fp32")
        for i, part in enumerate(slices)
    }
    tensors["bias"] = RawTensor(to_bits(np.ones(3, np.float32), "fp32"), "fp32")
    header = {PARTS: {"bank": parts_field(SHAPE, slices)}, TIED: {"other": "bank"}}
    return Artifact(json.loads(json.dumps(header)), tensors)


def test_parts_become_the_tensor_that_they_were_cut_from() -> None:
    whole = whole_tensors(decode(encode(artifact())))
    assert whole.keys() == {"bank", "other", "bias"}
    assert np.array_equal(whole["bank"].dequantize().ravel(), np.arange(48))
    assert whole["other"] is whole["bank"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside a JSON value, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    paths = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in inside:
            paths += leaves(inner, (*path, key)) if isinstance(inner, dict | list) else []
            paths.append((*path, key))
    return paths


def damaged(header: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a header with some values replaced, dropped or repeated."""
    chance, header = random.Random(seed), copy.deepcopy(header)
    for _ in range(chance.randint(1, 3)):
        if not header:
            break
        *above, key = chance.choice(leaves(header))
        place: Any = header
        try:
            for step in above:
                place = place[step]
            match chance.randrange(3):
                case 0:
                    place[key] = copy.deepcopy(chance.choice(JUNK))
                case 1:
                    del place[key]
                case _:
                    again = chance.choice(["bias", "new"]) if isinstance(place, dict) else 0
                    place[again] = copy.deepcopy(place[key])
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    return header


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_a_damaged_header_is_refused_or_gives_whole_tensors(first: int) -> None:
    original, refused = artifact(), 0
    for seed in range(first, first + 500):
        header = damaged(original.config, seed)
        try:
            whole = whole_tensors(Artifact(header, dict(original.tensors)))
        except CorruptData as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        for tensor in whole.values():
            assert np.isfinite(tensor.dequantize()).all()
        if "bank" in whole:
            assert sorted(whole["bank"].dequantize().ravel()) == list(range(48))
    assert refused > 250


@pytest.mark.parametrize("value", [*JUNK, "ab" * 31, "AB" * 32, "gg" * 32])
def test_a_damaged_fact_counts_as_none(value: Any) -> None:
    assert tokenizer_of({"tokenizer": value}) is None
    assert assumed_of({"assumed": value}) == (value if isinstance(value, dict) else {})
