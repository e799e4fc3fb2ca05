"""Fingerprint of a model that is not this project's: its window, its first token and its answer to some.

Its class, the modules that its script imports and the numbers in its configuration are nowhere in its
weights. Of two models with equal weights that compute otherwise, the answers differ.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from squeeze.calib.parallel import one_thread
from squeeze.subject.subject import Subject

TOKENS = 64  # of the text that is answered, at most


@torch.no_grad()
def fingerprint_of(subject: Subject) -> str:
    """Return a hash of all but the weights that calibration and costs depend on.

    Raises BadCheckpoint when its forward fails.
    """
    size = 1, min(TOKENS, subject.length)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, subject.vocab_size, size))
    with one_thread():
        answer = subject.run(subject.module, ids.to(subject.device))
    facts = repr((subject.length, subject.bos, subject.vocab_size, subject.hidden))
    return hashlib.sha256(facts.encode() + answer.float().cpu().numpy().tobytes()).hexdigest()
