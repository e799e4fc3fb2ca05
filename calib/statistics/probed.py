"""Models of any making under taps: one forward tells their matrices."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from squeeze.calib.parallel import one_thread
from squeeze.calib.statistics.tapped import Forward, TappedModel, idle_parameters
from squeeze.calib.taps.layout import Probe
from squeeze.calib.taps.taps import Taps
from squeeze.calib.taps.weights import Parameters


@torch.no_grad()
def probed(module: nn.Module, forward: Forward, ids: Tensor) -> TappedModel:
    """Return a model under taps, its matrices read off one forward of ids int64 [B, T]."""
    parameters, probe = Parameters(module.named_parameters()), Probe(ids)
    with one_thread(), Taps(parameters, probe) as taps:
        output = forward(module, taps.begin(ids))
    layout = probe.layout(parameters.shapes, output, idle_parameters(module))
    return TappedModel(module, forward, partial(Taps, parameters), layout)
