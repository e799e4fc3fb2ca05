"""The model configuration: what it accepts, what it refuses, and how it travels."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import BadConfig
from squeeze.train.model.config import ModelConfig

BASELINE = ModelConfig(1024, 9, 512, 8, 4, 1024)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    layers = draw(st.integers(1, 4))
    repeats = draw(st.lists(st.integers(0, layers - 1), max_size=4))
    return ModelConfig(
        vocab_size=draw(st.integers(1, 1 << 16)),
        num_layers=layers,
        model_dim=2 * heads * draw(st.integers(1, 8)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        mlp_hidden=draw(st.integers(1, 64)),
        tie_embeddings=draw(st.booleans()),
        logit_softcap=draw(st.floats(0.1, 100.0)),
        rope_base=draw(st.floats(1.0, 1e6)),
        mlp_power=draw(st.sampled_from([1, 2, 3])),
        seq_len=draw(st.integers(1, 4096)),
        layer_schedule=(*range(layers), *repeats) if repeats else (),
    )


@given(configs())
def test_a_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config


def test_json_is_canonical_and_leaves_defaults_out() -> None:
    assert BASELINE.to_json() == (
        '{"mlp_hidden":1024,"model_dim":512,"num_heads":8,"num_kv_heads":4,'
        '"num_layers":9,"vocab_size":1024}'
    )


def test_baseline_has_the_published_parameter_count() -> None:
    assert BASELINE.num_params == 17_059_912


def test_an_untied_head_adds_one_matrix() -> None:
    untied = ModelConfig(1024, 9, 512, 8, 4, 1024, tie_embeddings=False)
    assert untied.num_params == BASELINE.num_params + 1024 * 512


def test_repeated_blocks_add_skips_but_no_matrices() -> None:
    once = ModelConfig(64, 3, 32, 4, 2, 64)
    twice = ModelConfig(64, 3, 32, 4, 2, 64, layer_schedule=(0, 1, 2, 1, 2))
    assert twice.num_params - once.num_params == 32  # 2 skips instead of 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 65_537}, "vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"vocab_size": 1024.0}, "vocab_size"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": 10**9}, "num_layers"),
        ({"model_dim": 10**9}, "model_dim"),
        ({"model_dim": 516}, "even width"),
        ({"num_kv_heads": 3}, "evenly"),
        ({"mlp_power": 4}, "mlp_power"),
        ({"seq_len": 0}, "seq_len"),
        ({"logit_softcap": -1.0}, "logit_softcap"),
        ({"logit_softcap": float("nan")}, "logit_softcap"),
        ({"rope_base": float("inf")}, "rope_base"),
        ({"rope_base": "10000"}, "rope_base"),
        ({"tie_embeddings": 1}, "tie_embeddings"),
        ({"layer_schedule": (0, 9)}, "layer_schedule entry"),
        ({"layer_schedule": (0, 1)}, "every block"),
        ({"layer_schedule": "012"}, "layer_schedule"),
        ({"layer_schedule": (0,) * 2000}, "layer_schedule"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(change: dict[str, object], message: str) -> None:
    fields = {
        "vocab_size": 1024,
        "num_layers": 9,
        "model_dim": 512,
        "num_heads": 8,
        "num_kv_heads": 4,
        "mlp_hidden": 1024,
    }
    with pytest.raises(BadConfig, match=message):
        ModelConfig.from_fields(fields | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "no mlp_hidden, model_dim"),
        (BASELINE.to_json()[:-1] + ',"smear_gates":"token"}', "found smear_gates"),
        (BASELINE.to_json()[:-1] + ',"smear_gates":"token"}', "Did you mean smear_gate "),
        (BASELINE.to_json()[:-1] + ',"smear_gate":true}', "smear_gate; expected one of none"),
        (BASELINE.to_json()[:-1] + ',"vocab_size":2}', "twice"),
        (BASELINE.to_json()[:-1] + ',"logit_softcap":NaN}', "logit_softcap"),
        (BASELINE.to_json()[:-1] + ',"layer_schedule":5}', "layer_schedule"),
    ],
)
def test_malformed_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        ModelConfig.from_json(text)


def test_the_config_needs_no_torch() -> None:
    code = "import sys, squeeze.train.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
