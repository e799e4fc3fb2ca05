"""Land a file just under its limit: one scale for all tensors, then single tensors a little finer.

With water-filled steps (`squeeze.calib.waterfill`) every tensor has the same slope of loss against
bits, so the best allocation for any size is one number. It is found with the real bytes of encoded
files; an estimate only says where to look next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from squeeze.errors import OverBudget

T = TypeVar("T")

SLACK = 200  # bytes under the limit that are good enough
MAX_TRIALS = 12  # quantizations of the whole model; three or four are usual
MAX_FILLS = 40  # quantizations of single tensors that follow
CLOSE_ENOUGH = 0.001  # share of the limit that single tensors can make up
FARTHEST = 4.0  # octaves from one trial to the next while all lie on one side
CLOSEST = 0.002  # octaves between two trials beyond which a jump of the size lies between them
HALVE_AFTER = 5  # trials; by then a line through both sides has met a jump
LARGEST_FILL = 0.25  # octaves by which a single tensor's steps may leave the others'
LIMITS = -60.0, 60.0  # log2 of the finest and the coarsest scale
SCARCE = 0.5  # bits a weight; below, ask first whether anything fits
COARSEST = math.inf


@dataclass(frozen=True)
class Allocation(Generic[T]):
    """tensors: what to store; scales: of each; size: real bytes in all; trials: whole quantizations."""

    tensors: dict[str, T]
    scales: dict[str, float]
    size: int
    trials: int


def allocate(
    weights: Mapping[str, int],
    quantize: Callable[[Mapping[str, float]], dict[str, T]],
    measure: Callable[[Mapping[str, T]], int],
    estimate: Callable[[float], float],
    limit: int,
    *,
    slack: int = SLACK,
    on_trial: Callable[[float, int], None] = lambda scale, size: None,
) -> Allocation[T]:
    """The finest common scale whose file fits, filled up to at most `slack` bytes under the limit.

    weights: number of weights of each tensor. quantize: tensors at their scales; COARSEST (∞) means
    as coarse as can be. measure: real bytes of all that counts, given every tensor. estimate: roughly
    the bytes at a common scale, falling until nothing is left to gain; only differences matter.
    on_trial(scale, bytes) hears of every whole quantization.

    When the finest scale fits, that is the result, however far under the limit. Raises OverBudget
    with the smallest possible size when even the coarsest file does not fit.
    """
    search = _Search(weights, quantize, measure, limit, on_trial)
    if 8 * limit < SCARCE * sum(weights.values()):
        search.coarsest()
    best = _whole_model(search, estimate, limit, slack)
    return _fill(search, best, limit, slack)


class _Search(Generic[T]):
    def __init__(
        self,
        weights: Mapping[str, int],
        quantize: Callable[[Mapping[str, float]], dict[str, T]],
        measure: Callable[[Mapping[str, T]], int],
        limit: int,
        on_trial: Callable[[float, int], None],
    ) -> None:
        self.weights, self.quantize, self.measure = weights, quantize, measure
        self.limit, self.on_trial, self.trials = limit, on_trial, 0

    def whole(self, scale: float) -> Allocation[T]:
        """All tensors at one scale."""
        scales = dict.fromkeys(self.weights, scale)
        tensors = self.quantize(scales)
        size = self.measure(tensors)
        self.trials += 1
        self.on_trial(scale, size)
        return Allocation(tensors, scales, size, self.trials)

    def coarsest(self) -> Allocation[T]:
        """All tensors as coarse as can be; raises OverBudget when that does not fit."""
        trial = self.whole(COARSEST)
        if trial.size <= self.limit:
            return trial
        raise OverBudget(
            "nothing fits this limit",
            expected=f"{self.limit:,} bytes",
            found=f"at least {trial.size:,} bytes, the smallest possible size: every matrix zero",
            fix="Raise the limit, or shrink the code or the model.",
        )

    def changed(self, base: Allocation[T], name: str, scale: float) -> Allocation[T]:
        """`base` with one tensor at another scale."""
        tensors = {**base.tensors, **self.quantize({name: scale})}
        return Allocation(tensors, {**base.scales, name: scale}, self.measure(tensors), self.trials)


def _whole_model(
    search: _Search[T], estimate: Callable[[float], float], limit: int, slack: int
) -> Allocation[T]:
    """The largest file under the limit that a few common scales lead to."""
    best: Allocation[T] | None = None
    finer: tuple[float, int] | None = None  # (log2 of the scale, bytes) on either side of the limit
    coarser: tuple[float, int] | None = None
    tolerance = max(slack, CLOSE_ENOUGH * limit)
    aim = limit - 0.4 * tolerance
    octave = _solve(estimate, aim)
    while search.trials < MAX_TRIALS:
        trial = search.whole(2.0**octave)
        if trial.size <= limit:
            coarser = (octave, trial.size)
            if best is None or trial.size > best.size:
                best = trial
            if limit - trial.size <= tolerance or octave <= LIMITS[0] + 1:
                break
        else:
            finer = (octave, trial.size)
        if finer and coarser:
            if coarser[0] - finer[0] < CLOSEST and best is not None:
                break
            octave = _between(finer, coarser, aim)
            if search.trials >= HALVE_AFTER:
                octave = (finer[0] + coarser[0]) / 2
        else:
            octave = _solve(estimate, estimate(2.0**octave) + aim - trial.size)
            octave = min(octave, finer[0] + FARTHEST) if finer else octave
            octave = max(octave, coarser[0] - FARTHEST) if coarser else octave
    return search.coarsest() if best is None else best


def _between(finer: tuple[float, int], coarser: tuple[float, int], aim: float) -> float:
    """Where a line through both points reaches `aim`, but not too near either."""
    share = (finer[1] - aim) / max(finer[1] - coarser[1], 1)
    return finer[0] + (coarser[0] - finer[0]) * min(max(share, 0.05), 0.95)


def _solve(estimate: Callable[[float], float], wanted: float) -> float:
    """log2 of the scale at which a falling estimate is `wanted`, within LIMITS."""
    low, high = LIMITS
    while high - low > 1e-4:
        middle = (low + high) / 2
        if estimate(2.0**middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _fill(search: _Search[T], base: Allocation[T], limit: int, slack: int) -> Allocation[T]:
    """Make single tensors finer, large ones first, until at most `slack` bytes stay unused."""
    names = sorted(search.weights, key=lambda name: (-search.weights[name], name))
    best, gain = base, dict.fromkeys(names, 1.0)  # gain: measured over expected bytes
    for attempt in range(MAX_FILLS):
        left = limit - best.size
        name = names[attempt % len(names)]
        if left <= slack or not names:
            break
        if not search.weights[name] or not 0 < best.scales[name] < math.inf:
            continue
        octaves = min(8 * (left - slack / 2) / (search.weights[name] * gain[name]), LARGEST_FILL)
        trial = search.changed(best, name, best.scales[name] * 2.0**-octaves)
        grown = trial.size - best.size
        gain[name] = min(max(8 * grown / (search.weights[name] * octaves), 0.05), 20.0)
        if best.size < trial.size <= limit:
            best = trial
    return best
