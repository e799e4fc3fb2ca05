"""Checkpoints as the field saves them: wrapped names, wrapped dictionaries, heads that are the table."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import io
import json
import lzma
import pickle
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.artifact.file import load
from squeeze.checkpoint.entries import fronts
from squeeze.checkpoint.into import load_into_module
from squeeze.checkpoint.live import stored_weights
from squeeze.checkpoint.names import model_names
from squeeze.checkpoint.read import load_checkpoint, load_model
from squeeze.checkpoint.torch_files import Numbers
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, SqueezeError, UnsupportedFormat
from squeeze.outside.pickles import Storage, TensorView
from squeeze.outside.torch_zip import TorchFile
from squeeze.outside.zip_archive import Entry
from squeeze.packing.calibrate import Calibration, content_key
from squeeze.train.model.gpt import GPT
from tests.squeeze.checkpoint.test_checkpoint import CONFIG, export, state

State = dict[str, torch.Tensor]
STATE = state()
TABLE, HEAD = "tok_emb.weight", "lm_head.weight"


def renamed(change: Callable[[str], str]) -> State:
    return {change(name): tensor for name, tensor in STATE.items()}


def inside(part: str) -> Callable[[str], str]:
    """Names with a wrapper around a block and around its attention."""
    return lambda name: name.replace("blocks.1.", f"blocks.1.{part}.").replace(
        "attn.", f"attn.{part}."
    )


WRAPPED = {
    "DDP over compile": (renamed(lambda n: f"module._orig_mod.{n}"), "_orig_mod., module."),
    "compile over DDP": (renamed(lambda n: f"_orig_mod.module.{n}"), "_orig_mod., module."),
    "DDP twice": (renamed(lambda n: f"module.module.{n}"), "module."),
    "DDP around parts": (renamed(inside("module")), "module."),
    "compiled parts": (renamed(inside("_orig_mod")), "_orig_mod."),
    "checkpointed parts": (
        renamed(inside("_checkpoint_wrapped_module")), "_checkpoint_wrapped_module.",
    ),
    "FSDP of a part in itself": (
        renamed(lambda n: "_fsdp_wrapped_module." + inside("_fsdp_wrapped_module")(n)),
        "_fsdp_wrapped_module.",
    ),
    "Fabric": (renamed(lambda n: f"_forward_module.module.{n}"), "_forward_module., module."),
    "averaged": (
        {"n_averaged": torch.tensor(7), **renamed(lambda n: f"module.{n}")}, "module.",
    ),
}  # fmt: skip


def written(path: Path, tensors: State) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def assert_read(path: Path, expected: State = STATE, entry: str | None = None) -> list[str]:
    """Check names and numbers; return the notes on how the file was read."""
    checkpoint = load_checkpoint(path, entry)
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert np.array_equal(checkpoint.tensors[name].dequantize(), tensor.float().numpy()), name
    return checkpoint.notes


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("case", WRAPPED)
def test_parts_that_wrappers_add_to_names_are_removed_and_said(
    tmp_path: Path, case: str, suffix: str
) -> None:
    tensors, said = WRAPPED[case]
    notes = assert_read(written(tmp_path / f"m.{suffix}", tensors))
    assert any(note.endswith(f"removed from names: {said}") for note in notes), notes


@pytest.mark.parametrize("part", ["module", "_orig_mod", "module._orig_mod"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_names_that_would_collide_without_their_wrapper_are_refused(
    tmp_path: Path, part: str, suffix: str
) -> None:
    path = written(tmp_path / f"m.{suffix}", STATE | {f"{part}.{TABLE}": STATE[TABLE] + 1})
    with pytest.raises(BadCheckpoint, match=rf"two tensors are called {TABLE}.*{part}\.{TABLE}"):
        load_checkpoint(path)


def test_a_part_called_module_that_has_neighbours_is_somebodys_name() -> None:
    names = ["a.module.x", "a.scale", "b.module", "c.module.module.x"]
    assert model_names(names, "m.pt") == {
        "a.module.x": "a.module.x", "a.scale": "a.scale", "b.module": "b.module",
        "c.module.module.x": "c.x",
    }  # fmt: skip


def test_names_in_an_int8_export_are_unwrapped_too(tmp_path: Path) -> None:
    (tmp_path / "plain.ptz").write_bytes(export(STATE))
    plain = load_checkpoint(tmp_path / "plain.ptz").tensors
    contents = torch.load(io.BytesIO(zlib.decompress(export(STATE))))
    for key, part in contents.items():
        if isinstance(part, dict):
            contents[key] = {f"module._orig_mod.{name}": value for name, value in part.items()}
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    (tmp_path / "m.ptz").write_bytes(zlib.compress(buffer.getvalue()))
    wrapped = load_checkpoint(tmp_path / "m.ptz").tensors
    assert wrapped.keys() == plain.keys()
    assert all(
        np.array_equal(wrapped[name].dequantize(), plain[name].dequantize()) for name in plain
    )


OTHERS = {
    "step": 3,
    "rng_state": torch.get_rng_state(),
    "optimizer": {
        "state": {0: {"exp_avg": STATE[TABLE], "step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    },
}


@pytest.mark.parametrize("key", [
    "ema", "ema_model", "module", "model", "params", "net", "state", "state_dict",
    "model_state_dict", "weights",
])  # fmt: skip
def test_one_set_of_weights_is_found_under_any_key_and_said(tmp_path: Path, key: str) -> None:
    torch.save({key: STATE, **OTHERS}, tmp_path / "m.pt")
    assert f"weights taken from the file's {key!r} entry" in assert_read(tmp_path / "m.pt")


def test_wrappers_in_wrappers_are_opened(tmp_path: Path) -> None:
    torch.save({"checkpoint": {"model": {"state_dict": STATE}}, **OTHERS}, tmp_path / "m.pt")
    notes = assert_read(tmp_path / "m.pt")
    assert "weights taken from the file's 'checkpoint.model.state_dict' entry" in notes


@pytest.mark.parametrize("front", ["model", "net", "gpt.inner"])
def test_what_a_lightning_module_calls_its_model_is_removed(tmp_path: Path, front: str) -> None:
    weights = renamed(lambda name: f"{front}.{name}")
    facts = {"epoch": 3, "global_step": 9, "optimizer_states": [OTHERS["optimizer"]]}
    torch.save({"state_dict": weights, **facts}, tmp_path / "m.pt")
    notes = assert_read(tmp_path / "m.pt")
    assert notes[:2] == ["weights taken from the file's 'state_dict' entry",
                         f"{front}. removed from names"]  # fmt: skip


def test_a_front_that_not_all_names_have_stays() -> None:
    assert fronts(["model.tok_emb.weight", "model.blocks.0.x", "tok_emb.weight"]) == ["model."]
    assert fronts(["tok_emb.weight", "blocks.0.x"]) == [""]


DOUBLED = {name: tensor * 2 for name, tensor in STATE.items()}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_several_sets_of_weights_are_listed_and_one_is_chosen(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    if suffix == "pt":
        torch.save({"model": STATE, "ema": {"module": DOUBLED}, **OTHERS}, path)
        listed = "model, ema.module"
    else:
        sets = renamed(lambda name: f"model.{name}")
        sets |= {f"ema.{name}": tensor for name, tensor in DOUBLED.items()}
        written(path, sets)
        listed = "ema, model"
    with pytest.raises(BadCheckpoint, match=rf"several sets.*found {listed}.*--entry"):
        load_checkpoint(path)
    assert_read(path, DOUBLED, "ema")
    assert_read(path, STATE, "model")
    with pytest.raises(BadCheckpoint, match=rf"no weights called 'best'.*{listed}"):
        load_checkpoint(path, "best")


def test_the_entry_is_an_option_of_the_command_line_and_part_of_the_calibrations_key(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model": STATE, "ema": DOUBLED}, path)
    done = CliRunner().invoke(cli, ["inspect", str(path)])
    assert done.exit_code and "holds several sets of weights" in str(done.exception)
    out = tmp_path / "m.sqz"
    options = ["--entry", "ema", "--like", "baseline", "--lossless", "-o", str(out), "--json"]
    done = CliRunner().invoke(cli, ["pack", str(path), *options])
    assert done.exit_code == 0, done.output
    assert np.array_equal(load(out).tensors[TABLE].dequantize(), DOUBLED[TABLE].numpy())
    keys = {
        content_key(load_model(path, entry, like="baseline"), Calibration())
        for entry in ("model", "ema")
    }
    assert len(keys) == 2


def test_an_artifact_has_no_entries(tmp_path: Path) -> None:
    written(tmp_path / "m.pt", STATE)
    out = str(tmp_path / "m.sqz")
    options = ["-o", out, "--lossless", "--assume"]
    CliRunner().invoke(cli, ["pack", str(tmp_path / "m.pt"), *options])
    with pytest.raises(BadCheckpoint, match="no weights called 'ema'"):
        load_checkpoint(out, "ema")


# --- heads ---


def tied_in_torch(path: Path) -> None:
    torch.save(STATE | {HEAD: STATE[TABLE]}, path)


def tied_by_value(path: Path) -> None:
    config = CONFIG.to_json().replace("}", ',"tie_embeddings":false}')
    save_file(STATE | {HEAD: STATE[TABLE].clone()}, path, {"squeeze.config": config})


def tied_codes(path: Path) -> None:
    contents = torch.load(io.BytesIO(zlib.decompress(export(STATE))))
    for part in ("quantized", "scales", "dtypes"):
        contents[part][HEAD] = contents[part][TABLE]
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    path.write_bytes(zlib.compress(buffer.getvalue()))


@pytest.mark.parametrize("write", [tied_in_torch, tied_by_value, tied_codes])
def test_a_head_that_is_the_table_is_tied_and_said(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "m")
    model = load_model(tmp_path / "m", like="baseline")
    assert model.config.tie_embeddings and HEAD not in model.tensors
    assert any(note.startswith(f"{HEAD} is {TABLE}") for note in model.notes)


def test_a_module_with_a_head_of_its_own_takes_the_table_of_a_tied_file(tmp_path: Path) -> None:
    tied_in_torch(tmp_path / "m.pt")
    untied = GPT(dataclasses.replace(CONFIG, tie_embeddings=False))
    load_into_module(untied, tmp_path / "m.pt")
    assert torch.equal(untied.state_dict()[HEAD], STATE[TABLE])


def test_a_head_that_differs_by_one_bit_is_not_tied(tmp_path: Path) -> None:
    head = STATE[TABLE].clone()
    head.view(torch.int32)[3, 3] ^= 1
    model = load_model(written(tmp_path / "m.pt", STATE | {HEAD: head}), like="baseline")
    assert not model.config.tie_embeddings and HEAD in model.tensors
    assert not any(HEAD in note for note in model.notes)


def test_the_odd_files_of_the_field_pack_like_the_plain_one(
    materials: Path, tmp_path: Path
) -> None:
    sizes = {}
    for name in ("nearinit_taleef7_0.1M", "odd_ddp_over_compile", "odd_tied_lm_head"):
        out = tmp_path / f"{name}.sqz"
        arguments = [materials / "checkpoints" / f"{name}.pt", "-o", out, "--like", "baseline"]
        done = CliRunner().invoke(cli, ["pack", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        sizes[name] = out.stat().st_size
    assert len(set(sizes.values())) == 1, sizes


# --- kinds of tensors ---


def test_tensors_that_view_their_storage_oddly_are_read_by_value(tmp_path: Path) -> None:
    odd = {
        name: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor
        for name, tensor in STATE.items()
    }
    odd["blocks.0.attn_scale"] = torch.ones(1).expand(16)
    odd["blocks.1.attn_scale"] = torch.arange(40.0)[8::2]
    odd["blocks.0.mlp_scale"] = torch.nn.Parameter(STATE["blocks.0.mlp_scale"])
    torch.save(collections.OrderedDict(odd), tmp_path / "m.pt")
    assert_read(tmp_path / "m.pt", {name: tensor.detach() for name, tensor in odd.items()})


ODD_TENSORS: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "fp64": (lambda: torch.ones(2, 2).double(), "DoubleStorage tensor"),
    "fp8": (lambda: torch.ones(2, 2).to(torch.float8_e4m3fn), "float8_e4m3fn tensor"),
    "integers": (lambda: torch.tensor([[1, 2], [3, 5]], dtype=torch.int32), "IntStorage tensor"),
    "complex": (lambda: torch.ones(2, 2, dtype=torch.complex64), "ComplexFloatStorage tensor"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "_rebuild_qtensor",
    ),
    "without numbers": (lambda: torch.ones(2, 2, device="meta"), "_rebuild_meta_tensor_no_storage"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_tensors_of_other_kinds_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, words = ODD_TENSORS[kind]
    torch.save(STATE | {"odd": make()}, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match=f"odd is not a supported tensor.*{words}"):
        load_checkpoint(tmp_path / "m.pt")


def test_empty_and_scalar_tensors_are_read(tmp_path: Path) -> None:
    odd = STATE | {"empty": torch.zeros(0, 4), "one": torch.tensor(1.5)}
    for suffix in ("pt", "safetensors"):
        assert_read(written(tmp_path / f"m.{suffix}", odd), odd)


def test_what_is_no_tensor_beside_the_weights_is_left_out_and_said(tmp_path: Path) -> None:
    torch.save(STATE | {"_extra_state": None, "step": 5}, tmp_path / "m.pt")
    assert assert_read(tmp_path / "m.pt") == ["left out, being no tensors: _extra_state, step"]


MADE: dict[str, torch.Tensor] = {
    "attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool).tril(),
    "local": torch.ones(2, 1, 8, 12).tril(2).triu(-1).byte(),
    "position_ids": torch.arange(16).expand(2, 16).contiguous(),
    "relative": torch.arange(8)[:, None] - torch.arange(8),
    "ids": torch.tensor([3, 1, 4, 1, 5], dtype=torch.int16),
    "batches": torch.tensor(5),
    "scale": torch.tensor(0.5, dtype=torch.float64),
    "nothing": torch.zeros(0, 4, dtype=torch.int64),
}  # by the model itself
CODES: dict[str, torch.Tensor] = {
    "int8": torch.arange(-32, 32, dtype=torch.int8).reshape(8, 8),
    "signs": torch.arange(64).reshape(8, 8) % 5 == 0,
    "another head": torch.stack([torch.ones(4, 4).tril(), torch.ones(4, 4)]).byte(),
    "a single column": torch.arange(64, dtype=torch.uint8)[:, None],
    "a column": torch.arange(8)[:, None].repeat(1, 8),
    "flat": torch.zeros(65_537, dtype=torch.uint8),
}


@pytest.mark.parametrize("kept_in", ["pt", "safetensors", "memory"])
def test_what_a_model_makes_itself_is_left_out_of_its_weights(tmp_path: Path, kept_in: str) -> None:
    weights = {"wide.weight": torch.randn(8, 12), "narrow.weight": torch.randn(12, 8)}
    said = "left out, being counters, masks or positions: attention.bias, local, position_ids"
    for made in MADE, *({name: tensor} for name, tensor in CODES.items()):
        state = weights | made
        refused = made is not MADE
        notes: list[str] = []
        with pytest.raises(BadCheckpoint, match="not a supported") if refused else nullcontext():
            if kept_in == "memory":
                kept = set(stored_weights(state, notes))
            else:
                checkpoint = load_checkpoint(written(tmp_path / f"m.{kept_in}", state))
                kept, notes = set(checkpoint.tensors), checkpoint.notes
            assert kept == state.keys() - MADE.keys()
            assert len([note for note in notes if note.startswith("left out, being counters")]) == 1
            if kept_in != "safetensors":  # whose file is sorted
                assert any(note.startswith(said) for note in notes)


OBJECTS: dict[str, tuple[Any, str]] = {
    "a class": ({"model": STATE, "args": argparse.Namespace(a=1)}, "argparse.Namespace"),
    "a whole module": (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    "an array": ({"model": STATE, "x": np.ones(3)}, "numpy"),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_objects_are_refused_by_name_and_not_made(tmp_path: Path, case: str) -> None:
    value, words = OBJECTS[case]
    torch.save(value, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match=f"nothing in it was executed.*{words}"):
        load_checkpoint(tmp_path / "m.pt")


# --- containers ---


@pytest.mark.parametrize("pack", [zlib.compress, lzma.compress])
def test_a_checkpoint_in_a_compressed_stream_is_read(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    written(tmp_path / "m.pt", STATE)
    (tmp_path / "m.ptz").write_bytes(pack((tmp_path / "m.pt").read_bytes()))
    assert_read(tmp_path / "m.ptz")


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


def index() -> bytes:
    shards = {f"x{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    return json.dumps({"metadata": {}, "weight_map": shards}).encode()


OTHER_FILES = {
    "arrays.npz": (npz, "an .npz of numpy arrays. Save them with safetensors"),
    "model.gguf": (lambda: b"GGUF" + bytes(99), "a GGUF file of llama.cpp. Convert it"),
    "model.onnx": (
        lambda: b"\x08\x08\x12\x07pytorch" + bytes(99),
        "an ONNX model. Pack the weights",
    ),
    "model.safetensors.index.json": (index, "an index of 2 shards. Merge them"),
    "bare.pkl": (lambda: pickle.dumps({"a": 1}), "a bare pickle. Load it where you trust it"),
    "groups.ptz": (lambda: b"PGRP" + bytes(9), "lrzip streams, which are not decoded"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_of_weights_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    make, words = OTHER_FILES[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(UnsupportedFormat, match=words):
        load_checkpoint(tmp_path / name)


def test_a_folder_is_refused_with_the_files_in_it(tmp_path: Path) -> None:
    written(tmp_path / "model.safetensors", STATE)
    with pytest.raises(SqueezeError, match=r"a folder of model\.safetensors\. Name one of its"):
        load_checkpoint(tmp_path)


def test_reading_a_checkpoint_loads_neither_torch_nor_numba(tmp_path: Path) -> None:
    import subprocess
    import sys

    paths = [written(tmp_path / f"m.{suffix}", STATE) for suffix in ("pt", "safetensors")]
    program = (
        "import sys; from squeeze.checkpoint.read import load_model\n"
        "for path in sys.argv[1:]: load_model(path, like='baseline').tensors\n"
        "print([name for name in ('torch', 'numba') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_numbers_of_a_shape_that_no_array_has_are_refused() -> None:
    view = TensorView(Storage("0", "FloatStorage", 0), 0, (0, 1 << 47, 1 << 47), (1, 1, 1))
    file = TorchFile({}, {}, Entry("a/data.pkl", 0, 0, 0, 0, 0), [])
    with pytest.raises(BadCheckpoint, match=r"m\.pt: w has an odd shape"):
        Numbers(memoryview(b""), file, "m.pt", 0).raw(view, "m.pt: w")
