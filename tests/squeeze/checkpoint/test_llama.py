"""Files of llama2.c: read under the challenge's names, packed without a model, never taken for ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import squeeze
from squeeze.checkpoint.read import load_checkpoint
from squeeze.cli import cli
from squeeze.outside import llama_bin
from squeeze.subject.source import ModelSource
from tests.squeeze.outside.exports import llama


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_version_holds_the_same_tensors(version: int, tmp_path: Path) -> None:
    path, data = tmp_path / "stories.bin", llama(version)
    path.write_bytes(data)
    tensors = load_checkpoint(path).tensors
    shape = llama_bin.shape_in(memoryview(data))
    kv = shape.dim // shape.heads * shape.kv_heads
    assert tensors["blocks.0.attn.c_k.weight"].shape == (kv, shape.dim)
    assert tensors["blocks.0.mlp.proj.weight"].shape == (shape.dim, shape.hidden)
    assert tensors["tok_emb.weight"].shape == (shape.vocab, shape.dim)
    assert not any(name.startswith("rope.") for name in tensors)


def test_groups_of_codes_are_times_their_scales(tmp_path: Path) -> None:
    path, data, random = tmp_path / "stories.bin", bytearray(llama(2)), np.random.default_rng(0)
    plain = llama_bin.read(memoryview(bytes(data)), "stories.bin")
    codes, steps = [p for p in plain.pieces if p.tensor == "blocks.0.attn.proj.weight"]
    data[codes.start : codes.start + codes.size] = random.bytes(codes.size)
    scales = random.random(steps.elements).astype("<f4")
    data[steps.start : steps.start + steps.size] = scales.tobytes()
    path.write_bytes(data)
    octets = data[codes.start : codes.start + codes.size]
    expected = np.frombuffer(octets, np.int8).reshape(len(scales), -1) * scales[:, None]
    weight = load_checkpoint(path).tensors["blocks.0.attn.proj.weight"].dequantize()
    assert np.array_equal(weight.ravel(), expected.ravel().astype(np.float32))


def test_it_packs_without_a_model_and_is_not_taken_for_ours(tmp_path: Path) -> None:
    path, out = tmp_path / "stories.bin", tmp_path / "m.sqz"
    path.write_bytes(llama(1))
    done = CliRunner().invoke(cli, ["pack", str(path), "--lossless", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert squeeze.load(out).keys() == load_checkpoint(path).tensors.keys()
    with pytest.raises(squeeze.SqueezeError, match="gate"):
        ModelSource(path).open()
    assert CliRunner().invoke(cli, ["inspect", str(path)]).exit_code == 0
