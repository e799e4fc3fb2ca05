"""Model FLOPs utilization: arithmetic of a training step over the peak of the devices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from squeeze.ranks.group import Ranks
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.shapes import group_of
from squeeze.train.presets import Preset

if TYPE_CHECKING:
    from squeeze.train.run.course import StepRecord

# dense bfloat16 FLOP/s by a part of the device's name, from the makers' data sheets
PEAKS = {
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}


def flops_per_token(config: ModelConfig, recurrent: bool = True) -> float:
    """Return the floating-point operations of forward and backward for each token of a window.

    6 for every weight of a matrix each time it is used (2 forward, 4 backward), the head included and
    table look-ups not, and 6·T·D for each layer's causal attention (half of T² pairs). Shorter
    attention (documents, windows) is counted in full. After Chowdhery et al., PaLM, appendix B.
    """
    depth = config.depth if recurrent else tuple(range(config.num_layers))
    weights = config.vocab_size * config.model_dim
    for name, shape in config.parameter_shapes().items():
        if group_of(name) == "matrix" and ".repeats." not in name:
            parts = name.split(".")
            times = depth.count(int(parts[1])) if parts[0] == "blocks" else 1
            weights += times * math.prod(shape)
    return 6.0 * weights + 6.0 * len(depth) * config.model_dim * config.seq_len


def peak_flops(device: torch.device) -> float | None:
    """Return dense bfloat16 FLOP/s of a GPU; None for a device that PEAKS does not list."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Utilization:
    """Model FLOPs utilization of a step: operations a second over the peak of all ranks' devices."""

    def __init__(self, preset: Preset, ranks: Ranks) -> None:
        self.recipe = preset.recipe
        self.tokens = preset.recipe.batch_tokens
        peak = peak_flops(ranks.device)
        self.peak = None if peak is None else peak * ranks.world
        self.flops = {on: flops_per_token(preset.model, on) for on in (False, True)}

    def __call__(self, step: StepRecord) -> float | None:
        """Return the fraction 0…1 of a step, or None when the peak is not known."""
        if self.peak is None:
            return None
        recurrent = self.recipe.recurrent_at(step.progress, step.step)
        return self.tokens * self.flops[recurrent] / max(step.step_seconds, 1e-9) / self.peak
