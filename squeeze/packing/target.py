"""Pack to a byte target: without loss if that fits, else calibrated and water-filled.

The presets differ in the states of the trellis: 32 take twice the time of 8 and need 0.02 bit a weight
less for the same loss; 256 would take eight times as long and save 0.016 more (docs/log.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.calib.quantizers.grids import worth_keeping
from squeeze.calib.text.sources import Sequences
from squeeze.checkpoint.read import Checkpoint, LoadedModel
from squeeze.errors import OverBudget, SqueezeError
from squeeze.files import sha256
from squeeze.packing.calibrate import Calibrated, Calibration, OnStage, calibrate, content_key
from squeeze.packing.costs import coarser, curves_of, known_of, losses_of, mean_kl, role_costs
from squeeze.packing.fit import Fitted, OnTrial, at_scales, fit
from squeeze.packing.kept import KeptCodes, OnNote, code_key, hash_of, silent
from squeeze.packing.plan import Plan, kept_plan, tensor_plans
from squeeze.packing.quantizer import QUANTIZED, Model, Quantizer
from squeeze.packing.recipe import LOSSLESS, Recipe, on_grid, quantize_checkpoint
from squeeze.tensors.floats import Float32
from squeeze.tensors.roles import natural_key
from squeeze.train.model.gpt import GPT

PRESETS = {"fast": 8, "best": 32}  # trellis states
BOUND = ("range-planes",)  # 20 times as fast as the word contexts,
NEAR = 0.9  # which make its bytes at most this much fewer

BytesOf = Callable[[npt.NDArray[np.uint16]], npt.NDArray[np.int32]]  # of each token but the first


@dataclass(frozen=True)
class Packed:
    """A file under the target. plan: how, or None when everything fitted without loss."""

    data: bytes
    plan: Plan | None = None

    @property
    def expected(self) -> float:
        """Nats per token by the quadratic model."""
        return self.plan.expected if self.plan else 0.0

    @property
    def measured(self) -> float:
        """Mean KL(fp32 ‖ packed) in nats per token on calibration text."""
        return self.plan.measured if self.plan else 0.0


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
    bytes_of: BytesOf | None = None,
    on_stage: OnStage = lambda name: None,
    on_trial: OnTrial = lambda scale, size: None,
    on_note: OnNote = silent,
) -> Packed:
    """The file of at most `limit` bytes that costs the least expected loss.

    Stages are kept in `folder` (see `squeeze.packing.calibrate`), and so are quantized tensors and
    the plan: a killed pack goes on. bytes_of: a tokenizer's byte table, to give the cost per byte.
    on_note hears of kept files that are damaged or of other settings. Raises OverBudget with the
    smallest possible size when nothing fits.
    """
    exact = without_loss(checkpoint, loaded, limit)
    if exact is not None:
        return Packed(exact)
    if fresh:
        _forget(folder)
    found = calibrate(loaded, calibration, folder, fresh=fresh, on_stage=on_stage, on_note=on_note)
    model = model_of(checkpoint, loaded, found, small_floats)
    settings = hash_of(code_key(), content_key(loaded, calibration))
    kept = KeptCodes(folder / "codes", settings, on_note)
    quantizer = Quantizer(model, found.hessians, found.gradients, PRESETS[preset], kept)
    per_token = _bytes_per_token(found.text, bytes_of) if bytes_of else None
    key, place = hash_of(settings, limit, preset, small_floats, per_token), folder / "plan.json"
    known = _known(checkpoint, quantizer, place, key, on_note)
    if known is not None and known.plan is not None:
        _tidy(kept, known.plan.scales, quantizer)  # a run killed after its plan did not
        return known
    on_stage("fit")
    quantizer, fitted = _with_grids(checkpoint, quantizer, fit(quantizer, limit, on_trial), limit)
    on_stage("measured cost")
    packed = _packed_model(loaded, quantizer.model, fitted)
    measured = mean_kl(found.model, packed, found.text)
    on_stage("cost of other bits")
    here, there = known_of(quantizer, fitted), coarser(quantizer, fitted)
    plan = Plan(
        key,
        sha256(fitted.data),
        len(fitted.data),
        limit,
        fitted.trials,
        sum(here.losses.values()),
        measured,
        per_token,
        tensor_plans(
            fitted.data,
            fitted.scales,
            here.losses,
            curves_of(quantizer, fitted.scales, here, there),
        ),
        role_costs(loaded, found.model, found.text, (here, there)),
    )
    plan.save(place)
    _tidy(kept, fitted.scales, quantizer)
    return Packed(fitted.data, plan)


def help_calibrate(
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    limit: int,
    calibration: Calibration,
    folder: Path,
    *,
    fresh: bool = False,
) -> None:
    """What ranks other than the first do while it runs `pack_to_target`."""
    if without_loss(checkpoint, loaded, limit) is None:
        calibrate(loaded, calibration, folder, fresh=fresh)


def without_loss(checkpoint: Checkpoint, loaded: LoadedModel, limit: int) -> bytes | None:
    """The file with every tensor as it is, or None when it exceeds the limit."""
    exact = quantize_checkpoint(checkpoint.tensors, loaded.config, LOSSLESS)
    if NEAR * len(encode(exact, candidates=BOUND)) > limit:
        return None
    data = encode(exact)
    return data if len(data) <= limit else None


def _with_grids(
    checkpoint: Checkpoint, quantizer: Quantizer, fitted: Fitted, limit: int
) -> tuple[Quantizer, Fitted]:
    """The fit with matrices kept on the grid they were trained on, where the whole loses less by it."""
    grids = _grids(checkpoint, fitted.tensors)
    if not grids:
        return quantizer, fitted
    losses = losses_of(quantizer, fitted.tensors)
    bits = {t.name: 8 * t.bytes for t in tensor_plans(fitted.data)}
    extra = {n: 8 * len(encode(Artifact({}, {n: grid}))) - bits[n] for n, grid in grids.items()}
    weights = {name: matrix.size for name, matrix in quantizer.model.matrices.items()}
    kept = worth_keeping(extra, losses, weights)
    if not kept or len(kept) == len(weights):
        return quantizer, fitted
    other = quantizer.keeping({name: grids[name] for name in kept})
    try:
        again = fit(other, limit)
    except OverBudget:
        return quantizer, fitted
    better = sum(losses_of(other, again.tensors).values()) < sum(losses.values())
    return (other, again) if better else (quantizer, fitted)


def _grids(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, Tensor]:
    found = {name: on_grid(checkpoint.tensors[name]) for name in names}
    return {name: grid for name, grid in found.items() if grid is not None}


def _known(
    checkpoint: Checkpoint, quantizer: Quantizer, place: Path, key: str, on_note: OnNote
) -> Packed | None:
    """What an earlier run with the same key ended with."""
    try:
        plan = kept_plan(place, key)
    except SqueezeError as error:
        on_note(f"made again: {error}")
        return None
    if plan is None:
        return None
    on_grids = quantizer.model.matrices.keys() - plan.scales.keys()
    data = at_scales(quantizer.keeping(_grids(checkpoint, on_grids)), plan.scales).data
    if sha256(data) == plan.sha256:
        return Packed(data, plan)
    on_note(f"{place}: not the plan of this file, made again")
    return None


def _tidy(kept: KeptCodes, scales: Mapping[str, float], quantizer: Quantizer) -> None:
    """Drop codes that the search tried and the file does not hold."""
    kept.keep_only((name, scale, quantizer.n_states) for name, scale in scales.items())


def _bytes_per_token(text: Sequences, bytes_of: BytesOf) -> float:
    parts = [bytes_of(ids[:length]) for ids, length in zip(text.ids, text.lengths, strict=True)]
    counts = sum(len(part) for part in parts)
    return sum(int(part.sum()) for part in parts) / max(counts, 1)


def _forget(folder: Path) -> None:
    (folder / "plan.json").unlink(missing_ok=True)
    for path in (folder / "codes").glob("*"):
        path.unlink(missing_ok=True)


def model_of(
    checkpoint: Checkpoint, loaded: LoadedModel, found: Calibrated, small_floats: str
) -> Model:
    """What is packed: matrices that calibration knows, and the rest as it will be stored."""
    matrices: dict[str, Float32] = {
        name: loaded.tensors[name]
        for name in found.hessians.matrices
        if loaded.tensors[name].size >= QUANTIZED
    }
    rest: dict[str, Tensor] = {n: t for n, t in checkpoint.tensors.items() if n not in matrices}
    stored = quantize_checkpoint(rest, loaded.config, Recipe(small_floats=small_floats))
    order = tuple(sorted(checkpoint.tensors, key=natural_key))
    return Model(matrices, stored.tensors, order, {"model": json.loads(loaded.config.to_json())})


def _packed_model(loaded: LoadedModel, model: Model, fitted: Fitted) -> GPT:
    stored: Artifact = model.artifact(fitted.tensors)
    weights = {name: tensor.dequantize() for name, tensor in stored.tensors.items()}
    return GPT.from_tensors(loaded.config, weights).eval()
