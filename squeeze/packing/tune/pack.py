"""Preset `tuned`: round a share of the matrices, let the rest learn to make up for it, round the next.

Preset `best` rounds all of them at once, and below two bits a weight lets the floats of the file learn.

One pass of `squeeze.packing.target` finds the scale at which the file meets the limit. Then the shares
follow, the matrices into the mlp first, whose errors interact most: what is still float learns the fp32
model's answers on the calibration text (`squeeze.calib.tuning.distil`), and the next share's errors are
weighed by the inputs that it now gets. The last share lands the file under the limit again. At the end
only what the file holds as floats learns. Each stage of learning is kept until the end, so that an
interrupted pack resumes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from squeeze.calib.allocation.allocate import (
    COARSEST,
    FINEST,
    LARGEST_FILL,
    SLACK,
    Allocation,
    allocate,
    common_scale,
    refill,
)
from squeeze.calib.tuning.distil import Course
from squeeze.errors import CorruptData, OverBudget
from squeeze.files import hash_of
from squeeze.files.arrays import OtherKey, read_arrays, write_arrays
from squeeze.packing.calibrate import Calibrated
from squeeze.packing.fit import SCOUT_STATES, Fitted
from squeeze.packing.kept import KeptCodes, forget
from squeeze.packing.packed import Packed
from squeeze.packing.presets import TARGETS, Tuned
from squeeze.packing.quantizer import Quantizer, StoredMatrix
from squeeze.packing.request import PackRequest
from squeeze.packing.session import Session, exact_or
from squeeze.packing.target import (
    Start,
    fitted_of,
    measured_cost,
    packed_to,
    plan_for,
    start_of,
    without_zero_rows,
)
from squeeze.packing.tune.duration import keep_updates, kept_updates, pace_of
from squeeze.packing.tune.finished import Finished
from squeeze.packing.tune.gain import Gain, TuningClock
from squeeze.packing.tune.shares import Rest, Shares
from squeeze.packing.tune.student import Student, untuned_rows
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece

RESERVE = 96  # bytes left for floats that learn last and may then take a few more
# Matrices by one of which the limit is met again: the size of the first may jump just there.
SETTLING = 3
STAYED = "the file is the one that it began with"


def pack_tuned(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the file that a model tunes itself into; otherwise as `pack_to_target`."""
    return exact_or(_packed, piece, request, reporter)


def _packed(session: Session, calibrated: Calibrated, limit: int) -> Packed:
    """Return the file that fits, tuned, with its plan."""
    preset = TARGETS[session.request.preset]
    assert isinstance(preset, Tuned)
    plain = 8 * limit >= preset.below * session.piece.weights
    # of a single sequence nothing is left to measure the cost on
    if plain or (preset.last == 1 and len(calibrated.text.ids) < 2):
        return packed_to(session, calibrated, limit)
    if session.request.fresh:
        forget(session.folder)
    start, reporter = start_of(session, calibrated, limit), session.reporter
    if not start.quantizer.contents.matrices:  # no rounding that anything could make up for
        return packed_to(session, calibrated, limit)
    asked = session.request.tune
    wanted = asked.total_seconds() if isinstance(asked, timedelta) else asked
    finished = Finished(session.folder, hash_of(start.key, wanted))
    packed = finished.find(reporter)
    if packed is not None and packed.plan is not None and packed.plan.tuning is not None:
        gain, cost = packed.plan.tuning, packed.plan.cost
        seconds = TuningClock(session.folder / "seconds.json").kept(finished.key)
        helped = cost.measured < gain.before
        reporter.note(gain.line(seconds, cost) if helped else f"tuning did not help: {STAYED}")
        return packed
    text = calibrated.text
    untuned = untuned_rows(text) * text.length
    with reporter.stage("fit") as stage:
        quantizer, fitted = fitted_of(start, stage)
        start, quantizer, fitted = without_zero_rows(start, quantizer, fitted, stage)
    tuning = _Tuning(session, preset, start, quantizer, fitted)
    if not tuning.learns:
        return packed_to(session, calibrated, limit)
    before = measured_cost(start, quantizer, fitted, reporter, untuned).mean
    gain = Gain(sum(tuning.shares.steps), before, tuning.student.label_share(tuning.bits))
    try:
        tuned = tuning.run()
    except OverBudget:
        worse, seconds = "what learnt does not fit the limit", tuning.clock.seconds
    else:
        seconds = tuning.clock.seconds
        plan, data = plan_for(start, *tuned, reporter, untuned), tuned[1].data
        reporter.note(gain.line(seconds, plan.cost))
        worse = "tuning made it worse" if plan.measured > before else ""
    if worse:
        reporter.note(f"{worse}: {STAYED}")
        plan, data = plan_for(start, quantizer, fitted, reporter, untuned), fitted.data
    packed = finished.keep(replace(plan, tuning=gain), data)
    tuning.clock.keep(finished.key, seconds)
    return packed


class _Tuning:
    """The rounding of share after share, from a file that fits and is not tuned yet."""

    def __init__(
        self, session: Session, preset: Tuned, start: Start, quantizer: Quantizer, fitted: Fitted
    ) -> None:
        self.session, self.start, self.quantizer, self.fitted = session, start, quantizer, fitted
        self.clock = TuningClock(session.folder / "seconds.json")
        layout = start.calibrated.layout
        self.roles = {name: layout.roles[name] for name in fitted.tensors}
        weights = sum(quantizer.weight_counts.values())
        self.bits = 8 * len(fitted.data) / max(weights, 1)
        length = start.calibrated.text.length
        usual, self.tokens = preset.updates_for(length, self.bits)
        floats = session.request.small_floats
        self.student = Student(start.piece, start.calibrated, quantizer.contents, floats)
        asked = session.request.tune
        steps = self._updates_within(asked, preset) if isinstance(asked, timedelta) else asked
        self.shares = Shares.of(self.roles, preset, usual if steps is None else steps)
        self.stored: dict[str, StoredMatrix] = {}
        self.scales = dict(fitted.scales)

    @property
    def learns(self) -> bool:
        """True where anything is left to learn once the first share is rounded."""
        return len(self.shares.names) > 1 or self.student.has_floats

    def run(self) -> tuple[Quantizer, Fitted]:
        """Return the tuned file, and its quantizer."""
        *between, last = self.shares.steps
        reporter, trials = self.session.reporter, self.fitted.trials
        with reporter.stage("tune", sum(self.shares.steps), "updates") as stage:
            for number, names in enumerate(self.shares.names):
                if number:
                    self._learn(number, between[number - 1], stage)
                    self._rescale(number)
                if number + 1 < len(self.shares.names):
                    self._store(self.quantizer.quantize({n: self.scales[n] for n in names}))
            trials += self._land(self.start.limit - RESERVE).trials
            self._learn(len(self.shares.names), last, stage)
        fitted = Fitted.of(self.quantizer, self.stored, self.scales, trials)
        return self.quantizer, self._settled(fitted)

    def _settled(self, fitted: Fitted) -> Fitted:
        """Return the file with the limit met again.

        Floats that learnt have other bytes, and the size of the last share may jump just there. By the
        smallest matrix that can do it alone, so that what learnt meets little anew, or else by all.
        """
        limit, counts, trials = self.start.limit, self.quantizer.weight_counts, fitted.trials
        left = limit - len(fitted.data)
        if 0 <= left <= SLACK:
            return fitted
        movable = [name for name in self.stored if FINEST < self.scales[name] < COARSEST]
        able = [name for name in movable if 8 * abs(left) < LARGEST_FILL * counts[name]]
        smallest = sorted(able, key=lambda name: (counts[name], name))[:SETTLING]
        for moved in (*([name] for name in smallest), movable):
            rest = Rest(self.quantizer, {n: m for n, m in self.stored.items() if n not in moved})
            tensors, scales = {n: self.stored[n] for n in moved}, {n: self.scales[n] for n in moved}
            filled = refill(rest, limit, tensors, scales)
            if limit - SLACK <= filled.size <= limit:
                break
        if filled.size <= limit:
            self._take(filled)
        else:
            for name in self.shares.names[-1]:
                del self.stored[name]
            trials += self._land(limit).trials
        return Fitted.of(self.quantizer, self.stored, self.scales, trials)

    def _updates_within(self, limit: timedelta, preset: Tuned) -> int:
        """Return the number of updates that ends in time, or the one that an earlier run had found."""
        path, seconds = self.session.folder / "updates.json", limit.total_seconds()
        key, reporter = hash_of(self.start.key, seconds), self.session.reporter
        updates = kept_updates(path, key, reporter)
        if updates is not None:
            reporter.note(f"{updates:,} updates, the number that was found before")
            return updates
        names = Shares.of(self.roles, preset, 0).names
        pace = pace_of(
            self.student, self.quantizer, self.fitted, names, self.tokens, self.bits, seconds
        )
        updates = pace.updates_within(seconds - self.clock.seconds)
        keep_updates(path, key, updates)
        late = pace.seconds_of(updates) > seconds
        reporter.note(
            f"{updates:,} update{'' if updates == 1 else 's'} for {seconds:g} s"
            f"{', too short a time' if late else ''}: {pace.update:.3g} s each here, and "
            f"{pace.rounding:.0f} s of rounding; --tune {updates} gives the same file"
        )
        return updates

    def _learn(self, number: int, steps: int, stage: Reporter) -> None:
        """Let what is not rounded learn, or read it from an earlier run; take it as contents."""
        path = self.session.folder / f"tuned-{number}.safetensors"
        course = Course(steps, self.tokens, self.session.settings.seed * 1_000 + number)
        key = hash_of(self.start.key, number, self.shares.steps, self.tokens)
        try:
            weights, _ = read_arrays(path, key)
            self.student.take_(weights)
            self.clock.resume(key)
            stage.advance(steps)
        except CorruptData as error:
            if os.path.isfile(path) and not isinstance(error, OtherKey):
                stage.note(f"made again: {error}")
            clock = time.perf_counter()
            learnt = self.student.learn_(course, self.bits, stage)
            if learnt is not None:
                stage.note(
                    f"learnt with {number} of {len(self.shares.names)} shares rounded: "
                    f"{learnt.first:.6f} → {learnt.last:.6f} nats per token "
                    f"in {time.perf_counter() - clock:.0f} s"
                )
            write_arrays(path, self.student.weights, key, {})
            self.clock.keep(key)
        quantizer = self.quantizer.with_contents(self.student.updated(self.quantizer.contents))
        if number < len(self.shares.names):
            quantizer = quantizer.with_hessians(self.student.hessians())
        self.quantizer = replace(
            quantizer,
            coder=KeptCodes(self.session.folder / "codes", key, stage),
        )

    def _rescale(self, number: int) -> None:
        """Give all shares from a number on the scale at which the file is expected to fit.

        What learnt has other bytes at the old scale, for which the last share alone is too small.
        """
        scout = Rest(self.quantizer.with_states(SCOUT_STATES), dict(self.stored))
        left = [n for names in self.shares.names[number:] for n in names]
        if all(self.scales[n] < COARSEST for n in left):
            scale = common_scale(scout, self.start.limit - RESERVE)
            self.scales |= dict.fromkeys(left, scale)

    def _land(self, limit: int) -> Allocation[StoredMatrix]:
        """Round the last share so that the file fits."""
        names = self.shares.names[-1]
        rest = Rest(self.quantizer, dict(self.stored))
        finite = [self.scales[n] for n in names if self.scales[n] < COARSEST]
        start = statistics.median_high(finite) if finite else None
        allocation = allocate(rest, limit, slack=SLACK - RESERVE, start=start)
        self._take(allocation)
        return allocation

    def _take(self, allocation: Allocation[StoredMatrix]) -> None:
        self.scales |= allocation.scales
        self._store(allocation.tensors)

    def _store(self, matrices: Mapping[str, StoredMatrix]) -> None:
        """Take matrices as they are rounded: the student has them so from now on."""
        self.stored |= matrices
        self.student.round_({name: matrix.tensor for name, matrix in matrices.items()})
