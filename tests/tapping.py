"""Our own model under taps, as calibration sees it."""

from __future__ import annotations

import torch

from squeeze.calib.statistics.tapped import TappedModel
from squeeze.subject.subject import Subject
from squeeze.train.model.gpt import GPT


def tapped(model: GPT) -> TappedModel:
    """Return a model under taps, its matrices read off a few tokens."""
    return Subject.of_gpt(model).tapped(torch.zeros(1, 4, dtype=torch.int64))
