"""Rules on the number a submission states: its bytes, its targets, its nats."""

from __future__ import annotations

import math

import numpy as np

from squeeze.score.audit.client import Reported
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.verdict import Verdict, failed, passed, unknown

LOSS_NOISE = 0.02  # nats of one target: batches of another shape, amplified by test-time training
TOTAL_NOISE = 1e-3  # of the nats of all targets together, relative
MAX_OVERLAP = 1e-3  # of the validation documents; web text repeats itself a little by nature
CLAIM_NOISE = 1e-3  # bits per byte between a stated val_bpb and the same span scored again


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
        return passed(f"{true:,} bytes, as the decoded text has", **data)
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
    own = e.sweep.losses[scored]
    total = float(own.sum())
    gap = (e.report.nats - total) / abs(total) if total else math.inf
    data = {"reported_nats": e.report.nats, "derived_nats": total, "targets": len(own)}
    if len(e.report.losses):
        reported = e.report.losses.astype(np.float64)
        change = np.nan_to_num(reported - own, nan=np.inf)
        off = np.flatnonzero(np.abs(change) > LOSS_NOISE)
        if len(off):
            worst = int(np.abs(change).argmax())
            return failed(
                f"{len(off)} of {len(own)} reported losses are not those of its distributions; "
                f"target {scored[worst] + 1}: reported {reported[worst]:.4f} nats, derived "
                f"{own[worst]:.4f}",
                off=len(off),
                **data,
            )
        if abs(reported.sum() - e.report.nats) > TOTAL_NOISE * abs(total):
            return failed(
                f"the reported {e.report.nats:.4f} nats are not the sum of the reported losses, "
                f"{reported.sum():.4f}",
                **data,
            )
    if not abs(gap) <= TOTAL_NOISE:
        return failed(
            f"reported {e.report.nats:.4f} nats, derived from its distributions {total:.4f} "
            f"({100 * gap:+.3f} %)",
            **data,
        )
    return _against_claim(e, total, data)


def _against_claim(e: Evidence, nats: float, data: dict[str, float]) -> Verdict:
    bpb = _bpb(e.report, nats)
    derived = f"{len(e.data.span) - 1:,} targets re-derived: {bpb:.6f} bits per byte"
    claimed = e.submission.number("val_bpb")
    whole = len(e.data.span) - 1 == e.data.available
    if whole and claimed is not None and not abs(claimed - bpb) <= CLAIM_NOISE:
        return failed(
            f"submission.json states val_bpb {claimed:.6f}; {derived}",
            claimed=claimed,
            bpb=bpb,
            **data,
        )
    part = "" if whole else f" (the first of {e.data.available:,})"
    return passed(derived + part, bpb=bpb, whole=whole, **data)


def _bpb(report: Reported | None, nats: float) -> float:
    assert report is not None
    return nats / math.log(2.0) / report.bytes


def overlap(e: Evidence) -> Verdict:
    """Judge that the training shards hold no validation documents."""
    if e.overlap is None:
        return unknown("no training shards given (--train-data)")
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
    if share > MAX_OVERLAP:
        first = (shared.exact if len(shared.exact) else shared.near)[0]
        return failed(f"{counts}; first: document {first}", **data)
    return passed(counts, **data)
