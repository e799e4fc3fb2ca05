"""Rules on the number a submission states: its bytes, its targets, its nats."""

from __future__ import annotations

import math

import numpy as np

from squeeze.score.audit.client import Reported
from squeeze.score.audit.detection import detection
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.gain import BIAS, Gain, compare
from squeeze.score.audit.probe import Float64
from squeeze.score.audit.rules_model import blurred
from squeeze.score.audit.verdict import Verdict, failed, passed, unknown

TOTAL_NOISE = 1e-3  # of the nats of all targets together, relative; a gain may be much smaller
# of the validation documents: web text repeats itself, so a few are no proof, though they may gain
MAX_OVERLAP = 1e-3
TARGET_NATS = 3.0  # that a target costs, where nothing was run
CLAIM_NOISE = 1e-3  # bits per byte that a stated val_bpb may be above the same span scored again
CLAIM_GAIN = 2e-4  # bits per byte that it may be below


def coverage(e: Evidence) -> Verdict:
    """Judge that every target of the validation set is scored once."""
    assert e.report is not None and e.hello is not None
    targets = e.data.scored(e.hello)
    skipped = len(e.data.span) - 1 - len(targets)
    data = {"reported": e.report.tokens, "expected": len(targets), "bos_skipped": skipped}
    if e.report.tokens != len(targets) or len(e.report.losses) not in (0, len(targets)):
        counted = len(e.report.losses) or e.report.tokens
        counted = counted if counted != len(targets) else e.report.tokens
        more = "some are scored twice" if counted > len(targets) else "the rest is left out"
        return failed(f"the report scores {counted} of {len(targets)} targets: {more}", **data)
    claims = {
        "val_tokens": (e.submission.number("val_tokens"), e.data.available),
        "val_bytes": (e.submission.number("val_bytes"), e.data.total_bytes),
    }
    for name, (claimed, held) in claims.items():
        if claimed is not None and claimed != held:
            return failed(
                f"submission.json states {name} {claimed}; the validation data holds {held}",
                claimed=claimed,
                held=held,
                **data,
            )
    note = f"; {skipped} BOS are not predicted, as declared" if skipped else ""
    return passed(f"the report scores {len(targets)} of {len(targets)} targets once{note}", **data)


def byte_count(e: Evidence) -> Verdict:
    """Judge that the denominator is the UTF-8 length of the text."""
    assert e.report is not None and e.hello is not None
    scored = e.data.scored(e.hello)
    sizes = e.data.table.of_targets(e.data.span)[scored]
    true = int(sizes.sum(dtype=np.int64))
    data = {"reported": e.report.bytes, "expected": true}
    if e.report.bytes == true:
        return _bytes_of_pieces(e, true, data)
    before, target = e.data.span[:-1][scored], e.data.span[1:][scored]
    table, off = e.data.table, e.report.bytes - true
    spaces = int((table.space[target] & ~table.boundary[before]).sum())
    shares = {
        "every leading space is counted twice": spaces,
        "spaces are counted as the three bytes of ▁": 2 * spaces,
        "leading spaces are not counted": -spaces,
        "byte pieces are counted by their six-letter names": 5
        * int((_byte_pieces(e)[target]).sum()),
    }
    cause = next((f"; {why}" for why, size in shares.items() if size and size == off), "")
    return failed(
        f"the report divides by {e.report.bytes:,} bytes, the text has {true:,} "
        f"({100 * off / true:+.2f} %){cause}",
        **data,
    )


def _bytes_of_pieces(e: Evidence, true: int, data: dict[str, int]) -> Verdict:
    """Judge the bytes of texts with the pieces that the span lacks, once those of the span are right."""
    assert e.hello is not None
    for counted in e.pieces:
        scored = e.data.scored(e.hello, counted.tokens)
        expected = int(e.data.table.of_targets(counted.tokens)[scored].sum(dtype=np.int64))
        if counted.report.bytes != expected:
            return failed(
                f"the report counts the span's bytes right, but {counted.report.bytes:,} of a text "
                f"of {expected:,} bytes with {counted.added:,} pieces that the span lacks",
                other_reported=counted.report.bytes,
                other_expected=expected,
                **data,
            )
    added = sum(counted.added for counted in e.pieces)
    return passed(
        f"{true:,} bytes, as the decoded text has, and right on {added:,} pieces that it lacks",
        pieces=added,
        **data,
    )


def _byte_pieces(e: Evidence) -> np.ndarray:
    """Return bool [V], True for the pieces <0x00> to <0xFF>."""
    # a failed report alone needs it: other audits run where sentencepiece is not installed
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(e.data.tokenizer))
    return np.array([pieces.is_byte(i) for i in range(pieces.vocab_size())])


def score(e: Evidence) -> Verdict:
    """Judge that the stated nats are those of the submission's own distributions."""
    assert e.report is not None and e.sweep is not None and e.hello is not None
    scored = e.data.scored(e.hello)
    own = derived_losses(e)[scored]
    total = float(own.sum())
    data = {"reported_nats": e.report.nats, "derived_nats": total, "targets": len(own)}
    gain = compare(own, e.report.losses.astype(np.float64)) if len(e.report.losses) else None
    if gain is not None and gain.outliers:
        return failed(
            f"{gain.outliers} of {len(own)} reported losses are not those of its distributions; "
            f"target {scored[gain.worst] + 1}: reported {e.report.losses[gain.worst]:.4f} nats, "
            f"derived {own[gain.worst]:.4f}",
            off=gain.outliers,
            **data,
        )
    summed = e.report.losses.sum(dtype=np.float64) if gain is not None else total
    if not abs(summed - e.report.nats) <= TOTAL_NOISE * abs(total):
        return failed(
            f"reported {e.report.nats:.4f} nats, {_source(gain)} {summed:.4f} "
            f"({100 * (e.report.nats - summed) / max(abs(summed), 1e-9):+.3f} %)",
            **data,
        )
    # without losses, the noise of the shapes of requests is that of the checked targets
    noise = gain or compare(*_checked_losses(e))
    allowed, gained = noise.allowed, (total - e.report.nats) / max(1, len(own))
    if noise.is_blurred and gained <= allowed:
        return unknown(blurred(noise, "reported and derived"), **data)
    if gained > allowed:
        return failed(
            f"the report gains {gained:.2g} nats a target on its own distributions, noise explains "
            f"{allowed:.2g}: reported {e.report.nats:.4f} nats, derived {total:.4f}",
            gained=gained,
            **data,
        )
    return _against_claim(e, total, data)


def _source(gain: Gain | None) -> str:
    return "derived from its distributions" if gain is None else "the sum of its losses is"


def derived_losses(e: Evidence) -> Float64:
    """Return the nats of every target, float64 [n - 1]; checked ones without the text after them."""
    assert e.sweep is not None and e.withheld is not None
    losses = e.sweep.losses.copy()
    losses[e.withheld.targets] = e.withheld.losses
    return losses


def _checked_losses(e: Evidence) -> tuple[Float64, Float64]:
    """Return the nats of the checked targets, without and with the text after them; float64 [K]."""
    assert e.sweep is not None and e.withheld is not None
    return e.withheld.losses, e.sweep.losses[e.withheld.targets]


def _against_claim(e: Evidence, nats: float, data: dict[str, float]) -> Verdict:
    bpb = _bpb(e.report, nats)
    power = detection(e, compare(*_checked_losses(e)))
    derived = f"{data['targets']:,} targets re-derived: {bpb:.6f} bits per byte; {power}"
    claimed = e.submission.number("val_bpb")
    whole = len(e.data.span) - 1 == e.data.available
    if whole and claimed is not None and not -CLAIM_GAIN <= claimed - bpb <= CLAIM_NOISE:
        return failed(
            f"submission.json states val_bpb {claimed:.6f}; {derived}",
            claimed=claimed,
            bpb=bpb,
            **data,
        )
    part = "" if whole else f" (the first of {e.data.available:,})"
    return passed(derived + part, bpb=bpb, whole=whole, **data, **power.as_json())


def _bpb(report: Reported | None, nats: float) -> float:
    assert report is not None
    return nats / math.log(2.0) / report.bytes


def overlap(e: Evidence) -> Verdict:
    """Judge that the training shards hold no validation documents."""
    if e.overlap is None:
        return unknown("no training shards given (--data)")
    shared = e.overlap
    share = (len(shared.exact) + len(shared.near)) / max(1, shared.documents)
    data = {
        "documents": shared.documents,
        "exact": shared.exact[:100].tolist(),
        "near": shared.near[:100].tolist(),
        "train_tokens": shared.train_tokens,
    }
    counts = (
        f"{len(shared.exact)} exact and {len(shared.near)} near duplicates of {shared.documents} "
        f"validation documents in {shared.train_tokens:,} training tokens"
    )
    mean = TARGET_NATS if e.sweep is None else float(e.sweep.losses.mean())
    gain = shared.token_share * mean
    if share > MAX_OVERLAP:
        first = (shared.exact if len(shared.exact) else shared.near)[0]
        return failed(f"{counts}; first: document {first}", **data)
    if gain > BIAS:
        return unknown(
            f"{counts}: as few as web text repeats by nature, but learned by heart they gain up to "
            f"{gain:.2g} nats a token; see whether the official shards hold them",
            gain_nats=gain,
            **data,
        )
    return passed(counts, **data)
