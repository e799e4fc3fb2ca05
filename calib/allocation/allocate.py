"""Search for the scale whose file ends just under a limit, then for single tensors a little finer.

With water-filled steps (`squeeze.calib.allocation.waterfill`) every tensor has the same slope of
loss against bits, so the best allocation for any size is one number. The real bytes of encoded
files decide about it; an estimate only proposes the next trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from squeeze.errors import OverBudget
from squeeze.reporter import SILENT, Reporter

T = TypeVar("T")

SLACK = 200  # bytes under the limit that are good enough
MAX_TRIALS = 12  # quantizations of the whole model; three or four are usual
MAX_FILLS = 99  # quantizations of single tensors that follow
# A miss that single tensors can make up: this share of the limit, or these bits a weight if more.
CLOSE_ENOUGH = 0.001
FILLABLE = 0.003
SCOUTED = 0.03  # a miss of the limit from which a quicker packer's trial still leads to the scale
FARTHEST = 4.0  # octaves from one trial to the next while all lie on one side
CLOSEST = 0.002  # octaves between two trials beyond which a jump of the size lies between them
HALVE_AFTER = 5  # trials; by then a line through both sides has met a jump
LARGEST_FILL = 0.25  # octaves by which a single tensor's steps may leave the others'
FINEST_OCTAVE, COARSEST_OCTAVE = -60.0, 60.0  # log2 of the scales that are tried
FINEST = 2.0 ** (FINEST_OCTAVE + 1)  # scale up to which nothing is left to gain by a finer one
SCARCE = 0.5  # bits a weight; below, ask first whether anything fits
COARSEST = math.inf  # scale at which every tensor has the fewest bytes it can have


class Packer(Protocol[T]):
    """A model that can be quantized at any scale and measured."""

    @property
    def weight_counts(self) -> Mapping[str, int]:
        """Number of weights of each tensor, none of which is empty."""

    def quantize(self, scales: Mapping[str, float]) -> dict[str, T]:
        """Return the named tensors at their scales; COARSEST stands for as coarse as can be."""

    def measure(self, tensors: Mapping[str, T]) -> int:
        """Return the real bytes of all that counts, given every tensor."""

    def estimate(self, scale: float) -> float:
        """Return roughly the bytes at a common scale; only differences matter.

        It falls with the scale until nothing is left to gain.
        """


@dataclass(frozen=True)
class Allocation(Generic[T]):
    """Quantized tensors and the size they have together.

    tensors: by name, as they are stored.
    scales: the scale of each.
    size: real bytes in all.
    trials: whole quantizations that were tried.
    """

    tensors: dict[str, T]
    scales: dict[str, float]
    size: int
    trials: int


def allocate(
    packer: Packer[T],
    limit: int,
    *,
    slack: int = SLACK,
    start: float | None = None,
    reporter: Reporter = SILENT,
) -> Allocation[T]:
    """Find the finest common scale whose file fits, and fill the file up to the limit.

    limit: bytes of the file, at most
    slack: bytes under the limit that may be left
    start: scale to try first, from `common_scale` of a quicker packer
    reporter: shown the scale and the bytes of every whole quantization

    When the finest scale fits, that is the result, however far under the limit. Raises OverBudget
    with the smallest possible size when even the coarsest file does not fit.
    """
    search = _Search(packer, limit, slack, reporter)
    filled = _fill(search, search.near(start))
    if filled.size > limit:  # a jump that single tensors could not make up for
        filled = _fill(search, search.under())
    return filled


def refill(
    packer: Packer[T], limit: int, tensors: Mapping[str, T], scales: Mapping[str, float]
) -> Allocation[T]:
    """Return tensors, some a little finer or coarser, with which the limit is met within SLACK.

    tensors, scales: as they are; what else counts has changed

    Where that does not do, the size is over the limit or further under it.
    """
    search = _Search(packer, limit, SLACK, SILENT)
    return _fill(search, Allocation(dict(tensors), dict(scales), packer.measure(tensors), 0))


def common_scale(packer: Packer[T], limit: int, reporter: Reporter = SILENT) -> float:
    """Return the scale at which the whole file is expected to meet the limit; see `allocate`."""
    search = _Search(packer, limit, SLACK, reporter)
    search.tolerance = max(search.tolerance, SCOUTED * limit)
    near = search.near(None)
    octave = math.log2(max(near.scales.values(), default=1.0))
    if math.isinf(octave):
        return 2.0**COARSEST_OCTAVE
    return 2.0 ** _solve(packer.estimate, packer.estimate(2.0**octave) + search.aim - near.size)


class _Search(Generic[T]):
    """Trials of whole quantizations, of which the nearest on either side of the limit are kept."""

    def __init__(self, packer: Packer[T], limit: int, slack: int, reporter: Reporter) -> None:
        self.packer, self.limit, self.slack, self.reporter = packer, limit, slack, reporter
        self.weights = sum(packer.weight_counts.values())
        self.tolerance = max(slack, CLOSE_ENOUGH * limit, FILLABLE * self.weights / 8)
        self.aim = limit - slack / 2
        self.trials = 0
        self.best: Allocation[T] | None = None  # the largest under the limit
        self.finer: tuple[float, int] | None = None  # (log2 of the scale, bytes) over the limit
        self.coarser: tuple[float, int] | None = None  # and under it

    def near(self, start: float | None) -> Allocation[T]:
        """Return a whole quantization near the limit, on either side: single tensors do the rest."""
        if 8 * self.limit < SCARCE * self.weights:
            self.coarsest()
        octave = math.log2(start) if start else _solve(self.packer.estimate, self.aim)
        while True:
            trial = self.whole(octave)
            if abs(trial.size - self.aim) <= self.tolerance or self._at_end(octave):
                return trial
            octave = self._next(octave, trial.size)

    def under(self) -> Allocation[T]:
        """Return the largest whole quantization under the limit that a few more trials lead to."""
        while self.finer is not None and not self._at_end(self.finer[0]):
            octave = self._next(*self.finer)
            trial = self.whole(octave)
            if 0 <= self.limit - trial.size <= self.tolerance:
                break
        return self.coarsest() if self.best is None else self.best

    def whole(self, octave: float) -> Allocation[T]:
        """Quantize all tensors at the scale 2^octave."""
        trial = self._trial(2.0**octave)
        if trial.size > self.limit:
            self.finer = (octave, trial.size)
        else:
            self.coarser = (octave, trial.size)
            if self.best is None or trial.size > self.best.size:
                self.best = trial
        return trial

    def coarsest(self) -> Allocation[T]:
        """Quantize all tensors as coarse as can be; raises OverBudget when that does not fit."""
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
        """Return `base` with one tensor at another scale."""
        tensors = {**base.tensors, **self.packer.quantize({name: scale})}
        scales = {**base.scales, name: scale}
        return Allocation(tensors, scales, self.packer.measure(tensors), self.trials)

    def _trial(self, scale: float) -> Allocation[T]:
        scales = dict.fromkeys(self.packer.weight_counts, scale)
        tensors = self.packer.quantize(scales)
        size = self.packer.measure(tensors)
        self.trials += 1
        self.reporter.trial(scale, size)
        return Allocation(tensors, scales, size, self.trials)

    def _at_end(self, octave: float) -> bool:
        if self.trials >= MAX_TRIALS:
            return True
        if octave <= FINEST_OCTAVE + 1 and self.finer is None:  # the finest fits
            return True
        close = self.finer and self.coarser and self.coarser[0] - self.finer[0] < CLOSEST
        return bool(close)

    def _next(self, octave: float, size: int) -> float:
        """Return the octave to try after one that gave this size."""
        if self.finer and self.coarser:
            if self.trials >= HALVE_AFTER:
                return (self.finer[0] + self.coarser[0]) / 2
            return _between(self.finer, self.coarser, self.aim)
        estimate = self.packer.estimate
        octave = _solve(estimate, estimate(2.0**octave) + self.aim - size)
        if self.finer:
            return min(octave, self.finer[0] + FARTHEST)
        return max(octave, self.coarser[0] - FARTHEST) if self.coarser else octave


def _between(finer: tuple[float, int], coarser: tuple[float, int], aim: float) -> float:
    """Return the octave at which a line through both points reaches `aim`, not too near either."""
    share = (finer[1] - aim) / max(finer[1] - coarser[1], 1)
    return finer[0] + (coarser[0] - finer[0]) * min(max(share, 0.05), 0.95)


def _solve(estimate: Callable[[float], float], size: float) -> float:
    """Return log2 of the scale at which a falling estimate is `size`, within the octaves tried."""
    low, high = FINEST_OCTAVE, COARSEST_OCTAVE
    while high - low > 1e-4:
        middle = (low + high) / 2
        if estimate(2.0**middle) > size:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _fill(search: _Search[T], base: Allocation[T]) -> Allocation[T]:
    """Make single tensors finer or coarser, large ones first, until the limit is met within `slack`."""
    counts = search.packer.weight_counts
    names = sorted(counts, key=lambda name: (-counts[name], name))
    best, gain = base, dict.fromkeys(names, 1.0)  # gain: measured over expected bytes
    tried: set[object] = set()  # a jump of a size would bring the same again and again
    for attempt in range(MAX_FILLS if names else 0):
        left = search.limit - best.size
        name = names[attempt % len(names)]
        if 0 <= left <= search.slack:
            break
        if not 0 < best.scales[name] < COARSEST:
            continue
        octaves = 8 * (left - search.slack / 2) / (counts[name] * gain[name])
        octaves = min(max(octaves, -LARGEST_FILL), LARGEST_FILL)
        scale = best.scales[name] * 2.0**-octaves
        attempted = name, scale, best.size
        if attempted in tried:
            continue
        tried.add(attempted)
        trial = search.changed(best, name, scale)
        grown = trial.size - best.size
        gain[name] = min(max(8 * grown / (counts[name] * octaves), 0.05), 20.0)
        if trial.size < best.size if left < 0 else best.size <= trial.size <= search.limit:
            best = trial
    return best
