"""A moment of training for the small models, on the text of the Python manual as bytes."""

from __future__ import annotations

from functools import cache
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.calib.parallel import one_thread
from squeeze.subject.subject import Subject

STEPS, BATCH, LENGTH = 30, 16, 32


@cache
def manual() -> Tensor:
    """Return bytes of the manual, int64 [n]."""
    return torch.tensor(list("".join(topics.values()).encode()[:200_000]))


def trained(model: Subject, steps: int = STEPS) -> Subject:
    """Train a model in place, hidden states against its table, and return it."""
    generator, text = torch.Generator().manual_seed(0), manual()[:-LENGTH]
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=3e-3)
    with one_thread():
        for _ in range(steps):
            starts = torch.randint(len(text) - LENGTH - 1, (BATCH,), generator=generator)
            windows = torch.stack([text[start : start + LENGTH + 1] for start in starts])
            logits = model.run(model.module, windows[:, :-1])
            if model.hidden:
                logits = F.linear(logits, model.module.emb.weight)
            loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model
