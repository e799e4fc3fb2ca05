"""The baseline forward: causality, names, and agreement with a plain re-computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIGS = {
    "one layer": ModelConfig(61, 1, 16, 2, 1, 24, seq_len=16),
    "odd depth": ModelConfig(61, 3, 24, 6, 2, 40, mlp_power=3, seq_len=16),
    "even depth, untied": ModelConfig(61, 4, 24, 3, 3, 40, tie_embeddings=False, seq_len=16),
    "repeated blocks": ModelConfig(61, 3, 24, 2, 1, 40, layer_schedule=(0, 1, 2, 1, 2)),
}


def random_model(config: ModelConfig) -> GPT:
    """Weights far from the initialisation, so that every part of the forward matters."""
    random = np.random.default_rng(5)
    tensors = {
        name: random.normal(0.3, 0.4, shape).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    return GPT.from_tensors(config, tensors)


def plain_logits(config: ModelConfig, weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """The forward of one sequence in float64, written per position and head from its definition."""
    w = {name: value.double() for name, value in weights.items()}
    group = config.num_heads // config.num_kv_heads
    half = config.head_dim // 2

    def norm(x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean() + torch.finfo(torch.float32).eps)

    def turn(x: Tensor, position: int) -> Tensor:
        out = x.clone()
        for i in range(half):
            angle = position / config.rope_base ** (2 * i / config.head_dim)
            out[i] = x[i] * math.cos(angle) + x[i + half] * math.sin(angle)
            out[i + half] = x[i + half] * math.cos(angle) - x[i] * math.sin(angle)
        return out

    def attention(name: str, rows: list[Tensor]) -> list[Tensor]:
        def heads(matrix: str) -> list[tuple[Tensor, ...]]:
            return [(w[f"{name}.{matrix}.weight"] @ row).split(config.head_dim) for row in rows]

        queries, keys, values = heads("c_q"), heads("c_k"), heads("c_v")
        outputs = []
        for t in range(len(rows)):
            mixed = []
            for head in range(config.num_heads):
                q = w[f"{name}.q_gain"][head] * turn(norm(queries[t][head]), t)
                past = range(t + 1)
                scores = torch.stack([q @ turn(norm(keys[s][head // group]), s) for s in past])
                weight = torch.softmax(scores / math.sqrt(config.head_dim), 0)
                mixed.append(sum(weight[s] * values[s][head // group] for s in past))
            outputs.append(w[f"{name}.proj.weight"] @ torch.cat(mixed))
        return outputs

    x0 = [norm(w["tok_emb.weight"][token]) for token in ids]
    x, skips = list(x0), []
    half_depth = len(config.depth) // 2
    for level, block in enumerate(config.depth):
        name = f"blocks.{block}"
        if level >= half_depth and skips:
            saved, gain = skips.pop(), w["skip_weights"][level - half_depth]
            x = [row + gain * other for row, other in zip(x, saved, strict=True)]
        keep, add = w[f"{name}.resid_mix"]
        x = [keep * row + add * first for row, first in zip(x, x0, strict=True)]
        mixed = attention(f"{name}.attn", [norm(row) for row in x])
        x = [r + w[f"{name}.attn_scale"] * m for r, m in zip(x, mixed, strict=True)]
        for t, row in enumerate(x):
            inner = (w[f"{name}.mlp.fc.weight"] @ norm(row)).clamp(min=0) ** config.mlp_power
            x[t] = row + w[f"{name}.mlp_scale"] * (w[f"{name}.mlp.proj.weight"] @ inner)
        if level < half_depth:
            skips.append(x)
    head = w["tok_emb.weight" if config.tie_embeddings else "lm_head.weight"]
    cap = config.logit_softcap
    return torch.stack([cap * torch.tanh(head @ norm(row) / cap) for row in x])


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_agrees_with_its_definition(name: str) -> None:
    config = CONFIGS[name]
    model = random_model(config)
    ids = [3, 60, 0, 17, 17, 42, 5]
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
    assert logits.dtype == torch.float32
    expected = plain_logits(config, model.state_dict(), ids)
    torch.testing.assert_close(logits.double(), expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_changing_a_token_never_moves_an_earlier_logit(name: str) -> None:
    model = random_model(CONFIGS[name])
    ids = torch.randint(61, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids)
        for position in range(1, 12):
            flipped = ids.clone()
            flipped[:, position:] = (flipped[:, position:] + 1) % 61
            after = model(flipped)
            assert torch.equal(after[:, :position], before[:, :position])
            assert not torch.equal(after[:, position], before[:, position])


@pytest.mark.parametrize("name", CONFIGS)
def test_module_names_and_shapes_are_those_of_the_config(name: str) -> None:
    state = GPT(CONFIGS[name]).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == (
        CONFIGS[name].parameter_shapes()
    )


def test_a_new_model_predicts_close_to_uniformly() -> None:
    model = GPT(CONFIGS["odd depth"])
    ids = torch.arange(48).reshape(3, 16)
    assert model.loss(ids, ids + 1).item() == pytest.approx(math.log(61), abs=0.01)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    config = CONFIGS["odd depth"]
    torch.manual_seed(1)
    first = GPT(config, seed=7)
    torch.manual_seed(2)
    second, other = GPT(config, seed=7), GPT(config, seed=8)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.tok_emb.weight, other.tok_emb.weight)


def test_hooks_see_the_input_of_every_matrix() -> None:
    config = CONFIGS["repeated blocks"]
    model, seen = GPT(config), dict[str, list[tuple[int, ...]]]()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) or name == "final_norm":
            module.register_forward_hook(
                lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0].shape)
            )
    model(torch.zeros(2, 5, dtype=torch.int64))
    assert len(seen) == 6 * config.num_layers + 1
    assert seen["blocks.0.attn.c_q"] == [(2, 5, 24)]
    assert seen["blocks.2.mlp.proj"] == [(2, 5, 40)] * 2  # run twice
    assert seen["final_norm"] == [(2, 5, 24)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("tok_emb.weight"), "missing.*tok_emb.weight"),
        (lambda t: t.update(extra=np.zeros(1, np.float32)), "unexpected.*extra"),
        (lambda t: t.update({"skip_weights": np.zeros((2, 24), np.float32)}), "skip_weights"),
    ],
)
def test_weights_that_do_not_match_are_refused_by_name(change, message) -> None:  # type: ignore[no-untyped-def]
    config = CONFIGS["odd depth"]
    tensors = {n: np.zeros(s, np.float32) for n, s in config.parameter_shapes().items()}
    change(tensors)
    with pytest.raises(BadCheckpoint, match=message):
        GPT.from_tensors(config, tensors)
