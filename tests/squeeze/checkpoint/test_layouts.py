"""Checkpoints under the names of the field's scripts: renamed, unbanked, completed or refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor

from squeeze.artifact.file import load
from squeeze.checkpoint.known import LAYOUTS, fields_like, layout_of_script
from squeeze.checkpoint.live import open_model
from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.checkpoint.settings import settings_of
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, BadConfig, SqueezeError
from squeeze.tensors.quantized import QuantizedTensor
from squeeze.tensors.slices import entry_of, first_rows
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.presets import PRESETS
from tests.squeeze.checkpoint.field_names import State, in_field_names
from tests.tiny_models import ids_of, lively, narrow

TABLE = Path(__file__).parents[3] / "docs" / "layouts.md"
ROW = re.compile(r"\| `(\w+)` \| (?:`([\w-]+)`|none) \| (?:`([^`]*)`|refused: (.*)) \|")
LOOPED = {"num_loops": 2, "loop_start": 3, "loop_end": 5, "num_layers": 11}


def read(state: State, **statements: Any) -> LoadedModel:
    return open_model(state, statements)


# --- the table of docs/layouts.md ---


def rows() -> list[tuple[str, str, str, str]]:
    return [match.groups() for match in ROW.finditer(TABLE.read_text("utf-8"))]


def test_the_table_has_a_row_for_every_known_layout() -> None:
    assert len(rows()) == 13
    assert {layout for _, layout, _, _ in rows() if layout} == set(LAYOUTS)


@pytest.mark.parametrize(("name", "layout", "needs", "refused"), rows())
def test_every_row_of_the_table_scores_as_its_script_or_is_refused(
    materials: Path, name: str, layout: str, needs: str, refused: str
) -> None:
    path, facts = (
        materials / "parity" / f"{name}.safetensors",
        materials / "parity" / f"{name}.json",
    )
    answers = json.loads(facts.read_bytes())
    options: dict[str, Any] = {"settings": facts}
    if refused:
        with pytest.raises(SqueezeError, match=r"depth_adapters|num_unique_blocks"):
            load_model(path, **options)
        with pytest.raises(SqueezeError, match="depth_adapters"):
            load_model(path, like="baseline")
        return
    if "--like" in needs:
        with pytest.raises(BadCheckpoint):
            load_model(path, **options)
        options["like"] = layout
    loaded = load_model(path, **options)
    assert not loaded.assumed
    wrong = (token_losses(loaded, answers) - torch.tensor(answers["nll"]).double()).abs().max()
    assert wrong < 1e-5
    with pytest.raises(SqueezeError):
        load_model(path)


def token_losses(loaded: LoadedModel, answers: dict[str, Any]) -> Tensor:
    ids, length = torch.tensor(answers["tokens"]), answers["length"]
    model = GPT.from_tensors(loaded.config, loaded.tensors)
    with torch.inference_mode():
        chances = torch.log_softmax(model(ids[:-1].reshape(-1, length)).double(), -1)
    return -chances.gather(-1, ids[1:].reshape(-1, length, 1)).flatten()


# --- names and banks, there and back ---

MODELS: dict[str, tuple[ModelConfig, bool]] = {
    "record-162": (
        narrow(
            PRESETS["baseline"].model,
            bigram_rows=37,
            bigram_dim=8,
            smear_gate="channels",
            inputs_cross_documents=True,
        ),
        False,
    ),
    "record-1493": (narrow(PRESETS["record-1493"].model), False),
    "record-1204": (narrow(PRESETS["record-1204"].model), True),
    "record-1667": (
        narrow(
            PRESETS["record-1855"].model,
            attention_gate="output",
            attention_gate_scale=1.0,
            inputs_cross_documents=True,
        ),
        True,
    ),
    "record-1855": (narrow(PRESETS["record-1855"].model), True),
}


@pytest.mark.parametrize("front", ["", "module._orig_mod.", "model."])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_under_a_scripts_names_is_the_same_model(name: str, front: str) -> None:
    config, banks = MODELS[name]
    model = lively(config)
    theirs = in_field_names(model.state_dict(), config, banks=banks)
    assert ("qo_bank" in theirs) == banks
    told = {"like": name, "rope_dims": config.rope_dims, "seq_len": config.seq_len}
    told["rope_length"] = config.rope_length
    loaded = read({front + key: value for key, value in theirs.items()}, **told)
    state = model.state_dict()
    assert loaded.tensors.keys() == state.keys() == config.parameter_shapes().keys()
    assert all(np.array_equal(loaded.tensors[key], state[key].numpy()) for key in state)
    ids = ids_of(2, 16, 3, 9)
    built = GPT.from_tensors(loaded.config, loaded.tensors).eval()
    assert torch.equal(built(ids), model(ids))
    assert not loaded.assumed


def test_banks_of_an_int8_export_are_cut_into_their_codes() -> None:
    codes = np.arange(24, dtype=np.int8).reshape(2, 12)
    steps = np.array([0x3C00, 0x4000], np.uint16)
    bank = QuantizedTensor(codes, steps, (2, 3, 4))
    for at in range(2):
        assert np.array_equal(entry_of(bank, at).dequantize(), bank.dequantize()[at])
    assert np.array_equal(first_rows(bank, 1).dequantize(), bank.dequantize()[:1])


def test_a_layout_that_counts_other_layers_says_only_what_holds_for_any() -> None:
    ten, eleven = (fields_like("record-1493", layers) for layers in (10, 11))
    assert eleven["layer_schedule"] and eleven["parallel"] == "sum"
    assert "layer_schedule" not in ten and "parallel" not in ten
    assert (ten["xsa_layers"], ten["rope_dims"]) == (10, 16)
    assert "xsa_layers" not in fields_like("record-374", 9)
    assert fields_like("baseline", 3)["layer_schedule"] == ()
    with pytest.raises(BadConfig, match="Did you mean record-1493"):
        fields_like("record-1492", 11)


def test_a_script_is_of_one_layout() -> None:
    scripts = [digest for layout in LAYOUTS.values() for digest in layout.scripts]
    assert len(scripts) == len(set(scripts))
    assert all(re.fullmatch("[0-9a-f]{12}", digest) for digest in scripts)
    assert layout_of_script(scripts[0] + "0" * 52) is LAYOUTS["baseline"]
    assert layout_of_script("f" * 64).code == {}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_say_everything_a_file_of_their_record_leaves_open(name: str) -> None:
    layout = LAYOUTS[name]
    assert not set(layout.code) & set(layout.record) - {"document_attention"}
    preset = PRESETS.get(name)
    if preset is None:
        return
    fields = fields_like(name, preset.model.num_layers)
    differ = {n for n, value in fields.items() if getattr(preset.model, n) != value}
    # ours trains and scores within documents only where the record did
    assert differ <= {"inputs_cross_documents"}


# --- settings ---


def test_settings_are_read_under_the_scripts_own_names() -> None:
    settings = settings_of(
        {
            "MODEL_DIM": "64",
            "MLP_MULT": "3.0",
            "XSA_LAST_N": "4",
            "LN_SCALE": "1",
            "VE_LAYERS": "9,10",
            "SKIP_GATES_ENABLED": 0,
            "MATRIX_LR": 0.02,
            "TTT_ENABLED": 1,
            **LOOPED,
        }
    )
    assert settings.fields == {
        "model_dim": 64,
        "mlp_hidden": 192,
        "xsa_layers": 4,
        "norm_scale": True,
        "skip_gates": False,
        "num_layers": 11,
        "layer_schedule": (0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10),
    }
    assert settings.value_layers == (9, 10)
    assert settings.unknown == ()


def test_blocks_repeat_only_when_the_switch_was_on() -> None:
    inner = {"hyperparameters": LOOPED}
    on = settings_of(inner | {"switched_on": ["looping_active"]})
    off = settings_of(inner | {"switched_on": []})
    assert settings_of(inner).fields == on.fields and len(on.fields["layer_schedule"]) == 17
    assert off.fields["layer_schedule"] == () and not off.loops
    assert settings_of(LOOPED | {"num_loops": 0}).fields["layer_schedule"] == ()


def test_a_dense_gate_is_not_scaled_as_the_sparse_one_of_its_name_is() -> None:
    sparse = {"sparse_attn_gate_scale": 0.5}
    assert settings_of(sparse).fields["attention_gate_scale"] == 0.5
    assert settings_of(sparse | {"gated_attn_enabled": 1}).fields["attention_gate_scale"] == 1.0


def test_skips_of_loops_that_never_ran_are_left_out(tmp_path: Path) -> None:
    config = narrow(PRESETS["record-1493"].model)
    state = lively(config).state_dict()
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"hyperparameters": LOOPED, "switched_on": []}))
    loaded = read(state, like="record-1493", settings=path, rope_dims=4)
    assert loaded.config.layer_schedule == ()
    assert np.array_equal(loaded.tensors["skip_weights"], state["skip_weights"][:5].numpy())
    assert any("5 rows of 8" in note for note in loaded.notes)


def test_exclusive_attention_is_counted_from_the_last_layer_that_has_scalars(
    tmp_path: Path,
) -> None:
    config, _ = MODELS["record-1204"]
    theirs = in_field_names(lively(config).state_dict(), config, banks=True)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"hyperparameters": {"xsa_last_n": 4}, "switched_on": []}))
    off = read(theirs, like="record-1204", settings=path, rope_dims=4, seq_len=16)
    assert (off.config.layer_schedule, off.config.xsa_layers, off.config.by_depth) == ((), 2, False)
    path.write_text(json.dumps({"xsa_last_n": 4}))
    on = read(theirs, like="record-1204", settings=path, rope_dims=4, seq_len=16)
    assert (len(on.config.depth), on.config.xsa_layers, on.config.by_depth) == (13, 4, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"value_residual": True}, "no option for the setting value_residual"),
        ({"gate_attn_src": "q"}, "no option for the setting gate_attn_src"),
        ({"rope_yarn": 1}, "no option for the setting rope_yarn"),
        ({"model_dim": 64, "embedding_dim": 32}, "embedding_dim"),
        ({"mlp_mult": "wide", "model_dim": 64}, "mlp_mult"),
        ({"num_layers": 1.5}, "num_layers"),
        (LOOPED | {"loop_end": 11}, "loop_start and loop_end"),
        ({"ve_layers": "9;10"}, "ve_layers"),
        ({"hyperparameters": {}, "script_sha256": "abc"}, "script_sha256"),
        ({"hyperparameters": [1]}, "hyperparameters"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        settings_of(content)


def test_unknown_settings_are_named_unless_they_are_off(tmp_path: Path) -> None:
    config = narrow(PRESETS["baseline"].model)
    state = lively(config).state_dict()
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"head_mixing": 3, "other_mixing": 0, "warmup_steps": 20}))
    with pytest.raises(BadConfig, match="head_mixing"):
        read(state, like="baseline", settings=path)
    loaded = read(state, like="baseline", settings=path, assume=True)
    assert any("ignored: head_mixing" in note for note in loaded.notes)


def test_settings_of_other_weights_are_refused(tmp_path: Path) -> None:
    config = narrow(PRESETS["baseline"].model)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"num_layers": 12}))
    with pytest.raises(BadCheckpoint, match=r"num_layers 9.*12"):
        read(lively(config).state_dict(), like="baseline", settings=path)


def test_a_script_that_is_not_known_leaves_open_what_its_code_fixes(tmp_path: Path) -> None:
    config = narrow(PRESETS["record-1493"].model)
    path = tmp_path / "settings.json"
    told = LOOPED | {"rope_dims": 4, "ln_scale": True, "parallel_residual_start": 7}
    path.write_text(json.dumps({"hyperparameters": told, "script_sha256": "0" * 64}))
    with pytest.raises(BadCheckpoint, match="does not say mlp_power, mlp_slope, rope_base"):
        read(lively(config).state_dict(), settings=path)


def test_rotary_tables_end_where_the_script_has_them_end() -> None:
    config, _ = MODELS["record-1204"]
    theirs = in_field_names(lively(config).state_dict(), config, banks=True)
    assert read(theirs, like="record-1204", rope_dims=4).config.rope_length == 1024
    looped, _ = MODELS["record-1493"]
    state = lively(looped).state_dict()
    told = {"like": "record-1493", "rope_dims": 4, "seq_len": 512}
    assert read(state, **told).config.rope_length == 512
    assert read(state, **told, rope_length=0).config.rope_length == 0


# --- what is missing is named ---


@pytest.mark.parametrize(
    ("name", "told", "missing"),
    [
        ("record-1204", {"parallel_from": 7}, "layer_schedule is not in the file"),
        (
            "record-1204",
            {"like": "record-1204", "layer_schedule": (*range(6), 5, *range(6, 11))},
            r"another length.*13 layers.*12",
        ),
        (
            "record-1204",
            {"like": "record-1204", "layer_schedule": (*range(5), 3, 4, *range(5, 11))},
            "MLPs of repeated blocks are those of other layers",
        ),
        (
            "record-1204",
            {"like": "record-1204", "value_layers": (9, 13)},
            "value_layers are not those of these weights",
        ),
        ("record-1855", {}, "parallel_from is not in the file"),
        ("record-1855", {"parallel_from": 8}, "parallel is not in the file"),
        ("record-1855", {"parallel_from": 8, "parallel": "lanes"}, "does not say mlp_power"),
    ],
)
def test_what_names_leave_open_is_named(name: str, told: dict[str, Any], missing: str) -> None:
    config, banks = MODELS[name]
    theirs = in_field_names(lively(config).state_dict(), config, banks=banks)
    with pytest.raises(BadCheckpoint, match=missing):
        read(theirs, **told)


def test_tensors_of_no_layout_are_named_before_anything_else() -> None:
    config, _ = MODELS["record-1493"]
    state = lively(config).state_dict() | {"blocks.3.mlp_gate_proj.weight": torch.ones(1, 12)}
    with pytest.raises(BadCheckpoint, match=r"mlp_gate_proj.*--model FILE.py:NAME"):
        read(state, like="record-1493")


def test_heads_of_training_are_left_out() -> None:
    config, _ = MODELS["record-1493"]
    state = lively(config).state_dict()
    extra = {"mtp_heads.0.weight": torch.ones(61, 32)}
    loaded = read(state | extra, like="record-1493", rope_dims=4)
    assert loaded.tensors.keys() == state.keys()
    assert any("used in training only" in note for note in loaded.notes)


# --- what was assumed is repeated ---


def test_what_was_assumed_travels_with_the_artifact(tmp_path: Path) -> None:
    config = replace(narrow(PRESETS["baseline"].model), vocab_size=64)
    path, out, back = tmp_path / "m.safetensors", tmp_path / "m.sqz", tmp_path / "back.safetensors"
    save_file(lively(config).state_dict(), path)

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    with pytest.raises(BadCheckpoint, match=r"mlp_power.*--assume"):
        run("pack", path, "-o", out)
    assert not out.exists()
    said = "mlp_power=2, mlp_slope=0"
    assert said in run("pack", path, "-o", out, "--assume")
    assert load(out).config["assumed"]["mlp_power"] == 2
    for command in ("inspect", "budget"):
        assert said in run(command, out).replace("\n", " ")
    assert json.loads(run("inspect", path, "--json"))["assumed"]["mlp_power"] == 2
    run("unpack", out, "-o", back)
    for file in (out, back):
        loaded = load_model(file)
        assert loaded.assumed["mlp_power"] == 2
        assert any(said in note for note in loaded.notes)
    stated = load_model(out, mlp_power=3)
    assert stated.config.mlp_power == 3 and "mlp_power" not in stated.assumed


def test_nothing_is_written_down_where_nothing_was_assumed(tmp_path: Path) -> None:
    config = narrow(PRESETS["baseline"].model)
    loaded = read(lively(config).state_dict(), like="baseline")
    assert list(loaded.header) == ["model"]


def test_an_artifact_never_replaces_the_settings_it_was_made_with(tmp_path: Path) -> None:
    config = narrow(PRESETS["baseline"].model)
    path, settings = tmp_path / "m.safetensors", tmp_path / "settings.json"
    save_file(lively(config).state_dict(), path)
    settings.write_text("{}")
    arguments = ["pack", str(path), "--settings", str(settings), "-o", str(settings)]
    done = CliRunner().invoke(cli, [*arguments, "--like", "baseline"])
    assert done.exit_code and settings.read_text() == "{}"
