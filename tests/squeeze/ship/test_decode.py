"""The decoder that scripts ship reads what `squeeze pack` writes, and all that it may choose."""

import numpy as np
import pytest
import torch
from torch import nn

from squeeze import codecs
from squeeze.artifact.file import CANDIDATES, encode, save
from squeeze.artifact.parts import PARTS, TIED, parts_field
from squeeze.artifact.streams import Artifact
from squeeze.artifact.unpack import torch_tensors
from squeeze.errors import CorruptData, UnsupportedFormat
from squeeze.ship import decode
from squeeze.tensors.floats import to_bits
from squeeze.tensors.matrices import Slice
from squeeze.tensors.quantized import QuantizedTensor, RawTensor


def artifact_of(seed: int, states: int = 0, logical: str = "fp32") -> Artifact:
    random = np.random.default_rng(seed)
    weight = QuantizedTensor(
        codes=random.integers(-20, 21, (6, 8)).astype(np.int8),
        steps=random.integers(1, 1 << 14, 6).astype(np.uint16),
        shape=(6, 8),
        quantizer="trellis" if states else "uniform",
        step_format="fp16",
        logical=logical,
        states=states,
        columns=random.integers(-9, 10, 8).astype(np.int8) if states else None,
    )
    bias = RawTensor(random.normal(size=6).astype(np.float32).view(np.uint32), "fp32", "fp32")
    half = RawTensor(
        to_bits(random.normal(size=(2, 3)).astype(np.float32), "bf16"), "bf16", logical
    )
    scalar = RawTensor(np.float32(3).view(np.uint32).reshape(()), "fp32", logical)
    empty = RawTensor(np.zeros(0, np.uint32), "fp32", "fp32")
    tensors = {"weight": weight, "bias": bias, "half": half, "scalar": scalar, "empty": empty}
    return Artifact({}, tensors)


def test_every_codec_that_pack_chooses_from_is_shipped():
    chosen = {codecs.get(name).wire_id for names in CANDIDATES.values() for name in names}
    assert set(decode.DECODERS) == chosen


@pytest.mark.parametrize("logical", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("states", [0, 8])
@pytest.mark.parametrize("which", [0, 1])
def test_the_shipped_decoder_gives_the_tensors_of_the_other(tmp_path, which, states, logical):
    artifact = artifact_of(3, states, logical)
    candidates = {kind: names[which : which + 1] for kind, names in CANDIDATES.items()}
    save(artifact, tmp_path / "m.sqz", candidates=candidates)
    state, expected = decode.load(tmp_path / "m.sqz"), torch_tensors(artifact.tensors)
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor)


def test_tensors_in_parts_and_under_two_names_come_whole(tmp_path):
    tensors = {f"bank[{i}]": artifact_of(i).tensors["weight"] for i in (0, 1)}
    parts = [Slice("bank", 48 * i, ((6, 8),), ((8, 1),)) for i in (0, 1)]
    header = {PARTS: {"bank": parts_field((2, 6, 8), parts)}, TIED: {"other": "bank"}}
    save(Artifact(header, tensors), tmp_path / "m.sqz")
    state = decode.load(tmp_path / "m.sqz")
    whole = torch.stack([torch.tensor(tensors[f"bank[{i}]"].dequantize()) for i in (0, 1)])
    assert state.keys() == {"bank", "other"}
    assert all(torch.equal(weight, whole) for weight in state.values())


def test_a_module_takes_the_tensors(tmp_path):
    artifact = artifact_of(5)
    for name in ("half", "scalar", "empty"):
        artifact.tensors.pop(name)
    save(artifact, tmp_path / "m.sqz")
    module = nn.Linear(8, 6)
    decode.load_into(module, tmp_path / "m.sqz")
    assert torch.equal(module.bias, torch_tensors(artifact.tensors)["bias"])


def test_a_codec_that_is_not_shipped_is_named(tmp_path):
    data = encode(artifact_of(7), candidates=["zlib", "raw"])
    (tmp_path / "m.sqz").write_bytes(data)
    with pytest.raises(UnsupportedFormat, match="not shipped"):
        decode.load(tmp_path / "m.sqz")


def test_a_damaged_file_is_refused(tmp_path):
    data = bytearray(encode(artifact_of(7)))
    data[-1] ^= 1
    (tmp_path / "m.sqz").write_bytes(data)
    with pytest.raises(CorruptData, match="damaged"):
        decode.load(tmp_path / "m.sqz")
