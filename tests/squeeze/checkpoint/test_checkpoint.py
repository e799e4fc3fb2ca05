"""Reading checkpoints: ours, the field's, and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.checkpoint.complete import Completed, Completion, complete
from squeeze.checkpoint.inspect import compare_settings
from squeeze.checkpoint.read import load_checkpoint, load_model
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, CorruptData, SqueezeError, UnsupportedFormat
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.config import ModelConfig

CONFIG = ModelConfig(64, 2, 16, 2, 1, 32, mlp_power=3, seq_len=32)


def state(config: ModelConfig = CONFIG) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in config.parameter_shapes().items()}


def export(tensors: dict[str, torch.Tensor], **changes: Any) -> bytes:
    """A small int8_clean_per_row_v1 export, as the challenge baseline writes it."""
    quantized, scales = {}, {}
    for name in ("tok_emb.weight", "blocks.0.mlp.fc.weight"):
        scales[name] = (tensors[name].abs().amax(1) / 127).to(torch.float16)
        quantized[name] = (tensors[name] / scales[name].float()[:, None]).round().to(torch.int8)
    rest = {k: v.half() if v.ndim == 2 else v for k, v in tensors.items() if k not in quantized}
    contents = {
        "__quant_format__": "int8_clean_per_row_v1",
        "quantized": quantized,
        "scales": scales,
        "dtypes": dict.fromkeys(quantized, "bfloat16"),
        "passthrough": rest,
        "passthrough_orig_dtypes": {k: "float32" for k, v in rest.items() if v.ndim == 2},
    } | changes
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return zlib.compress(buffer.getvalue())


def test_torch_checkpoint_reads_with_compile_and_ddp_prefixes(tmp_path: Path) -> None:
    tensors = state()
    prefixed = {f"module._orig_mod.{k}".replace("module.", "", 1): v for k, v in tensors.items()}
    torch.save({"model": prefixed, "step": 3}, tmp_path / "m.pt")
    loaded = load_checkpoint(tmp_path / "m.pt")
    assert loaded.tensors.keys() == tensors.keys()
    name = "blocks.1.mlp.proj.weight"
    assert np.array_equal(loaded.tensors[name].dequantize(), tensors[name].numpy())
    assert any("'model'" in note for note in loaded.notes)


def test_safetensors_whose_first_byte_is_that_of_zlib_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for padding in range(0, 256, 8):  # header sizes are multiples of 8, little-endian
        save_file(state(), path, {"squeeze.config": CONFIG.to_json(), "x": "." * padding})
        if path.read_bytes()[0] == 0x78:
            break
    assert path.read_bytes()[0] == 0x78
    assert load_model(path).config == CONFIG


def test_safetensors_carries_its_configuration(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "m.safetensors", {"squeeze.config": CONFIG.to_json()})
    model = load_model(tmp_path / "m.safetensors")
    assert model.config == CONFIG
    assert model.notes == []


def test_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    tensors = {k: v.bfloat16() for k, v in state().items()}
    save_file(tensors, tmp_path / "m.safetensors")
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    for name, tensor in tensors.items():
        assert np.array_equal(loaded.tensors[name].dequantize(), tensor.float().numpy())


def test_export_dequantizes_as_the_challenge_does(tmp_path: Path) -> None:
    tensors = state()
    (tmp_path / "m.ptz").write_bytes(export(tensors))
    loaded = load_checkpoint(tmp_path / "m.ptz")
    name = "tok_emb.weight"
    scale = (tensors[name].abs().amax(1) / 127).to(torch.float16)
    codes = (tensors[name] / scale.float()[:, None]).round().to(torch.int8)
    expected = (codes.float() * scale.float()[:, None]).to(torch.bfloat16).float()
    assert np.array_equal(loaded.tensors[name].dequantize(), expected.numpy())
    passed = "blocks.1.mlp.fc.weight"
    assert np.array_equal(
        loaded.tensors[passed].dequantize(), tensors[passed].half().float().numpy()
    )


def test_scalar_scale_covers_every_row(tmp_path: Path) -> None:
    tensors = state()
    name = "tok_emb.weight"
    codes = torch.ones(64, 16, dtype=torch.int8)
    changes = {
        "quantized": {name: codes},
        "scales": {name: torch.tensor(0.5)},
        "dtypes": {name: "float32"},
        "passthrough": {k: v for k, v in tensors.items() if k != name},
    }
    (tmp_path / "m.ptz").write_bytes(export(tensors, **changes))
    assert (load_checkpoint(tmp_path / "m.ptz").tensors[name].dequantize() == 0.5).all()


class Hostile:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("wrap", ["pt", "ptz"])
def test_hostile_pickle_executes_nothing(tmp_path: Path, wrap: str) -> None:
    trap = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save({"tok_emb.weight": Hostile(trap)}, buffer)
    data = buffer.getvalue()
    (tmp_path / "m.pt").write_bytes(zlib.compress(data) if wrap == "ptz" else data)
    with pytest.raises(BadCheckpoint, match="nothing in it was executed"):
        load_checkpoint(tmp_path / "m.pt")
    assert not trap.exists()
    torch.load(io.BytesIO(data), weights_only=False)  # the trap itself works
    assert trap.exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    tensors = state()
    tensors["blocks.1.attn.proj.weight"][3, 3] = bad
    torch.save(tensors, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match=r"blocks\.1\.attn\.proj\.weight has NaN or infinite"):
        load_checkpoint(tmp_path / "m.pt")


def test_non_finite_scale_is_refused_by_name(tmp_path: Path) -> None:
    tensors = state()
    tensors["tok_emb.weight"][:] = float("inf")
    (tmp_path / "m.ptz").write_bytes(export(tensors))
    with pytest.raises(BadCheckpoint, match=r"tok_emb\.weight has NaN"):
        load_checkpoint(tmp_path / "m.ptz")


def test_a_giant_shape_over_a_tiny_storage_is_refused(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {"tok_emb.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}
    torch.save(tensors, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match="too large"):
        load_checkpoint(tmp_path / "m.pt")


def test_zlib_bomb_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "m.ptz").write_bytes(zlib.compress(bytes(65 << 20)))
    with pytest.raises(CorruptData, match="inflates too far"):
        load_checkpoint(tmp_path / "m.ptz")


def test_zip_bomb_is_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(65 << 20))
    with pytest.raises(CorruptData, match="inflates too far"):
        load_checkpoint(tmp_path / "m.pt")


def test_many_views_of_a_small_storage_are_bounded_together(tmp_path: Path) -> None:
    row = torch.ones(1)
    torch.save({f"{i}": row.expand(1 << 20) for i in range(17)}, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match="too large for such a file"):
        load_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("odd", [torch.eye(3).to_sparse(), torch.ones(2, device="meta")])
def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    torch.save({"a": odd}, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint):
        load_checkpoint(tmp_path / "m.pt")


BAD_EXPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"__quant_format__": "int4_v9"}, "unknown quantization format"),
    "not-a-dict": ({"quantized": 3}, "entry quantized"),
    "missing-scale": ({"scales": {}}, "bad scale"),
    "scale-count": ({"scales": {"tok_emb.weight": torch.ones(3)}}, "wrong number of scales"),
    "codes-dtype": ({"quantized": {"tok_emb.weight": torch.ones(2, 2)}}, "bad codes"),
    "no-dtype": ({"dtypes": {}}, "unknown original dtype"),
    "passthrough": ({"passthrough": {"x": torch.ones(2, dtype=torch.int64)}}, "not a supported"),
}


@pytest.mark.parametrize("case", BAD_EXPORTS)
def test_malformed_export_names_what_is_wrong(tmp_path: Path, case: str) -> None:
    changes, text = BAD_EXPORTS[case]
    (tmp_path / "m.ptz").write_bytes(export(state(), **changes))
    with pytest.raises(SqueezeError, match=text):
        load_checkpoint(tmp_path / "m.ptz")


def test_truncated_checkpoints_raise(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "m.safetensors")
    torch.save(state(), tmp_path / "m.pt")
    (tmp_path / "m.ptz").write_bytes(export(state()))
    for name in ("m.safetensors", "m.pt", "m.ptz"):
        data = (tmp_path / name).read_bytes()
        for keep in range(0, len(data), max(1, len(data) // 40)):
            (tmp_path / "cut").write_bytes(data[:keep])
            with pytest.raises(SqueezeError):
                load_checkpoint(tmp_path / "cut")


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps({"a": 1})])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(data)
    with pytest.raises(UnsupportedFormat, match="not a checkpoint"):
        load_checkpoint(tmp_path / "m.pt")


def test_integer_tensor_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"ids": torch.arange(9).reshape(3, 3)}, tmp_path / "m.safetensors")
    with pytest.raises(BadCheckpoint, match="tensor ids"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    for tensors, found in (({}, "no tensors"), ({"ids": torch.ones(3).long()}, "positions: ids")):
        save_file(tensors, tmp_path / "m.safetensors")
        with pytest.raises(BadCheckpoint, match=f"holds no weights.*{found}"):
            load_checkpoint(tmp_path / "m.safetensors")


def test_missing_file_and_folder_are_clear(tmp_path: Path) -> None:
    with pytest.raises(SqueezeError, match="nothing there"):
        load_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(SqueezeError, match="a folder"):
        load_checkpoint(tmp_path)


# --- inference ---


def completed(shapes: Mapping[str, tuple[int, ...]], **statements: Any) -> Completed:
    """Return zeros of these shapes with the configuration that the statements leave them."""
    zeros = {name: RawTensor(np.zeros(shape, np.uint32), "fp32") for name, shape in shapes.items()}
    return complete(zeros, None, Completion.of(statements))


def test_a_layout_completes_what_shapes_do_not_say() -> None:
    done = completed(CONFIG.parameter_shapes(), like="baseline", mlp_power=3, seq_len=32)
    assert (done.config, done.notes, done.assumed) == (CONFIG, [], {})


def test_what_changes_the_forward_is_never_guessed_in_silence() -> None:
    shapes = CONFIG.parameter_shapes()
    with pytest.raises(BadCheckpoint, match=r"does not say mlp_slope, rope_dims.*--assume"):
        completed(shapes, mlp_power=3, seq_len=32)
    done = completed(shapes, mlp_power=3, seq_len=32, assume=True)
    assert done.config == CONFIG
    assert "mlp_power" not in done.assumed and done.assumed["rope_base"] == 10_000.0
    assert len(done.notes) == 1 and "mlp_slope=0, rope_dims=0" in done.notes[0]


def test_a_guess_that_changes_no_logit_is_only_told() -> None:
    done = completed(CONFIG.parameter_shapes(), like="baseline", seq_len=None)
    assert done.assumed == {} and done.config.seq_len == 1024


def test_untied_head_and_flags_are_respected() -> None:
    wanted = ModelConfig(64, 4, 32, 4, 2, 48, tie_embeddings=False, rope_base=5e4, logit_softcap=15)
    given = {"like": "baseline", "rope_base": 5e4, "logit_softcap": 15.0}
    assert completed(wanted.parameter_shapes(), **given).config == wanted


def test_repeated_blocks_are_noticed_from_skip_weights() -> None:
    looped = ModelConfig(64, 3, 16, 2, 1, 32, layer_schedule=(0, 1, 2, 0, 1, 2))
    shapes = looped.parameter_shapes()
    with pytest.raises(BadCheckpoint, match="layer_schedule"):
        completed(shapes)
    done = completed(shapes, assume=True)
    assert done.config.layer_schedule == done.assumed["layer_schedule"] == looped.layer_schedule
    given = completed(shapes, layer_schedule=(0, 0, 1, 1, 2, 2), assume=True)
    assert given.config.layer_schedule == (0, 0, 1, 1, 2, 2)
    with pytest.raises(BadCheckpoint, match="skip_weights has another shape"):
        completed(shapes, like="baseline")


BAD_SHAPES: dict[str, tuple[dict[str, tuple[int, ...] | None], str]] = {
    "no embedding": ({"tok_emb.weight": None}, "tok_emb.weight"),
    "missing matrix": ({"blocks.1.mlp.fc.weight": None}, "blocks.1.mlp.fc.weight is missing"),
    "wrong shape": ({"blocks.1.mlp.fc.weight": (5, 5)}, "has another shape"),
    "extra tensor": ({"bigram.weight": (5, 5)}, "not part of this architecture"),
    "hole in blocks": ({"blocks.5.attn_scale": (16,)}, "not numbered"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_tensors_that_are_no_baseline_are_named(case: str) -> None:
    changes, text = BAD_SHAPES[case]
    shapes: dict[str, tuple[int, ...] | None] = {**CONFIG.parameter_shapes(), **changes}
    kept = {name: shape for name, shape in shapes.items() if shape is not None}
    with pytest.raises(SqueezeError, match=text):
        completed(kept, like="baseline")


@pytest.mark.parametrize(
    ("file", "params", "format"),
    [
        ("nolanvild_0.48M_fp32.pt", 476_812, "torch"),
        ("nolanvild_0.48M.int8.ptz", 476_812, "int8_clean_per_row_v1"),
        ("samtruss_7.6M_65176d11.int8.ptz", 7_630_520, "int8_clean_per_row_v1"),
        ("nearinit_taleef7_0.1M.pt", 107_080, "torch"),
        ("reference_8.7M_fp32.safetensors", 8_664_624, "safetensors"),
    ],
)
def test_real_checkpoints_are_inferred(
    materials: Path, file: str, params: int, format: str
) -> None:
    with pytest.raises(BadCheckpoint, match="--like"):
        load_model(materials / "checkpoints" / file)
    model = load_model(materials / "checkpoints" / file, like="baseline")
    assert (model.config.num_params, model.source) == (params, format)


def test_two_files_that_do_not_say_all_are_compared_with_what_was_assumed(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save(state(), tmp_path / name)
    difference = compare_settings([tmp_path / "a.pt", tmp_path / "b.pt"])
    assert difference.differ == {} and [a["mlp_power"] for a in difference.assumed] == [2, 2]
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "a.pt"), str(tmp_path / "b.pt")])
    assert done.stderr.count("assumed, as no file says it: mlp_power=2") == 2
