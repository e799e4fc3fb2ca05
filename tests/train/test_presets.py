"""Presets: their published sizes, and how settings are changed and compared."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from squeeze.errors import BadConfig
from squeeze.train.idle import NEEDS
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import PRESETS, find_preset


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("baseline", 17_059_912),
        ("record-1204", 30_352_004),
        ("record-1493", 35_944_536),
        ("record-1855", 35_945_623),
    ],
)
def test_parameters_are_counted_as_published_or_the_difference_is_explained(
    name: str, parameters: int
) -> None:
    preset = PRESETS[name]
    assert preset.model.num_params == parameters
    missing = preset.published - parameters
    # lane weights, six a block, that the records keep for blocks before the lanes and never use
    unused = 6 * preset.model.parallel_from if preset.model.has_lanes else 0
    assert missing == unused
    assert (preset.differs and not missing) or preset.differs.startswith(f"{missing} fewer")


@pytest.mark.parametrize(
    ("name", "layers"),
    [("baseline", 9), ("record-1204", 13), ("record-1493", 17), ("record-1855", 17)],
)
def test_effective_depth(name: str, layers: int) -> None:
    assert len(PRESETS[name].model.depth) == layers


def test_presets_survive_json() -> None:
    for preset in PRESETS.values():
        assert ModelConfig.from_json(preset.model.to_json()) == preset.model
        assert Recipe.from_json(preset.recipe.to_json()) == preset.recipe


def test_model_and_recipe_share_no_name() -> None:
    names = [{field.name for field in dataclasses.fields(kind)} for kind in (ModelConfig, Recipe)]
    assert not names[0] & names[1]


def test_settings_change_model_and_recipe() -> None:
    texts = [
        "num_layers=6",
        "grad_clip=0.25",
        "layer_schedule=0-2,1-5",
        "qk_norm=off",
        "average=ema",
    ]
    base, changed = PRESETS["baseline"], PRESETS["baseline"].with_settings(texts)
    assert base.changes(changed) == {
        "num_layers": (9, 6),
        "layer_schedule": ((), (0, 1, 2, 1, 2, 3, 4, 5)),
        "qk_norm": (True, False),
        "grad_clip": (0.0, 0.25),
        "average": ("none", "ema"),
    }
    assert base.changes(base.with_settings([])) == {}
    assert changed.with_settings(["layer_schedule="]).model.layer_schedule == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modeldim=4", "Did you mean model_dim?"),
        ("zzzz=4", "unknown name; expected attention_gate, "),
        ("model_dim", "--set; expected name=value, found model_dim"),
        ("model_dim=wide", "model_dim; expected int, found wide"),
        ("qk_norm=perhaps", "qk_norm; expected true or false, found perhaps"),
        ("layer_schedule=0-" + "9" * 30, "expected block numbers such as 3-5,7"),
        ("layer_schedule=5-2", "expected block numbers such as 3-5,7, found 5-2"),
        ("value_layers=1-x", "expected block numbers such as 3-5,7, found 1-x"),
        ("smear_gate=some", "smear_gate; expected one of none, channels, token"),
        ("num_heads=3", "model_dim must split into heads"),
        ("momentum=2", "momentum; expected a"),
    ],
)
def test_bad_settings_are_refused_with_what_would_do(text: str, message: str) -> None:
    with pytest.raises(BadConfig) as refusal:
        PRESETS["baseline"].with_settings([text])
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("ema_decay=0.9", "average=ema"),
        ("qat_bits=4", "qat_start below 1"),
        ("bigram_dim=64", "bigram_rows"),
        ("lane_output=mlp", "parallel=lanes"),
        ("recurrence_start=0.5", "layer_schedule with a block more than once"),
        ("head_lr=0.01", "tie_embeddings=off"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(text: str, needed: str) -> None:
    with pytest.raises(BadConfig, match=f"changes nothing here; expected {needed} beside it"):
        PRESETS["baseline"].with_settings([text])


def test_settings_are_refused_by_all_that_stand_beside_them() -> None:
    base = PRESETS["record-1493"]
    assert base.with_settings(["average=none"]).recipe.average == "none"
    assert base.with_settings(["parallel=none", "parallel_from=0"]).model.parallel_from == 0
    assert base.with_settings(["qat_bits=4", "qat_start=0.8"]).recipe.qat_bits == 4


def test_every_need_is_of_a_setting() -> None:
    names = ModelConfig.__dataclass_fields__.keys() | Recipe.__dataclass_fields__.keys()
    assert NEEDS.keys() <= names
    for model in (preset.model for preset in PRESETS.values()):
        assert all(is_met(model, Recipe()) in (True, False) for _, is_met in NEEDS.values())


def test_unknown_presets_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadConfig, match="Did you mean record-1855"):
        find_preset("record-1885")
    assert find_preset("tiny") is PRESETS["tiny"]


def test_presets_need_no_torch() -> None:
    code = "import sys, squeeze.train.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_table_of_options_names_every_field() -> None:
    table = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    missing = [field for field in ModelConfig.__dataclass_fields__ if f"`{field}`" not in table]
    assert missing == []
    for name, preset in PRESETS.items():
        assert f"`{name}`" in table
        assert name == "tiny" or f"{preset.model.num_params:,}" in table
