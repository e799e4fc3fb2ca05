"""The incremental forward gives what the full forward gives."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from squeeze.errors import BadData
from squeeze.score.past import Context
from squeeze.train.model import attention
from squeeze.train.model import cache as cache_module
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tiny_models import EVERYTHING, NARROW, ids_of, lively

PLAIN = ModelConfig(61, 3, 32, 4, 2, 48, seq_len=16)
LOOPED = ModelConfig(61, 3, 32, 4, 1, 48, seq_len=16, layer_schedule=(0, 1, 2, 1, 2, 2))
UNTIED = ModelConfig(61, 1, 32, 2, 2, 48, seq_len=16, tie_embeddings=False, mlp_power=3)


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("config", [PLAIN, LOOPED, UNTIED])
def test_token_by_token_agrees_with_the_full_forward(
    config: ModelConfig, buckets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BUCKET", 7)
    model, ids = lively(config), ids_of(3, 40, 7)  # 40 positions: beyond the training window of 16
    cache = Cache(model, 3, 40, buckets)
    logits = torch.cat([cache.step(ids[:, [at]]) for at in range(40)], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)
    assert cache.used == 40


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_preset_and_option_reads_token_by_token_what_it_reads_at_once(
    name: str, buckets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BUCKET", 7)
    model, ids = lively(EVERYTHING[name]), ids_of(2, 20, 0, 5, 6, 13)
    cache = Cache(model, 2, 20, buckets)
    parts = ids.split([4, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1, 1], dim=1)
    logits = torch.cat([cache.step(part) for part in parts], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NARROW)
def test_a_cached_document_does_not_see_the_one_before(name: str) -> None:
    model = lively(replace(NARROW[name], document_attention=True, inputs_cross_documents=False))
    first, second = ids_of(2, 6, 0), ids_of(2, 7, 0, seed=5)
    cache = Cache(model, 2, 13)
    cache.step(first)
    torch.testing.assert_close(cache.step(second), model(second), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["record-1204", "record-1855"])
def test_stepping_twice_over_the_same_tokens_leaves_the_same_behind(name: str) -> None:
    # what warm-up runs before the capture of a graph do
    model, ids = lively(NARROW[name]), ids_of(2, 9, 0, 4)
    cache, again = Cache(model, 2, 9), Cache(model, 2, 9)
    for part in ids.split(1, dim=1):
        expected = cache.step(part)
        again.step(part)
        again.used -= 1
        assert torch.equal(again.step(part), expected)


@settings(max_examples=12)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans())
def test_any_split_into_steps_agrees_with_the_full_forward(steps: list[int], buckets: bool) -> None:
    model, ids = lively(LOOPED), ids_of(2, sum(steps))
    cache = Cache(model, 2, sum(steps) + 3, buckets)
    logits = torch.cat([cache.step(part) for part in ids.split(steps, dim=1)], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)


def test_a_reset_cache_remembers_nothing() -> None:
    model, ids = lively(PLAIN), ids_of(2, 12)
    cache = Cache(model, 2, 12)
    cache.step(ids.flip(1))
    cache.reset_()
    torch.testing.assert_close(cache.step(ids), model(ids), atol=1e-5, rtol=1e-5)


def test_padding_after_a_sequence_does_not_change_its_logits() -> None:
    model, ids = lively(PLAIN), ids_of(2, 12)
    other = ids.clone()
    other[:, 8:] = 0
    first, second = Cache(model, 2, 12).step(ids), Cache(model, 2, 12).step(other)
    torch.testing.assert_close(first[:, :8], second[:, :8], atol=0, rtol=0)


def test_same_steps_give_the_same_bits() -> None:
    model, ids = lively(PLAIN), ids_of(4, 20)
    runs = []
    for _ in range(2):
        cache = Cache(model, 4, 20)
        runs.append([cache.step(ids[:, [at]]) for at in range(20)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_steps_that_do_not_fit_are_refused() -> None:
    cache = Cache(lively(PLAIN), 2, 5)
    cache.step(ids_of(2, 4))
    with pytest.raises(BadData, match="cache is full; expected ≤ 5 tokens, found 6"):
        cache.step(ids_of(2, 2))
    assert cache.step(ids_of(2, 1)).shape == (2, 1, 61)
    with pytest.raises(BadData, match=r"expected ids \[2, ≥ 1\], found \[3, 1\]"):
        cache.step(ids_of(3, 1))
    with pytest.raises(BadData, match="cache length"):
        Cache(lively(PLAIN), 2, 0)


@pytest.mark.parametrize("name", NARROW)
def test_autocast_of_a_gpu_reads_token_by_token_what_it_reads_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = F.rms_norm  # which autocast of a GPU gives in float32, since torch 2.12
    monkeypatch.setattr(F, "rms_norm", lambda x, shape: plain(x.float(), shape))
    kinds = []

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kinds.extend([q.dtype, k.dtype, v.dtype])
        return attention.causal_attention(q, k, v)

    monkeypatch.setattr(attention, "whole_attention", lambda *_: causal)
    model, ids = lively(NARROW[name]), ids_of(2, 9, 0, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        cache, context = Cache(model, 2, 9), Context(model, 2, 9)
        logits = torch.cat([cache.step(part) for part in ids.split([4, 1, 1, 3], dim=1)], dim=1)
        context.fill(ids[:, :5])
        hidden = context.step(ids[:, 5:])
        torch.testing.assert_close(logits, model(ids), atol=0.1, rtol=0.1)
        torch.testing.assert_close(hidden, model.hidden(ids)[:, 5:], atol=0.1, rtol=0.1)
    assert set(kinds) <= {torch.bfloat16}  # of which alone a GPU's kernels share keys and values


def test_half_precision_models_keep_their_dtype() -> None:
    model, ids = copy.deepcopy(lively(PLAIN)).bfloat16(), ids_of(2, 9)
    cache = Cache(model, 2, 9)
    assert cache.step(ids).dtype == torch.float32


def test_real_checkpoint_decodes_as_it_scores(materials) -> None:
    from squeeze.checkpoint.read import load_model

    loaded = load_model(
        materials / "checkpoints" / "nolanvild_0.48M_fp32.pt", like="baseline", mlp_power=3
    )
    model = GPT.from_tensors(loaded.config, loaded.tensors)
    ids = torch.randint(1024, (2, 96), generator=torch.Generator().manual_seed(3))
    cache = Cache(model, 2, 96)
    logits = torch.cat(
        [cache.step(ids[:, :32]), *(cache.step(i) for i in ids[:, 32:].split(1, 1))], 1
    )
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)
