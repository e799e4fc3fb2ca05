"""Pack as a record entry of the challenge did: for comparisons with `target` in one command.

Quantizer, clips and coder are the entry's (`squeeze.packing.records`); the container is ours, which
costs an entry nothing: under a kilobyte where torch.save takes more. Not there: the lrzip binary of
#1855 and its row sort, the groups of 128 of the ternary entry (one step a row instead), and
low-rank corrections, which are priced instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact, OnStream, Tensor
from squeeze.calib.quantizers.low_rank import low_rank
from squeeze.calib.statistics.fisher import OutputGradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.checkpoint.read import Checkpoint, LoadedModel
from squeeze.packing.calibrate import Calibration, OnStage, calibrate
from squeeze.packing.kept import OnNote, silent
from squeeze.packing.recipe import Recipe, quantize_checkpoint
from squeeze.packing.records import RECORDS, quantize_record
from squeeze.tensors.floats import Float32
from squeeze.tensors.roles import natural_key

CORRECTED, RANK = 3, 4  # tensors of #1855 with a low-rank correction, and its rank
WIDEST = 2048  # rows of a matrix that is priced: an embedding's square root would take minutes


@dataclass(frozen=True)
class Correction:
    """What the low-rank corrections that were left out would cost: bytes, and nats per token saved."""

    tensors: tuple[str, ...]
    bytes: int
    saved: float


@dataclass(frozen=True)
class Recorded:
    """The file; and for `record-1855` the price of what is not in it."""

    data: bytes
    correction: Correction | None = None


def pack_record(
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    name: str,
    calibration: Calibration,
    folder: Path,
    *,
    small: int = 65_536,
    small_floats: str = "fp16",
    fresh: bool = False,
    on_stage: OnStage = lambda name: None,
    on_note: OnNote = silent,
    on_stream: OnStream | None = None,
) -> Recorded:
    """The model as the record `name` stores it; calibrated only where the record does.

    small: tensors of at most so many elements stay floats. Raises BadConfig when a value does not fit
    its float format.
    """
    record = RECORDS[name]
    matrices = {
        tensor: weights
        for tensor, weights in loaded.tensors.items()
        if weights.ndim == 2 and weights.size > small
    }
    rest: dict[str, Tensor] = {n: t for n, t in checkpoint.tensors.items() if n not in matrices}
    others = quantize_checkpoint(rest, loaded.config, Recipe(small_floats=small_floats)).tensors
    found = None
    hessians: dict[str, Float32] = {}
    if record.hessian:
        found = calibrate(
            loaded, calibration, folder, fresh=fresh, on_stage=on_stage, on_note=on_note
        )
        hessians = found.hessians.matrices
    quantized: dict[str, Tensor] = {}
    for tensor, weights in matrices.items():
        hessian = hessians.get(tensor)
        if hessian is None:  # not asked for, or a table that is looked up: errors count alike
            hessian = np.eye(weights.shape[1], dtype=np.float32)
        quantized[tensor] = quantize_record(tensor, weights, hessian, record)
    every = {**others, **quantized}
    artifact = Artifact(
        {"model": json.loads(loaded.config.to_json())},
        {tensor: every[tensor] for tensor in sorted(every, key=natural_key)},
    )
    data = encode(artifact, candidates=record.coders, on_stream=on_stream)
    correction = None
    if name == "record-1855" and found is not None:
        errors = {n: weights - quantized[n].dequantize() for n, weights in matrices.items()}
        correction = _price(errors, found.hessians, found.gradients)
    return Recorded(data, correction)


def _price(
    errors: dict[str, Float32], hessians: Hessians, gradients: OutputGradients
) -> Correction:
    """Of the matrices with the largest errors."""
    narrow = [n for n, e in errors.items() if len(e) <= WIDEST and n in hessians.matrices]
    chosen = sorted(narrow, key=lambda n: -float(np.square(errors[n]).sum()))[:CORRECTED]
    found = [
        low_rank(
            errors[name], hessians.matrices[name], gradients.best(name),
            min(RANK, *errors[name].shape),
        )
        for name in chosen
    ]  # fmt: skip
    saved = sum(correction.before - correction.after for correction in found)
    return Correction(tuple(chosen), sum(correction.bytes for correction in found), saved)
