"""Experts: every one is seen, and counts for the tokens that it gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from squeeze.calib.allocation.waterfill import expected_loss
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.statistics.probed import probed_on
from squeeze.calib.text.sources import RandomTokens, Sequences
from squeeze.subject.subject import Subject

VOCAB, WIDTH, LENGTH = 64, 16, 16
RARE = 8  # tokens of the second expert


class Routed(nn.Module):
    """Two experts; the first tokens of the vocabulary go to the second."""

    block_size = LENGTH

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        added = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            chosen = (ids < RARE) == bool(number)
            if chosen.any():
                added = added.masked_scatter(chosen[..., None], expert(x[chosen]))
        return torch.as_tensor(self.head(x + added))


def test_an_expert_that_the_first_sequence_leaves_alone_is_no_float() -> None:
    subject = Subject.of_module(Routed())
    ids = np.full((8, LENGTH), RARE, np.uint16)
    ids[7] = 0
    text = Sequences(ids, "given")
    layout = probed_on(subject.tapped, text, subject.device).layout
    assert layout.matrices["experts.1.weight"].how == "product"
    only = probed_on(subject.tapped, Sequences(text.ids[:7], text.source), subject.device).layout
    assert only.floats["experts.1.weight"] == "never used"


@pytest.mark.parametrize("expert", [0, 1])
def test_the_loss_of_an_expert_is_that_of_its_tokens(expert: int) -> None:
    subject, name = Subject.of_module(Routed()), f"experts.{expert}.weight"
    text = RandomTokens(VOCAB, 0).draw(8192, LENGTH)
    tapped = probed_on(subject.tapped, text, subject.device)
    hessian = collect(tapped, text).matrices[name]
    gradients = collect_gradients(tapped, text, tokens=8192).best(name)
    noise = np.random.default_rng(1).standard_normal((WIDTH, WIDTH)).astype(np.float32) * 0.02
    weights = subject.module.state_dict()[name].numpy() + noise
    ids = torch.from_numpy(text.ids.astype(np.int64))
    right, wrong = (m.logits(ids) for m in (subject, subject.with_weights({name: weights})))
    shares = right.log_softmax(-1)
    real = (shares.exp() * (shares - wrong.log_softmax(-1))).sum(-1).mean()
    assert expected_loss(noise, hessian, gradients) == pytest.approx(float(real), rel=0.15)


def test_every_expert_is_seen_where_there_is_no_text() -> None:
    subject = Subject.of_module(Routed())
    layout = subject.tapped(subject.drawn_ids()).layout
    assert all(f"experts.{number}.weight" in layout.matrices for number in range(2))
