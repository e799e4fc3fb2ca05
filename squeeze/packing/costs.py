"""Cost of a packed model, tensor by tensor and role by role, and cost of other bits.

Quantizations are compared: the packed one, one whose steps are some octaves larger and, where there are
few bits, one in smaller steps (`quantizations_beside`). Between them a tensor's rate and loss follow
`squeeze.calib.allocation.sensitivity`. The cost of each role is measured as well, because some are far
from the quadratic model: at two bits an mlp whose units revive costs twice the model's figure, and so
does an embedding at any rate (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product

import numpy as np
import torch

from squeeze.artifact.container import FEW_WEIGHTS, WEIGHTS_PER_BYTE
from squeeze.artifact.streams import Tensor
from squeeze.calib.allocation.allocate import COARSEST
from squeeze.calib.allocation.sensitivity import Curve, curve
from squeeze.calib.parallel import map_single_threaded
from squeeze.calib.statistics.divergence import Categorical, Divergence
from squeeze.calib.statistics.tapped import ids_of
from squeeze.calib.taps.layout import Layout
from squeeze.calib.text.sources import Sequences
from squeeze.errors import BadCheckpoint
from squeeze.packing.calibrate import Calibrated
from squeeze.packing.fit import SCOUT_STATES, Fitted, at_scales
from squeeze.packing.measured import Measured
from squeeze.packing.plan import RoleCost, tensor_plans
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.request import BytesOf
from squeeze.reporter import SILENT, Reporter
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import QuantizedTensor

BESIDE = 2.0  # octaves of the scale, about as many bits a weight
# Tokens of calibration text on which the cost of all and of each role is measured; it varies by about
# its mean from token to token.
MEASURED = 8192
MEASURED_ROLES = 1024
SAMPLED = 4  # matrices of a role that are quantized in other steps; the others follow the formula
MODELS_IN_FLIGHT = 4  # copies of the model with one role quantized, at most
CPU = torch.device("cpu")
KL = Categorical()


@dataclass(frozen=True)
class Quantization:
    """A quantization of a model, by tensor name.

    bits: per weight
    losses: expected nats per token that the rounding of each tensor adds
    octaves: of its scale above the packed one
    """

    tensors: Mapping[str, Tensor]
    bits: Mapping[str, float]
    losses: Mapping[str, float]
    octaves: float = 0.0


def losses_of(quantizer: Quantizer, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the expected nats per token that the quantization of each matrix adds."""
    losses = map_single_threaded(
        lambda name: quantizer.curvature.loss(name, tensors[name]), list(tensors), CPU
    )
    return dict(zip(tensors, losses, strict=True))


def quantization_of(quantizer: Quantizer, fitted: Fitted, octaves: float = 0.0) -> Quantization:
    """Return the quantization that a file holds."""
    bits = {t.name: t.bits for t in tensor_plans(fitted.data)}
    losses = losses_of(quantizer, fitted.tensors)
    return Quantization(fitted.tensors, bits, losses, octaves)


def quantizations_beside(
    quantizer: Quantizer, fitted: Fitted, layout: Layout
) -> list[Quantization]:
    """Return those with which a file's costs are compared: in coarser steps and, of few bits, in finer.

    With fewer than BESIDE bits a weight nearly nothing is left of coarser steps, and their cost says
    nothing of finer ones: from half a bit 6 times too much was foreseen for two bits (docs/log.md).
    """
    few = 8 * len(fitted.data) < BESIDE * sum(quantizer.weight_counts.values())
    octaves = (BESIDE, -BESIDE) if few else (BESIDE,)
    return [_quantization_beside(quantizer, fitted, layout, each) for each in octaves]


def _quantization_beside(
    quantizer: Quantizer, fitted: Fitted, layout: Layout, octaves: float
) -> Quantization:
    """Return some matrices of each role in steps so many octaves larger, by the fastest trellis.

    None of them where no file may hold so many weights in so few bytes (docs/format.md, §2).
    """
    scout = quantizer.with_states(min(SCOUT_STATES, quantizer.n_states))
    roles = _by_role(fitted.scales, layout).values()
    sampled = [name for names in roles for name in _spread(names, SAMPLED)]
    scout = scout.only(sampled)
    scales = {name: fitted.scales[name] * 2**octaves for name in sampled}
    beside = at_scales(scout, scales)
    weights = sum(scout.weight_counts.values())
    if weights > max(FEW_WEIGHTS, WEIGHTS_PER_BYTE * len(beside.data)):
        return Quantization({}, {}, {})
    return quantization_of(scout, beside, octaves)


def curves_of(
    quantizer: Quantizer,
    scales: Mapping[str, float],
    versions: Sequence[Quantization],
) -> dict[str, Curve]:
    """Return rate and loss at other scales, of the matrices that have codes which are not all zero.

    versions: the packed quantization at `scales`, and others of some matrices; the curves pass through
        all
    """
    curves = {}
    for name, tensor in versions[0].tensors.items():
        if isinstance(tensor, QuantizedTensor) and scales[name] < COARSEST:
            measured = {
                version.octaves: (version.bits[name], version.losses[name])
                for version in versions
                if name in version.tensors
            }
            weights, prepared = quantizer.contents.matrices[name], quantizer.curvature.prepared
            factor, importance = prepared.factors[name], prepared.rows[name].importance
            curves[name] = curve(weights, factor, importance, scales[name], measured)
    return curves


def role_costs(
    piece: Workpiece,
    calibrated: Calibrated,
    versions: Sequence[Quantization],
    reporter: Reporter = SILENT,
) -> tuple[tuple[RoleCost, ...], ...]:
    """Return the expected and measured cost of each role when nothing else is quantized.

    versions: the packed quantization and others of some of its matrices; with each other the costs of
        the roles go through the packed and through its own
    reporter: counts the models that are measured
    """
    roles = _by_role(versions[0].tensors, calibrated.layout)
    text, subject, divergence = calibrated.text, calibrated.subject, calibrated.divergence
    rows = _rows(text, MEASURED_ROLES)
    device = subject.device
    answers = list(map_single_threaded(lambda row: _answer(subject, text, row), rows, device))
    tokens = sum(ids.shape[1] for ids, _ in answers)

    def measured_cost(case: tuple[str, int]) -> float:
        role, version = case
        tensors = versions[version].tensors
        stored = {name: tensors[name] for name in roles[role] if name in tensors}
        model = subject.with_weights(piece.replaced(stored, calibrated.layout))
        mean = math.fsum(_divergence(answer, model, divergence) for answer in answers) / tokens
        stage.advance()
        return mean

    cases = list(product(roles, range(len(versions))))
    with reporter.stage("cost of each role", len(cases), "models") as stage:
        figures = list(map_single_threaded(measured_cost, cases, device, MODELS_IN_FLIGHT))
    measured = dict(zip(cases, figures, strict=True))

    def costs_with(other: int) -> Iterator[RoleCost]:
        for role, names in roles.items():
            pair = (measured[role, 0], measured[role, other])
            cost = _role_cost(role, names, (versions[0], versions[other]), pair)
            if cost is not None:
                yield cost

    return tuple(tuple(costs_with(other)) for other in range(1, len(versions)))


def _role_cost(
    role: str, names: Sequence[str], versions: Sequence[Quantization], measured: Sequence[float]
) -> RoleCost | None:
    """Return the cost of a role in two quantizations; None where one of them says nothing."""
    losses = [
        {name: version.losses[name] for name in names if name in version.losses}
        for version in versions
    ]
    points = tuple(zip((sum(part.values()) for part in losses), measured, strict=True))
    if not all(expected > 0 and 0 < real < math.inf for expected, real in points):
        return None
    relative = [
        sum(loss * 4.0 ** -version.bits[name] for name, loss in part.items())
        for version, part in zip(versions, losses, strict=True)
    ]
    return RoleCost(role, *_fit(points, relative), points)


def _by_role(names: Iterable[str], layout: Layout) -> dict[str, list[str]]:
    """Return names of matrices by their role, in their order."""
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(layout.roles[name], []).append(name)
    return roles


def _spread(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the names, spread evenly over all."""
    count = min(most, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def _fit(points: Sequence[tuple[float, float]], relative: Sequence[float]) -> tuple[float, float]:
    """Return factor and growth ≥ 0 with measured = factor·expected + growth·relative at both points."""
    (first, cheap), (second, dear) = points
    determinant = first * relative[1] - second * relative[0]
    if determinant:
        factor = (cheap * relative[1] - dear * relative[0]) / determinant
        growth = (first * dear - second * cheap) / determinant
        if factor > 0 and growth >= 0:
            return factor, growth
    return math.sqrt(cheap / first * dear / second), 0.0


def measured_divergence(
    reference: Subject,
    packed: Subject,
    text: Sequences,
    divergence: Divergence = KL,
    tokens: int = MEASURED,
    reporter: Reporter = SILENT,
) -> Measured:
    """Return the mean divergence of a packed model from its reference on `tokens` tokens, in nats.

    reporter: counts sequences
    """

    def measured(row: int) -> list[float]:
        nats: list[float] = _divergences(_answer(reference, text, row), packed, divergence).tolist()
        stage.advance()
        return nats

    rows = _rows(text, tokens)
    with reporter.stage("measured cost", len(rows), "sequences") as stage:
        parts = map_single_threaded(measured, rows, reference.device)
        # added exactly: sums of torch may depend on the number of threads
        each = list(chain.from_iterable(parts))
    counted = len(each)
    mean = math.fsum(each) / counted
    if not math.isfinite(mean):
        raise BadCheckpoint(
            "the packed model's outputs are not numbers",
            expected="outputs that are finite near the model's weights",
            found="NaN or infinity",
            fix="Divide by no weight that may become zero, or raise --limit.",
        )
    squares = math.fsum((nats - mean) ** 2 for nats in each)
    return Measured(mean, counted, math.sqrt(squares / max(counted - 1, 1) / counted))


# ids int64 [1, T], and the outputs of the reference [T, V]
Answer = tuple[torch.Tensor, torch.Tensor]


def _rows(text: Sequences, tokens: int) -> range:
    """Return the sequences on which a cost is measured."""
    return range(max(1, min(len(text.ids), tokens // text.length)))


def _answer(subject: Subject, text: Sequences, row: int) -> Answer:
    """Return a model's answer to one sequence."""
    ids = ids_of(text, np.array([row]), subject.device)
    return ids, subject.logits(ids)[0]


def _divergence(answer: Answer, model: Subject, divergence: Divergence) -> float:
    """Return the summed divergence of a model from the reference's answer; NaN where it has none."""
    return float(_divergences(answer, model, divergence).sum())


@torch.no_grad()
def _divergences(answer: Answer, model: Subject, divergence: Divergence) -> torch.Tensor:
    """Return the divergence of a model from the reference's answer at each token, float64 [T]."""
    ids, right = answer
    wrong = model.run(model.module, ids)[0].float()
    return divergence.between(right, wrong)


def bytes_per_token(text: Sequences, bytes_of: BytesOf) -> float:
    """Return the mean bytes of text in a calibration token."""
    counts = np.concatenate([bytes_of(ids) for ids in text.ids])
    return int(counts.sum()) / max(len(counts), 1)
