"""Models of any making under taps: one forward tells their matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from squeeze.calib.parallel import one_thread
from squeeze.calib.statistics.tapped import Forward, TappedModel, first_ids, idle_parameters
from squeeze.calib.taps.layout import UNUSED, Probe
from squeeze.calib.taps.taps import Taps
from squeeze.calib.taps.weights import Parameters
from squeeze.calib.text.sources import Sequences

ROUTED = 4096  # tokens in which every expert should have its turn
DRAWN, SHORT = 1024, 64  # the same where there is no text, in all and of a sequence


@torch.no_grad()
def probed(module: nn.Module, forward: Forward, ids: Tensor) -> TappedModel:
    """Return a model under taps, its matrices read off one forward of ids int64 [B, T]."""
    parameters, probe = Parameters(module.named_parameters()), Probe(ids)
    with one_thread(), Taps(parameters, probe) as taps:
        output = forward(module, taps.begin(ids))
    layout = probe.layout(parameters.shapes, output, idle_parameters(module))
    return TappedModel(module, forward, partial(Taps, parameters), layout)


def probed_on(
    probe: Callable[[Tensor], TappedModel], text: Sequences, device: torch.device
) -> TappedModel:
    """Return a model under taps, its matrices read off one sequence, or more where those use others.

    A model that routes its tokens may leave weights alone in one sequence that the next one needs.

    probe: function ids int64 [B, T] → the model under taps
    """
    tapped = probe(first_ids(text, device))
    if UNUSED not in tapped.layout.floats.values():
        return tapped
    other = probe(first_ids(text, device, ROUTED))
    unused = [list(each.layout.floats.values()).count(UNUSED) for each in (tapped, other)]
    return other if unused[1] < unused[0] else tapped


def drawn_ids(vocab_size: int, length: int, device: torch.device) -> Tensor:
    """Return drawn tokens int64 [B, T], the same each time, to read a layout off without a text."""
    length = min(SHORT, length)
    ids = np.random.default_rng(0).integers(0, vocab_size, (DRAWN // length, length))
    return torch.from_numpy(ids).to(device)
