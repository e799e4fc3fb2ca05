"""Rows of documents end to end: cut where a document is longer than a window, nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.trainer import Trainer
from tests.tiny_models import BOS, PLAIN, lively

PACKED = replace(PLAIN, document_attention=True, smear_gate="token")


def test_a_row_is_its_documents_in_pieces_of_a_window() -> None:
    sizes = (5, 16, 40, 3)  # in windows of 16: 40 is 16, 16 and 8
    generator = np.random.default_rng(0)
    documents = [np.array([BOS, *generator.integers(2, 61, size - 1)]) for size in sizes]
    ids = torch.from_numpy(np.concatenate(documents))[None]
    model = lively(replace(PACKED, smear_gate="none"))
    with torch.inference_mode():
        whole = model.head(model.hidden(ids, reach=model.reach(ids, cut=16)))[0]
        pieces = [
            model(torch.from_numpy(document[at : at + 16])[None])[0]
            for document in documents
            for at in range(0, len(document), 16)
        ]
    torch.testing.assert_close(whole, torch.cat(pieces), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("batch", "rows"), [(64, (2, 32)), (128, (2, 64)), (16, (1, 16))])
def test_a_batch_is_so_many_rows_but_none_shorter_than_a_window(
    batch: int, rows: tuple[int, int]
) -> None:
    tokens = np.random.default_rng(0).integers(2, 61, 2000).astype(np.uint16)
    trainer = Trainer(PACKED, [tokens], Recipe(batch_tokens=batch, packed_rows=2))
    assert tuple(trainer.loader.peek()[0].shape) == rows
    assert trainer.tokens == batch and trainer.cut == 16
    loss, norm = trainer.step(0.0)
    assert loss.isfinite() and norm > 0


def test_the_start_of_nn_linear_can_be_asked_for() -> None:
    ours = GPT(PLAIN, 3, "uniform").blocks[0].mlp.fc.weight
    assert float(ours.detach().abs().max()) <= 32**-0.5
    assert float(ours.detach().std()) == pytest.approx((32 * 3) ** -0.5, rel=0.1)
    assert not GPT(PLAIN, 3, "uniform").blocks[0].mlp.proj.weight.any()


def test_embeddings_and_their_state_can_be_of_16_bits() -> None:
    tokens = np.random.default_rng(0).integers(2, 61, 2000).astype(np.uint16)
    recipe = Recipe(batch_tokens=64, table_precision="bf16", average="ema")
    trainer = Trainer(replace(PLAIN, bigram_rows=37, bigram_dim=10), [tokens], recipe)
    for step in range(3):
        loss, _ = trainer.step(step / 3)
        assert loss.isfinite()
    weights = dict(trainer.model.named_parameters())
    for name in ("tok_emb.weight", "bigram.table.weight"):
        assert weights[name].dtype == torch.bfloat16
        assert trainer.optimizer.adam.state[weights[name]]["exp_avg"].dtype == torch.bfloat16
    assert weights["blocks.0.attn.c_q.weight"].dtype == torch.float32
    assert {weight.dtype for weight in trainer.weights().values()} == {torch.float32}
