"""What a packed model costs, tensor by tensor and role by role, and what other bits would cost.

Two quantizations are looked at: the one that is packed, and one whose steps are COARSER octaves larger.
Between them a tensor's rate and loss follow `squeeze.calib.allocation.sensitivity`; how far the
cost of a role is from the quadratic model is measured, because some are far: at two bits an mlp
whose units revive costs twice the model's figure, and so does an embedding at any rate
(docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from squeeze.artifact.streams import Tensor
from squeeze.calib.allocation.allocate import COARSEST
from squeeze.calib.allocation.sensitivity import Curve, curve
from squeeze.calib.parallel import map_single_threaded
from squeeze.calib.text.sources import Sequences
from squeeze.checkpoint.read import LoadedModel
from squeeze.packing.fit import SCOUT_STATES, Fitted, at_scales
from squeeze.packing.plan import RoleCost, tensor_plans
from squeeze.packing.quantizer import Quantizer
from squeeze.tensors.quantized import QuantizedTensor
from squeeze.tensors.roles import role_of
from squeeze.train.model.gpt import GPT

COARSER = 2.0  # octaves of the scale, about as many bits a weight
MEASURED = 8192  # tokens of calibration text on which the cost of all is measured,
MEASURED_ROLES = 2048  # and that of each role: it varies by about its mean from token to token
MODELS_IN_FLIGHT = 4  # copies of the model with one role quantized, at most
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Known:
    """A quantization: its tensors, bits a weight of each and expected loss of each, nats per token."""

    tensors: Mapping[str, Tensor]
    bits: Mapping[str, float]
    losses: Mapping[str, float]


def losses_of(quantizer: Quantizer, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Expected nats per token that each matrix's quantization adds."""
    losses = map_single_threaded(
        lambda name: quantizer.curvature.loss(name, tensors[name]), list(tensors), CPU
    )
    return dict(zip(tensors, losses, strict=True))


def known_of(quantizer: Quantizer, fitted: Fitted) -> Known:
    """What is known of a file."""
    bits = {t.name: t.bits for t in tensor_plans(fitted.data)}
    return Known(fitted.tensors, bits, losses_of(quantizer, fitted.tensors))


def coarser(quantizer: Quantizer, fitted: Fitted) -> Known:
    """What is known of the same model in steps COARSER octaves larger, by the fastest trellis."""
    scout = quantizer.with_states(min(SCOUT_STATES, quantizer.n_states))
    return known_of(scout, at_scales(scout, {n: s * 2**COARSER for n, s in fitted.scales.items()}))


def curves_of(
    quantizer: Quantizer, scales: Mapping[str, float], here: Known, there: Known
) -> dict[str, Curve]:
    """Rate and loss at other scales, through both points, of the matrices that have codes and bits."""
    curves = {}
    for name, tensor in here.tensors.items():
        if isinstance(tensor, QuantizedTensor) and scales[name] < COARSEST:
            known = {
                octaves: (point.bits[name], point.losses[name])
                for octaves, point in ((0.0, here), (COARSER, there))
            }
            weights, prepared = quantizer.contents.matrices[name], quantizer.curvature.prepared
            factor, importance = prepared.factors[name], prepared.rows[name].importance
            curves[name] = curve(weights, factor, importance, scales[name], known)
    return curves


def role_costs(
    loaded: LoadedModel, reference: GPT, text: Sequences, versions: Sequence[Known]
) -> tuple[RoleCost, ...]:
    """Expected and measured cost of each role when nothing else is quantized, as in the two versions."""
    roles: dict[str, list[str]] = {}
    for name in versions[0].tensors:
        roles.setdefault(role_of(name), []).append(name)
    rows = _rows(text, MEASURED_ROLES)
    answers = list(map_single_threaded(lambda row: _answer(reference, text, row), rows, CPU))
    tokens = sum(ids.shape[1] for ids, _ in answers)

    def divergence(case: tuple[list[str], Known]) -> float:
        names, version = case
        stored = {name: version.tensors[name].dequantize() for name in names}
        model = GPT.from_tensors(loaded.config, {**loaded.tensors, **stored}).eval()
        return math.fsum(_divergence(answer, model) for answer in answers) / tokens

    cases = [(names, version) for names in roles.values() for version in versions]
    figures = map_single_threaded(divergence, cases, CPU, MODELS_IN_FLIGHT)
    costs = []
    for role, names in roles.items():
        points = []
        for version in versions:
            expected = sum(version.losses[name] for name in names)
            points.append((expected, next(figures)))
        if all(expected > 0 and measured > 0 for expected, measured in points):
            relative = [
                sum(version.losses[name] * 4.0 ** -version.bits[name] for name in names)
                for version in versions
            ]
            costs.append(RoleCost(role, *_fit(points, relative), tuple(points)))
    return tuple(costs)


def _fit(points: Sequence[tuple[float, float]], relative: Sequence[float]) -> tuple[float, float]:
    """Factor and growth ≥ 0 with measured = factor · expected + growth · relative, at both points."""
    (low, cheap), (high, dear) = points
    determinant = low * relative[1] - high * relative[0]
    if determinant:
        factor = (cheap * relative[1] - dear * relative[0]) / determinant
        growth = (low * dear - high * cheap) / determinant
        if factor > 0 and growth >= 0:
            return factor, growth
    return math.sqrt(cheap / low * dear / high), 0.0


def mean_kl(reference: GPT, packed: GPT, text: Sequences, tokens: int = MEASURED) -> float:
    """Mean KL(reference ‖ packed) over next-token distributions, nats per token, on `tokens` tokens."""

    def divergence(row: int) -> float:
        return _divergence(_answer(reference, text, row), packed)

    rows = _rows(text, tokens)
    counted = int(text.lengths[: len(rows)].sum())
    return math.fsum(map_single_threaded(divergence, rows, CPU)) / counted


Answer = tuple[
    torch.Tensor, torch.Tensor
]  # ids int64 [1, T]; logarithms of shares float64 [1, T, V]


def _rows(text: Sequences, tokens: int) -> range:
    """Return the sequences on which a cost is measured."""
    return range(max(1, min(len(text.ids), tokens // text.ids.shape[1])))


@torch.inference_mode()
def _answer(model: GPT, text: Sequences, row: int) -> Answer:
    ids = torch.from_numpy(text.ids[row, : text.lengths[row]].astype("int64"))[None]
    return ids, torch.log_softmax(model(ids).double(), -1)


@torch.inference_mode()
def _divergence(answer: Answer, model: GPT) -> float:
    """Return the summed divergence of a model from the reference's answer."""
    ids, right = answer
    wrong = torch.log_softmax(model(ids).double(), -1)
    return float((right.exp() * (right - wrong)).sum())
