"""Rules on the model's predictions and their sources: the field guide's four conditions and more."""

from __future__ import annotations

import numpy as np

from squeeze.score.audit.detection import detection
from squeeze.score.audit.evidence import PATCH, Evidence
from squeeze.score.audit.gain import BIAS, Gain, compare
from squeeze.score.audit.machine import lacking
from squeeze.score.audit.probe import Flip
from squeeze.score.audit.verdict import PASS, Verdict, failed, passed, unknown

NOISE = 1e-4  # nats; the same request twice, in float32 on one machine, moves less
# where kernels add in any order: a few times the difference of equal runs, at most this
MAX_NOISE = 0.02
MASS = 1e-3  # nats of total probability; a softmax in bfloat16 stays inside
OFFER = "; a model that does not speak the protocol is wrapped by --adapter FILE.py:NAME"
RUN_NOISE = 1e-3  # nats between two runs, for kernels that add in any order


def runs(e: Evidence) -> Verdict:
    """Judge that the submission answers every request, within the limits."""
    if e.failure is not None:
        lack = lacking(e.failure, e.submission.files) if e.hello is None else None
        offer = OFFER if e.hello is None and not e.submission.shown else ""
        if lack is not None:
            return unknown(f"this machine has {lack}: {e.failure}{offer}", lacks=lack)
        papers = f"; {len(e.left_out)} papers were in no box, since they do not count"
        return failed(e.failure + (papers if e.left_out else "") + offer)
    return passed(
        f"all runs answered everything; isolation: {e.isolation.level}",
        isolation=e.isolation.facts(),
    )


def determinism(e: Evidence) -> Verdict:
    """Judge that two fresh processes give the same answers to the same requests."""
    assert e.report and e.other and e.first_moved is not None
    gap = abs(e.report.nats - e.other.nats) / max(1, e.report.tokens)
    counts = (e.report.bytes, e.report.tokens) == (e.other.bytes, e.other.tokens)
    data = {"largest_move_nats": e.first_moved, "nats_per_token_apart": gap}
    gaps = f"distributions {e.first_moved:.2g} nats apart, reports {gap:.2g} nats a token"
    if e.first_moved > RUN_NOISE or gap > RUN_NOISE or not counts:
        return failed(f"two fresh processes disagree: {gaps}", **data)
    if e.first_moved or gap:
        return passed(f"two fresh processes agree, though not bit for bit: {gaps}", **data)
    return passed("two fresh processes answer bit for bit alike", **data)


def normalisation(e: Evidence) -> Verdict:
    """Judge that every distribution sums to one over the whole vocabulary."""
    assert e.sweep is not None and e.hello is not None
    own = [] if e.withheld is None else [e.withheld.mass]
    masses = np.concatenate([e.sweep.mass, *own])
    sizes = np.nan_to_num(np.abs(masses), nan=np.inf)
    worst, count, mean = int(sizes.argmax()), int((sizes > MASS).sum()), float(masses.mean())
    data = {"rows": len(masses), "off": count, "worst_log_mass": float(sizes[worst]), "mean": mean}
    target = np.append(np.arange(len(e.sweep.mass)), _withheld_targets(e))[worst] + 1
    if count:
        return failed(
            f"{count} of {len(masses)} distributions over {e.hello.vocab_size} tokens do not sum to "
            f"1; the one for target {target} sums to {np.exp(masses[worst]):.6g}",
            **data,
        )
    if mean > BIAS:
        return failed(
            f"the distributions sum to {np.exp(mean):.6g} on average, which gains {mean:.2g} nats a "
            "target",
            **data,
        )
    return passed(
        f"{len(masses)} distributions over {e.hello.vocab_size} tokens sum to 1 within "
        f"{np.expm1(sizes[worst]):.1g}",
        **data,
    )


def _withheld_targets(e: Evidence) -> np.ndarray:
    """Return the targets int64 [K] that were predicted with the text after them withheld."""
    return np.zeros(0, np.int64) if e.withheld is None else e.withheld.targets


def single_pass(e: Evidence) -> Verdict:
    """Judge that nothing is remembered from an earlier pass over the text."""
    assert e.report and e.again and e.replay_moved is not None and e.hello
    gap = (e.report.nats - e.again.nats) / max(1, e.report.tokens)
    if e.replay_moved > _noise(e) or abs(gap) > _report_noise(e):
        return failed(
            "a fresh start does not forget: asked again in the same process, distributions move by "
            f"{e.replay_moved:.2g} nats and the report by {-gap:+.2g} nats a token",
            replay_moved=e.replay_moved,
            report_gap=gap,
        )
    middle = len(e.data.span) // 2
    for start, moved in _moved_before_patch(e):
        if moved[0] < middle < start and start - moved[0] > 2 * max(e.hello.chunk, e.hello.window):
            return failed(
                f"changing tokens {start} to {start + PATCH - 1} moves the reported loss of target "
                f"{moved[0] + 1}: the text was read to its end before it was scored",
                patched=start,
                moved_targets=len(moved),
            )
    if e.patched:
        return passed("a fresh start forgets; no report depends on text far ahead")
    return unknown(
        "a fresh start forgets; the report gives no losses, so a second pass in it is unseen"
    )


def _noise(e: Evidence) -> float:
    """Return the nats that a log-probability may move by rounding, judged by two equal requests."""
    assert e.first_moved is not None
    return min(MAX_NOISE, max(NOISE, 4 * e.first_moved))


def _report_noise(e: Evidence) -> float:
    """Return the nats that a reported loss may move by rounding, judged by two equal reports.

    A few losses that differ more than most do not count: a submission could say so to hide others.
    """
    assert e.report and e.other
    if not len(e.report.losses) == len(e.other.losses) > 0:
        return _noise(e)
    change = np.abs(e.report.losses - e.other.losses)
    most = float(np.nan_to_num(np.quantile(change, 0.9), nan=np.inf))
    return min(MAX_NOISE, max(_noise(e), 4 * most))


def causality(e: Evidence) -> Verdict:
    """Judge that no distribution depends on its target or on anything later."""
    assert e.sweep is not None and e.withheld is not None and e.hello is not None
    flips = _flips(e, e.futures, "later tokens were changed") if e.futures else None
    if flips is not None and flips.status != PASS:
        return flips
    blind, seeing = e.withheld.losses, e.sweep.losses[e.withheld.targets]
    gain = compare(blind, seeing)
    power = detection(e, gain)
    data = {**({} if flips is None else flips.data), **power.as_json()}
    count = f"{gain.targets:,} of {len(e.sweep.losses):,} targets"
    leaks = gain.outliers > 0 or gain.biased
    if leaks and not (e.hello.stateful and _learned_early(e)):
        at = e.withheld.targets[gain.worst]
        return failed(
            f"with the text from them on withheld, {gain.outliers:,} of {gain.targets:,} targets have "
            f"another probability: target {at + 1} {blind[gain.worst]:.4f} nats, "
            f"{seeing[gain.worst]:.4f} when it is there; {gain.mean:.2g} nats a target are gained, "
            f"noise explains {gain.allowed:.2g}",
            **data,
        )
    if gain.is_blurred and not leaks:
        return unknown(blurred(gain, "with the text after them withheld"), **data)
    told = f"the text after {count} was withheld: {power}" if not leaks else "see below"
    return passed(f"{flips.evidence}; {told}" if flips else told, **data)


def blurred(gain: Gain, how: str) -> str:
    """Return a sentence on noise behind which a gain could hide. how: what its losses differ by."""
    return (
        f"the losses of {gain.targets:,} targets, {how}, scatter so much that a gain of "
        f"{gain.allowed:.2g} nats a token could hide; check more targets (--thorough, --tokens)"
    )


def _learned_early(e: Evidence) -> bool:
    """Return whether the changes of text show that something was learned from before it was scored."""
    moved = any(flip.moved > _noise(e) for flip in e.updates)
    return moved or bool(_moved_before_patch(e))


def score_before_update(e: Evidence) -> Verdict:
    """Judge that no token is learned from before its loss is final."""
    assert e.hello is not None
    moved = next(iter(_moved_before_patch(e)), None)
    if moved is not None:
        start, targets = moved
        return failed(
            f"changing tokens {start} to {start + PATCH - 1} moves the reported loss of "
            f"{len(targets)} earlier targets, first of target {targets[0] + 1}: they were scored after "
            "an update on text that holds them",
            patched=start,
            moved_targets=len(targets),
        )
    if e.updates and (worst := max(e.updates, key=lambda flip: flip.moved)).moved > _noise(e):
        return failed(
            f"changing tokens from {worst.position} on, in a request across updates, moves the "
            f"distribution after token {worst.where} by {worst.moved:.2g} nats: what was changed was "
            "learned from before it was scored",
            worst=worst.__dict__,
        )
    if e.hello.stateful and e.hello.chunk >= len(e.data.span) - 1:
        return unknown(
            f"the span is not longer than the declared chunk of {e.hello.chunk} tokens; audit more "
            "targets (--tokens)"
        )
    if not e.patched and not e.updates:
        return unknown("the report gives no losses, so updates inside it are unseen")
    parts = [f"{len(e.patched)} patched reports"] if e.patched else []
    parts += [f"{len(e.updates)} requests across updates"] if e.updates else []
    return passed(f"{' and '.join(parts)}: nothing before the change moved")


def documents(e: Evidence) -> Verdict:
    """Judge that nothing crosses from one document into another, unless declared."""
    assert e.hello is not None
    if not e.hello.isolated:
        return passed("declares that context or state crosses documents", declared=True)
    if not e.documents:
        return unknown("the span holds no second document; audit more targets (--tokens)")
    verdict = _flips(e, e.documents, "the documents before were changed")
    if verdict.status != PASS:
        return verdict
    for start, later in _moved_after_patch(e):
        if len(later):
            return failed(
                f"changing tokens {start} to {start + PATCH - 1} moves the reported loss of target "
                f"{later[0] + 1}, in a later document",
                patched=start,
                moved_targets=len(later),
            )
    return verdict


def _flips(e: Evidence, flips: list[Flip], what: str) -> Verdict:
    worst = max(flips, key=lambda flip: flip.moved)
    rows = sum(flip.compared for flip in flips)
    data = {"flips": len(flips), "rows": rows, "worst": worst.__dict__}
    if worst.moved > _noise(e):
        return failed(
            f"{what} (at token {worst.position}) and the distribution after token {worst.where} moved "
            f"by {worst.moved:.2g} nats",
            **data,
        )
    return passed(
        f"{what} in {len(flips)} requests: {rows} distributions moved by ≤ {worst.moved:.1g} nats",
        **data,
    )


def _moved_before_patch(e: Evidence) -> list[tuple[int, np.ndarray]]:
    """Return (start of the patch, targets before it whose reported loss moved), where some did."""
    patches = []
    for start, targets, change in _changes(e):
        moved = targets[(targets + 1 < start) & (change > _report_noise(e))]
        if len(moved):
            patches.append((start, moved))
    return patches


def _moved_after_patch(e: Evidence) -> list[tuple[int, np.ndarray]]:
    """Return (start of the patch, targets of later documents whose reported loss moved)."""
    patches = []
    for start, targets, change in _changes(e):
        begins = np.flatnonzero(e.data.span == e.data.bos)
        later = begins[begins >= start + PATCH]
        if len(later):
            patches.append((start, targets[(targets >= later[0]) & (change > _report_noise(e))]))
    return patches


def _changes(e: Evidence) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return start, target indices and change of each loss in nats, for each patched report."""
    assert e.hello is not None and e.other is not None
    targets = e.data.scored(e.hello)
    plain = e.other.losses
    return [
        (patch.start, targets, np.abs(patch.report.losses - plain))
        for patch in e.patched
        if len(patch.report.losses) == len(plain) == len(targets)
    ]
