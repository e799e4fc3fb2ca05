"""Output gradients: exact where they can be checked, and the loss they predict is the loss measured."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from squeeze.calib.allocation.waterfill import expected_loss
from squeeze.calib.statistics import gradient_sums
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.divergence import Categorical
from squeeze.calib.statistics.fisher import (
    TOKENS,
    OutputGradients,
    collect_gradients,
    tokens_for,
)
from squeeze.calib.statistics.gradient_sums import GradientSums
from squeeze.calib.text.sources import Sequences
from squeeze.errors import BadCheckpoint, CorruptData
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tapping import tapped

CONFIG = ModelConfig(50, 2, 32, 4, 2, 64, seq_len=32)


def random_model(config=CONFIG, seed=0):
    """A model whose every matrix matters."""
    model = GPT(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2 and weight.size(0) > 2:
                weight.normal_(std=weight.size(1) ** -0.5, generator=generator)
        model.tok_emb.weight.mul_(2.0)
    return model.eval()


def random_text(count, length, vocab=50, seed=0):
    ids = np.random.default_rng(seed).integers(0, vocab, (count, length)).astype(np.uint16)
    return Sequences(ids, "random")


@pytest.mark.parametrize("name", ["blocks.0.attn.c_q.weight", "blocks.1.attn.c_v.weight",
                                  "blocks.0.mlp.fc.weight", "blocks.1.mlp.proj.weight",
                                  "tok_emb.weight"])  # fmt: skip
def test_expected_loss_predicts_the_measured_divergence(name):
    model, text = random_model(), random_text(128, 32)
    hessians = collect(tapped(model), text)
    gradients = collect_gradients(tapped(model), text, tokens=4096)
    ids = torch.from_numpy(text.ids.astype(np.int64))
    weight = dict(model.named_parameters())[name]
    delta = (
        0.02
        * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        * weight.detach().std()
    )
    with torch.no_grad():
        before = torch.log_softmax(model(ids), -1)
        weight.add_(delta)
        after = torch.log_softmax(model(ids), -1)
    measured = float((before.exp() * (before - after)).sum(-1).double().mean())
    expected = expected_loss(delta.numpy(), hessians.matrices[name], gradients.rows[name])
    assert expected == pytest.approx(measured, rel=0.35)  # values' 0.67, all else 0.84 … 1.04


def test_gradients_are_those_of_autograd():
    model, text = random_model(), random_text(3, 16)
    result = collect_gradients(tapped(model), text)
    layer = model.blocks[0].mlp.fc
    ids = torch.from_numpy(text.ids.astype(np.int64))
    kept = {}
    handle = layer.register_forward_hook(lambda m, i, o: kept.update(o=o) or o.retain_grad())
    logits = model(ids).flatten(0, 1)
    handle.remove()
    generator = torch.Generator().manual_seed(0)
    targets = torch.multinomial(torch.softmax(logits.detach(), -1), 1, generator=generator)[:, 0]
    F.cross_entropy(logits, targets, reduction="sum").backward()
    gradients = kept["o"].grad.flatten(0, 1)
    products = (gradients.T @ gradients / 48).numpy()
    name = "blocks.0.mlp.fc.weight"
    assert np.allclose(result.products[name], products, rtol=1e-4, atol=1e-5 * products.max())
    assert (result.rows[name] == result.products[name].diagonal()).all()


def test_wide_layers_keep_squares_only(monkeypatch):
    model, text = random_model(), random_text(3, 16)
    everything = collect_gradients(tapped(model), text)
    monkeypatch.setattr("squeeze.calib.statistics.gradient_sums.WIDEST", 32)
    narrow = collect_gradients(tapped(model), text)
    name = "blocks.0.mlp.fc.weight"
    assert name in everything.products and name not in narrow.products
    assert np.allclose(narrow.best(name), everything.rows[name], rtol=1e-5)
    assert narrow.best("blocks.0.attn.proj.weight").shape == (32, 32)


def test_weights_get_no_gradients_and_stay_trainable():
    model = random_model()
    collect_gradients(tapped(model), random_text(2, 8))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_only_as_many_sequences_as_asked_for_are_read():
    model, text = random_model(), random_text(10, 16)
    assert collect_gradients(tapped(model), text, tokens=40).tokens == 48
    assert collect_gradients(tapped(model), text, tokens=10_000).tokens == 160


def hashing_model(rows):
    return random_model(
        ModelConfig(50, 1, 32, 4, 2, 64, seq_len=32, bigram_rows=rows, bigram_dim=8)
    )


def test_rows_that_no_token_looked_up_share_what_those_looked_up_once_stand_for():
    """Of pairs that other text has, as large a share is new as tokens of this one are of a kind."""
    model, text = hashing_model(4096), random_text(40, 32)
    name = "bigram.table.weight"
    visited = torch.zeros(4096)

    def count(module, inputs, output):
        visited.index_add_(0, inputs[0].flatten(), torch.ones(inputs[0].numel()))

    handle = model.get_submodule("bigram.table").register_forward_hook(count)
    model(torch.from_numpy(text.ids.astype(np.int64)))
    handle.remove()
    rows = torch.from_numpy(collect_gradients(tapped(model), text).rows[name])
    unvisited = visited == 0
    share = float((visited == 1).sum() / visited.sum())
    assert 0.1 < share < 0.9 and unvisited.any()
    assert (rows > 0).all() and len(rows[unvisited].unique()) == 1
    assert float(rows[unvisited].sum() / rows.sum()) == pytest.approx(share, rel=1e-4)


def test_rows_that_all_were_looked_up_have_their_own_gradients_alone():
    model, text = hashing_model(2), random_text(40, 32)
    sums = GradientSums(tapped(model))
    ids = torch.from_numpy(text.ids.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    sums.add_block_(model, ids, Categorical(), generator)
    squares = sums.lookups["bigram.table.weight"][:, 0].clone()
    means, _ = sums.means(text.tokens)
    expected = (squares / text.tokens / 8).numpy()
    np.testing.assert_array_equal(means["bigram.table.weight"], expected)


def test_a_table_of_many_rows_has_more_tokens():
    assert tokens_for(tapped(random_model())) == TOKENS
    assert tokens_for(tapped(hashing_model(4096))) == TOKENS
    assert tokens_for(tapped(hashing_model(65_536))) == 131_072


def test_every_matrix_has_rows():
    for tied in (True, False):
        config = ModelConfig(50, 2, 32, 4, 2, 64, seq_len=32, tie_embeddings=tied)
        rows = collect_gradients(tapped(random_model(config)), random_text(2, 8)).rows
        shapes = {n: s for n, s in config.parameter_shapes().items() if n.endswith(".weight")}
        assert {n: r.shape[0] for n, r in rows.items()} == {n: s[0] for n, s in shapes.items()}
        assert all((r >= 0).all() and r.any() for r in rows.values())


def test_saved_and_read_back(tmp_path):
    result = collect_gradients(tapped(random_model()), random_text(2, 8))
    result.save(tmp_path / "g", "key")
    again = OutputGradients.load(tmp_path / "g", "key")
    assert again.tokens == result.tokens and again.source == "random"
    assert all((again.rows[n] == r).all() for n, r in result.rows.items())
    assert all((again.products[n] == p).all() for n, p in result.products.items())
    with pytest.raises(CorruptData):
        OutputGradients.load(tmp_path / "g", "other key")


def test_nan_is_refused_by_name():
    model = random_model()
    with torch.no_grad():
        model.blocks[1].mlp.fc.weight[0, 0] = float("nan")
    with pytest.raises(BadCheckpoint, match="not a number"):
        collect_gradients(tapped(model), random_text(2, 8))


def test_nothing_of_a_block_is_held_once_it_is_added(monkeypatch):
    """A graph whose observer holds its logits is never freed: 300 MB a block of 36M weights."""
    observers = []

    class Seen(gradient_sums._Hooks):
        def __init__(self, sums):
            super().__init__(sums)
            observers.append(weakref.ref(self))

    monkeypatch.setattr(gradient_sums, "_Hooks", Seen)
    collect_gradients(tapped(random_model()), random_text(64, 32), tokens=2048)
    gc.collect()
    assert len(observers) > 1
    assert not any(observer() for observer in observers)
