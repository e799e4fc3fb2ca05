"""Pack to a byte target: without loss if that fits, else calibrated and water-filled.

The presets differ in the states of the trellis: 8 are searched in a tenth of the time of 256 and need
0.04 bit a weight more for the same error (docs/trellis.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from squeeze.artifact import Tensor, encode
from squeeze.calib.floats import Float32
from squeeze.calib.text import Sequences
from squeeze.calibrate import Calibration, OnStage, calibrate
from squeeze.checkpoint import Checkpoint, LoadedModel
from squeeze.fit import QUICK, Fitted, Model, OnTrial, Quantizer, fit
from squeeze.pack import LOSSLESS, Recipe, quantize_checkpoint
from squeeze.roles import natural_key
from squeeze.train.model import GPT

PRESETS = {"fast": 8, "best": 256}  # trellis states
QUANTIZED = 1024  # matrices of fewer weights stay floats: they cost little
MEASURED = 8192  # tokens of calibration text on which the cost is measured


@dataclass(frozen=True)
class Packed:
    """A file under the target. fitted: how, or None when everything fitted without loss.

    expected: nats per token by the quadratic model; measured: mean KL(fp32 ‖ packed) in nats per token
    on calibration text.
    """

    data: bytes
    fitted: Fitted | None = None
    expected: float = 0.0
    measured: float = 0.0


def pack_to_target(
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    limit: int,
    preset: str,
    calibration: Calibration,
    folder: Path,
    *,
    small_floats: str = "fp16",
    fresh: bool = False,
    on_stage: OnStage = lambda name: None,
    on_trial: OnTrial = lambda scale, size: None,
) -> Packed:
    """The file of at most `limit` bytes that costs the least expected loss.

    Stages are kept in `folder` (see `squeeze.calibrate`). Raises OverBudget with the smallest possible
    size when nothing fits.
    """
    exact = quantize_checkpoint(checkpoint.tensors, loaded.config, LOSSLESS)
    if len(encode(exact, candidates=QUICK)) <= limit:
        return Packed(encode(exact))
    found = calibrate(loaded, calibration, folder, fresh=fresh, on_stage=on_stage)
    matrices = {
        name: loaded.tensors[name]
        for name in found.hessians.matrices
        if loaded.tensors[name].size >= QUANTIZED
    }
    model = _model(checkpoint, loaded, matrices, small_floats)
    quantizer = Quantizer(model, found.hessians, found.gradients, PRESETS[preset])
    fitted = fit(quantizer, limit, on_trial)
    weights = {name: tensor.dequantize() for name, tensor in fitted.artifact.tensors.items()}
    packed = GPT.from_tensors(loaded.config, weights).eval()
    measured = mean_kl(found.model, packed, found.text)
    return Packed(fitted.data, fitted, sum(fitted.losses.values()), measured)


def _model(
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    matrices: dict[str, Float32],
    small_floats: str,
) -> Model:
    rest: dict[str, Tensor] = {n: t for n, t in checkpoint.tensors.items() if n not in matrices}
    stored = quantize_checkpoint(rest, loaded.config, Recipe(small_floats=small_floats))
    order = tuple(sorted(checkpoint.tensors, key=natural_key))
    return Model(matrices, stored.tensors, order, {"model": json.loads(loaded.config.to_json())})


@torch.inference_mode()
def mean_kl(reference: GPT, packed: GPT, text: Sequences) -> float:
    """Mean KL(reference ‖ packed) over next-token distributions, nats per token, on MEASURED tokens."""
    rows = max(1, min(len(text.ids), MEASURED // text.ids.shape[1]))
    total, count = 0.0, 0
    for ids, length in zip(text.ids[:rows], text.lengths[:rows], strict=True):
        tokens = torch.from_numpy(ids[None, :length].astype("int64"))
        right = torch.log_softmax(reference(tokens).double(), -1)
        wrong = torch.log_softmax(packed(tokens).double(), -1)
        total += float((right.exp() * (right - wrong)).sum())
        count += int(length)
    return total / count
