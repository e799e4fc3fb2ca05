"""Models of any making under taps: one forward tells their matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from squeeze.calib.parallel import one_thread
from squeeze.calib.statistics.tapped import Forward, TappedModel, first_ids, idle_parameters
from squeeze.calib.taps.layout import UNUSED, Probe
from squeeze.calib.taps.taps import Taps
from squeeze.calib.taps.weights import Parameters
from squeeze.calib.text.sources import Sequences

ROUTED = 4096  # tokens in which every expert should have its turn


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
