"""Torch files from before 1.6: what they hold, and every way to damage them."""

from __future__ import annotations

import io
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from squeeze.checkpoint.read import load_checkpoint
from squeeze.checkpoint.state import load_state
from squeeze.errors import SqueezeError
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside.torch_old import MAGIC
from tests.fuzz.make_corpus import old_torch_file

WIDE = torch.randn(48, 32)
STATE = {
    "table": WIDE,
    "row": WIDE[3],  # parts of one storage
    "turned": WIDE.T,
    "half": torch.randn(5, 3).half(),
    "brain": torch.nn.Parameter(torch.randn(4).bfloat16()),
    "batches": torch.tensor(7),
    "none": torch.zeros(0, 3),
}


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [saved, old_torch_file])
def test_an_old_file_is_read_like_a_new_one(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    old.write_bytes(write({"model": STATE, "step": 5}))
    torch.save({"model": STATE, "step": 5}, new)
    first, second = load_checkpoint(old), load_checkpoint(new)
    assert first.notes == second.notes and first.format == second.format == "torch"
    assert "batches" in first.notes[1] and len(first.notes) == 2
    tensors = load_state(old, "torch")
    assert tensors.keys() == STATE.keys() - {"batches"}
    for name, tensor in tensors.items():
        assert tensor.dtype == STATE[name].dtype and torch.equal(tensor, STATE[name])


def test_every_byte_of_an_old_file_is_attributed(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(saved({"a.weight": torch.randn(64, 32), "b.bias": torch.randn(32)}))
    ledger = attribute_paths([path])
    assert ledger.total == path.stat().st_size and ledger.unattributed == 0
    sizes = {row.tensor: row.bytes for row in ledger.rows if row.component == "weights"}
    assert sizes == {"a.weight": 4 * 64 * 32, "b.bias": 4 * 32}


def test_an_old_file_inside_zlib(tmp_path: Path) -> None:
    path = tmp_path / "old.ptz"
    path.write_bytes(zlib.compress(saved({"a.weight": WIDE})))
    assert torch.equal(load_state(path, "torch")["a.weight"], WIDE)
    assert attribute_paths([path]).total == path.stat().st_size


def test_objects_in_an_old_file_are_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(saved({"model": STATE, "args": re.compile("a")}))
    with pytest.raises(SqueezeError, match=r"nothing in it was executed.*re\._compile"):
        load_checkpoint(path)


GOOD = old_torch_file({"a": torch.arange(6.0).reshape(2, 3)})
KEYS = pickle.dumps(["0"], 2)
VERSION, FACTS = pickle.dumps(1001, 2), b"little_endian"
DAMAGED: dict[str, tuple[bytes, str]] = {
    "cut in its numbers": (GOOD[:-1], "is cut off"),
    "cut before its numbers": (GOOD[: GOOD.index(KEYS) + len(KEYS)], "is cut off"),
    "cut in a pickle": (GOOD[: GOOD.index(KEYS) - 2], "damaged pickle"),
    "cut after the magic number": (MAGIC, "damaged pickle"),
    "another version": (GOOD.replace(VERSION, pickle.dumps(1002, 2)), "of a known kind"),
    "of a big-endian machine": (GOOD.replace(FACTS + b"q\x02\x88", FACTS + b"q\x02\x89"), "known kind"),
    "no facts": (GOOD.replace(b"little", b"little"[::-1]), "of a known kind"),
    "keys that are a number": (GOOD.replace(KEYS, pickle.dumps(3, 2)), "odd keys"),
    "keys that are numbers": (GOOD.replace(KEYS, pickle.dumps([0], 2)), "odd keys"),
    "a key that no tensor has": (GOOD.replace(KEYS, pickle.dumps(["7"], 2)), "of no tensor"),
    "a key too many": (GOOD.replace(KEYS, pickle.dumps(["0", "7"], 2)), "of no tensor"),
    "a key twice": (GOOD.replace(KEYS, pickle.dumps(["0", "0"], 2)) + GOOD[-32:], "of one key"),
    "no keys": (GOOD.replace(KEYS, pickle.dumps([], 2)), "storages are missing"),
    "another number of elements": (GOOD[:-32] + b"\x07" + GOOD[-31:], "expected 6, found 7"),
    "a kind that does not exist": (GOOD.replace(b"FloatStorage", b"SoundStorage"), "unknown kind"),
    "a tensor past its storage": (GOOD.replace(b"K\x02K\x03\x86", b"K\x03K\x03\x86"), "over the end"),
    "a part of another storage": (
        GOOD.replace(b"K\x06t", b"K\x06X\x01\x00\x00\x000K\x01K\x02\x87t"), "is no storage",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_old_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    data, words = DAMAGED[kind]
    assert data != GOOD
    path = tmp_path / "old.pt"
    path.write_bytes(data)
    with pytest.raises(SqueezeError, match=words):
        load_checkpoint(path)


def test_numbers_behind_the_last_storage_are_nobody_s(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(GOOD + bytes(99))
    ledger = attribute_paths([path])
    assert ledger.total == len(GOOD) + 99 and ledger.unattributed == 0


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(32, 48)


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("old", [True, False])
def test_a_whole_module_is_named_and_its_bytes_are_attributed(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "net.pt"
    torch.save({"model": Net()}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(SqueezeError, match=r"objects other than tensors.*Net"):
        load_checkpoint(path)
    ledger = attribute_paths([path])
    assert ledger.total == path.stat().st_size and ledger.unattributed == 0
    assert {row.tensor: row.bytes for row in ledger.rows if row.component == "weights"} == {
        "_modules.wide._parameters.weight": 4 * 32 * 48,
        "_modules.wide._parameters.bias": 4 * 48,
    }
