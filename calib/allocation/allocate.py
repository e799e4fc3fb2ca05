"""Land a file just under its limit: one scale for all tensors, then single tensors a little finer.

With water-filled steps (`squeeze.calib.allocation.waterfill`) every tensor has the same slope of
loss against bits, so the best allocation for any size is one number. It is found with the real
bytes of encoded files; an estimate only says where to look next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from squeeze.errors import OverBudget

T = TypeVar("T")
OnTrial = Callable[[float, int], None]  # (scale, bytes)

SLACK = 200  # bytes under the limit that are good enough
MAX_TRIALS = 12  # quantizations of the whole model; three or four are usual
MAX_FILLS = 40  # quantizations of single tensors that follow
CLOSE_ENOUGH = 0.001  # share of the limit that single tensors can make up,
FILLABLE = 0.003  # or bits a weight, where those are more
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
    start: float | None = None,
    on_trial: OnTrial = lambda scale, size: None,
) -> Allocation[T]:
    """The finest common scale whose file fits, filled up to at most `slack` bytes under the limit.

    weights: number of weights of each tensor. quantize: tensors at their scales; COARSEST (∞) means
    as coarse as can be. measure: real bytes of all that counts, given every tensor. estimate: roughly
    the bytes at a common scale, falling until nothing is left to gain; only differences matter.
    start: the scale to try first, from `common_scale` of a quicker quantizer. on_trial(scale, bytes)
    hears of every whole quantization.

    When the finest scale fits, that is the result, however far under the limit. Raises OverBudget
    with the smallest possible size when even the coarsest file does not fit.
    """
    search = _Search(weights, quantize, measure, estimate, limit, slack, on_trial)
    filled = _fill(search, search.near(start))
    if filled.size > limit:  # a jump that single tensors could not make up for
        filled = _fill(search, search.under())
    return filled


def common_scale(
    weights: Mapping[str, int],
    quantize: Callable[[Mapping[str, float]], dict[str, T]],
    measure: Callable[[Mapping[str, T]], int],
    estimate: Callable[[float], float],
    limit: int,
    *,
    slack: int = SLACK,
    on_trial: OnTrial = lambda scale, size: None,
) -> float:
    """The scale at which the whole model's file is expected to meet the limit; see `allocate`."""
    search = _Search(weights, quantize, measure, estimate, limit, slack, on_trial)
    near = search.near(None)
    octave = math.log2(max(near.scales.values(), default=1.0))
    if math.isinf(octave):
        return 2.0 ** LIMITS[1]
    return 2.0 ** _solve(estimate, estimate(2.0**octave) + search.aim - near.size)


class _Search(Generic[T]):
    """Trials of whole quantizations, and what they said: the nearest on either side of the limit."""

    def __init__(
        self,
        weights: Mapping[str, int],
        quantize: Callable[[Mapping[str, float]], dict[str, T]],
        measure: Callable[[Mapping[str, T]], int],
        estimate: Callable[[float], float],
        limit: int,
        slack: int,
        on_trial: OnTrial,
    ) -> None:
        self.weights, self.quantize, self.measure = weights, quantize, measure
        self.estimate, self.limit, self.slack, self.on_trial = estimate, limit, slack, on_trial
        fillable = FILLABLE * sum(weights.values()) / 8
        self.tolerance = max(slack, CLOSE_ENOUGH * limit, fillable)
        self.aim = limit - slack / 2
        self.trials = 0
        self.best: Allocation[T] | None = None  # the largest under the limit
        self.finer: tuple[float, int] | None = None  # (log2 of the scale, bytes) over the limit
        self.coarser: tuple[float, int] | None = None  # and under it

    def near(self, start: float | None) -> Allocation[T]:
        """A whole quantization near the limit, on either side: single tensors can do the rest."""
        if 8 * self.limit < SCARCE * sum(self.weights.values()):
            self.coarsest()
        octave = math.log2(start) if start else _solve(self.estimate, self.aim)
        while True:
            trial = self.whole(octave)
            if abs(trial.size - self.aim) <= self.tolerance or self._at_end(octave):
                return trial
            octave = self._next(octave, trial.size)

    def under(self) -> Allocation[T]:
        """The largest whole quantization under the limit that a few more trials lead to."""
        while self.finer is not None and not self._at_end(self.finer[0]):
            octave = self._next(*self.finer)
            trial = self.whole(octave)
            if 0 <= self.limit - trial.size <= self.tolerance:
                break
        return self.coarsest() if self.best is None else self.best

    def whole(self, octave: float) -> Allocation[T]:
        """All tensors at the scale 2^octave."""
        trial = self._trial(2.0**octave)
        if trial.size > self.limit:
            self.finer = (octave, trial.size)
        else:
            self.coarser = (octave, trial.size)
            if self.best is None or trial.size > self.best.size:
                self.best = trial
        return trial

    def coarsest(self) -> Allocation[T]:
        """All tensors as coarse as can be; raises OverBudget when that does not fit."""
        trial = self._trial(COARSEST)
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

    def _trial(self, scale: float) -> Allocation[T]:
        scales = dict.fromkeys(self.weights, scale)
        tensors = self.quantize(scales)
        size = self.measure(tensors)
        self.trials += 1
        self.on_trial(scale, size)
        return Allocation(tensors, scales, size, self.trials)

    def _at_end(self, octave: float) -> bool:
        if self.trials >= MAX_TRIALS:
            return True
        if octave <= LIMITS[0] + 1 and self.finer is None:  # the finest fits
            return True
        close = self.finer and self.coarser and self.coarser[0] - self.finer[0] < CLOSEST
        return bool(close)

    def _next(self, octave: float, size: int) -> float:
        if self.finer and self.coarser:
            if self.trials >= HALVE_AFTER:
                return (self.finer[0] + self.coarser[0]) / 2
            return _between(self.finer, self.coarser, self.aim)
        octave = _solve(self.estimate, self.estimate(2.0**octave) + self.aim - size)
        if self.finer:
            return min(octave, self.finer[0] + FARTHEST)
        return max(octave, self.coarser[0] - FARTHEST) if self.coarser else octave


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


def _fill(search: _Search[T], base: Allocation[T]) -> Allocation[T]:
    """Make single tensors finer or coarser, large ones first, until the limit is met within `slack`."""
    names = sorted(
        (name for name, count in search.weights.items() if count),
        key=lambda name: (-search.weights[name], name),
    )
    best, gain = base, dict.fromkeys(names, 1.0)  # gain: measured over expected bytes
    for attempt in range(MAX_FILLS if names else 0):
        left = search.limit - best.size
        name = names[attempt % len(names)]
        if 0 <= left <= search.slack:
            break
        if not 0 < best.scales[name] < COARSEST:
            continue
        octaves = 8 * (left - search.slack / 2) / (search.weights[name] * gain[name])
        octaves = min(max(octaves, -LARGEST_FILL), LARGEST_FILL)
        trial = search.changed(best, name, best.scales[name] * 2.0**-octaves)
        grown = trial.size - best.size
        gain[name] = min(max(8 * grown / (search.weights[name] * octaves), 0.05), 20.0)
        if trial.size < best.size if left < 0 else best.size < trial.size <= search.limit:
            best = trial
    return best
