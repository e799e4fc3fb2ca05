"""Pack to a byte target: without loss if that fits, else calibrated and water-filled.

In three steps: the quantizer (`start_of`), the file that fits (`fitted_of`), its cost (`plan_for`). Of a
file that an earlier run planned for the same model and settings only the bytes are made again
(`_resumed`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from squeeze.artifact.file import encode
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.calib.quantizers.grids import worth_keeping
from squeeze.calib.statistics.curvature import damping_at
from squeeze.calib.statistics.tapped import first_ids
from squeeze.calib.taps.coverage import Coverage
from squeeze.calib.taps.layout import SQUARES, Layout
from squeeze.errors import OverBudget, SqueezeError
from squeeze.files import hash_of, sha256
from squeeze.files.sources import code_sha256
from squeeze.packing.calibrate import Calibrated, content_key
from squeeze.packing.costs import (
    MEASURED,
    bytes_per_token,
    curves_of,
    losses_of,
    measured_divergence,
    quantization_of,
    quantizations_beside,
    role_costs,
)
from squeeze.packing.curvature import CheapCurvature
from squeeze.packing.fit import Fitted, at_scales, fit, fit_or_explain
from squeeze.packing.kept import KeptCodes, forget
from squeeze.packing.machine import this_machine
from squeeze.packing.measured import Measured
from squeeze.packing.packed import Packed
from squeeze.packing.plan import Plan, RoleCost, kept_plan, tensor_plans
from squeeze.packing.presets import TARGETS
from squeeze.packing.quantizer import QUANTIZED, Quantizer
from squeeze.packing.recipe import as_floats, contents_of, on_grid
from squeeze.packing.request import PackRequest
from squeeze.packing.session import Session, exact_or
from squeeze.reporter import Reporter
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece


def pack_to_target(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the file that costs the least expected loss of those that the limit has room for.

    The cache keeps the stages of `squeeze.packing.calibrate`, quantized tensors and the plan.
    The reporter gets a note for each kept file that is damaged or of other settings. Raises OverBudget
    with the smallest possible size when nothing fits.
    """
    return exact_or(packed_to, piece, request, reporter)


@dataclass(frozen=True)
class Start:
    """Start of the search for a file of at most `limit` bytes.

    key: hash of everything that the plan depends on
    plan_path: file that keeps the plan
    per_token: bytes of text in a token, None where no tokenizer was given
    """

    piece: Workpiece
    calibrated: Calibrated
    quantizer: Quantizer
    kept_codes: KeptCodes
    limit: int
    key: str
    plan_path: Path
    per_token: float | None


def packed_to(session: Session, calibrated: Calibrated, limit: int) -> Packed:
    """Return the file of an earlier run's plan, or search for one."""
    if session.request.fresh:
        forget(session.folder)
    start = start_of(session, calibrated, limit)
    resumed = _resumed(start, session.reporter)
    if resumed is not None:
        return resumed
    with session.reporter.stage("fit") as stage:
        quantizer, fitted = fitted_of(start, stage)
        start, quantizer, fitted = without_zero_rows(start, quantizer, fitted, stage)
    plan = plan_for(start, quantizer, fitted, session.reporter)
    plan.save(start.plan_path)
    tidy(start, plan)
    return Packed(fitted.data, plan=plan)


def start_of(session: Session, calibrated: Calibrated, limit: int) -> Start:
    """Return the start of the search, in the session's folder."""
    piece, request, folder = session.piece, session.request, session.folder
    contents = contents_of(
        piece, calibrated.layout, request.small_floats, roles=calibrated.layout.roles
    )
    damping = damping_at(8 * limit / max(piece.weights, 1))
    curvature = CheapCurvature.of(
        contents.matrices, calibrated.hessians, calibrated.gradients, damping
    )
    settings = hash_of(code_sha256(), content_key(piece, session.settings))
    # of the limit they depend on the damping, and on the order of units, which is in the content key
    kept_codes = KeptCodes(folder / "codes", hash_of(settings, damping), session.reporter)
    per_token = None
    if request.bytes_of is not None:
        per_token = bytes_per_token(calibrated.text, request.bytes_of)
    return Start(
        piece=piece,
        calibrated=calibrated,
        quantizer=Quantizer(contents, curvature, TARGETS[request.preset].states, kept_codes),
        kept_codes=kept_codes,
        limit=limit,
        key=hash_of(settings, limit, request.preset, request.small_floats, per_token),
        plan_path=folder / "plan.json",
        per_token=per_token,
    )


def _resumed(start: Start, reporter: Reporter) -> Packed | None:
    """Return the file of the plan that an earlier run kept under the same key, if there is one."""
    try:
        plan = kept_plan(start.plan_path, start.key)
    except SqueezeError as error:
        reporter.note(f"made again: {error}")
        return None
    if plan is None:
        return None
    fixed = start.quantizer.contents.matrices.keys() - plan.scales.keys()
    layout = start.calibrated.layout
    grids = _grids(start.piece, layout, fixed)
    floats = _floats(start.piece, layout, fixed - grids.keys())
    quantizer = start.quantizer.with_fixed({**grids, **floats})
    data = at_scales(quantizer, plan.scales).data
    if sha256(data) != plan.sha256:
        reporter.note(f"{start.plan_path}: not the plan of this file, made again")
        return None
    # a run that was killed after it wrote the plan did not tidy up
    tidy(start, plan)
    return Packed(data, plan=plan)


def fitted_of(start: Start, reporter: Reporter) -> tuple[Quantizer, Fitted]:
    """Return the file that fits, and its quantizer.

    Matrices stay on the grid that they were trained on where the whole loses less by it.
    """
    quantizer, limit = start.quantizer, start.limit
    fitted = fit_or_explain(quantizer, limit, reporter)
    grids = _grids(start.piece, start.calibrated.layout, fitted.tensors)
    if not grids:
        return quantizer, fitted
    losses = losses_of(quantizer, fitted.tensors)
    bits = {tensor.name: 8 * tensor.bytes for tensor in tensor_plans(fitted.data)}
    extra = {n: 8 * len(encode(Artifact({}, {n: grid}))) - bits[n] for n, grid in grids.items()}
    weights = {name: matrix.size for name, matrix in quantizer.contents.matrices.items()}
    on_grids = worth_keeping(extra, losses, weights)
    if not on_grids or len(on_grids) == len(weights):
        return quantizer, fitted
    with_grids = quantizer.with_fixed({name: grids[name] for name in on_grids})
    try:
        refitted = fit(with_grids, limit)
    except OverBudget:
        return quantizer, fitted
    if sum(losses_of(with_grids, refitted.tensors).values()) < sum(losses.values()):
        return with_grids, refitted
    return quantizer, fitted


def without_zero_rows(
    start: Start, quantizer: Quantizer, fitted: Fitted, reporter: Reporter
) -> tuple[Start, Quantizer, Fitted]:
    """Return the file again, without rows of zeros where the model divides by them.

    Weights that are derived before use, by weight norm say, may be; those matrices keep floats.
    """
    matrices = start.calibrated.layout.matrices
    zero = [
        name
        for name, tensor in fitted.tensors.items()
        if matrices[name].how == SQUARES and not tensor.dequantize().any(1).all()
    ]
    model = _model_of(start.calibrated.subject, quantizer, fitted)
    ids = first_ids(start.calibrated.text, model.device)
    with torch.no_grad():
        if not zero or bool(model.run(model.module, ids).isfinite().all()):
            return start, quantizer, fitted
    reporter.note(f"{', '.join(zero[:4])} kept as floats: the model divides by their rows")
    stored = _floats(start.piece, start.calibrated.layout, zero)
    start = replace(start, quantizer=start.quantizer.with_fixed(stored))
    return start, *fitted_of(start, reporter)


def plan_for(
    start: Start, quantizer: Quantizer, fitted: Fitted, reporter: Reporter, untuned: int = 0
) -> Plan:
    """Return the plan of a file: its cost, expected and measured, and that of other bits.

    untuned: of a tuned file the tokens, first in the text, that it was not tuned on. Roles of such a
        file make up for one another, so that none has a cost of its own
    """
    calibrated = start.calibrated
    measured = measured_cost(start, quantizer, fitted, reporter, untuned or MEASURED)
    with reporter.stage("cost of other bits") as stage:
        packed = quantization_of(quantizer, fitted)
        versions = [packed, *quantizations_beside(quantizer, fitted, calibrated.layout)]
        curves = curves_of(quantizer, fitted.scales, versions)
        costs: tuple[tuple[RoleCost, ...], ...] = ()
        if not untuned:
            costs = role_costs(start.piece, calibrated, versions, stage)
    return Plan(
        key=start.key,
        sha256=sha256(fitted.data),
        size=len(fitted.data),
        limit=start.limit,
        trials=fitted.trials,
        expected=sum(packed.losses.values()),
        measured=measured.mean,
        measured_tokens=measured.tokens,
        measured_error=measured.error,
        features=calibrated.divergence.features,
        bytes_per_token=start.per_token,
        tensors=tensor_plans(
            fitted.data, fitted.scales, packed.losses, curves, calibrated.layout.roles
        ),
        roles=costs[0] if costs else (),
        finer_roles=costs[1] if len(costs) > 1 else (),
        machine=this_machine(str(calibrated.subject.device)),
        coverage=Coverage.of(calibrated.layout, QUANTIZED).as_json(),
    )


def measured_cost(
    start: Start, quantizer: Quantizer, fitted: Fitted, reporter: Reporter, tokens: int
) -> Measured:
    """Return the mean divergence of a file in nats per token, on the first `tokens` of the text."""
    reference, text = start.calibrated.subject, start.calibrated.text
    packed = _model_of(reference, quantizer, fitted)
    divergence = start.calibrated.divergence
    return measured_divergence(reference, packed, text, divergence, tokens, reporter)


def _model_of(reference: Subject, quantizer: Quantizer, fitted: Fitted) -> Subject:
    stored = whole_tensors(quantizer.contents.artifact(fitted.tensors))
    return reference.with_weights({name: tensor.dequantize() for name, tensor in stored.items()})


def _grids(piece: Workpiece, layout: Layout, names: Iterable[str]) -> dict[str, Tensor]:
    """Return those of the matrices that lie on a grid, as its codes."""
    return {n: grid for n in names if (grid := on_grid(piece.matrix(n, layout))) is not None}


def _floats(piece: Workpiece, layout: Layout, names: Iterable[str]) -> dict[str, Tensor]:
    """Return matrices as floats of 16 bits."""
    return as_floats({name: piece.matrix(name, layout) for name in names}, "fp16")


def tidy(start: Start, plan: Plan) -> None:
    """Remove codes that the search tried and that are not in the file."""
    states = start.quantizer.n_states
    start.kept_codes.keep_only((name, scale, states) for name, scale in plan.scales.items())
