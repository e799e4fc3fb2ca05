"""The coder of `softmax` in plain Python: its oracle. Frequencies must be equal, not close."""

from __future__ import annotations

from collections.abc import Sequence

from squeeze.codecs.coder.reference import Decoder, Encoder

TERMS = 9
LN_2 = 0.6931471805599453


def exp2(x: float) -> float:
    """Return 2^x for x ≤ 0, by the same series in the same order."""
    if x < -63.0:
        return 0.0
    whole = int(x - 0.5)
    coefficients = [1.0]
    for n in range(1, TERMS):
        coefficients.append(coefficients[-1] * LN_2 / n)
    series = 0.0
    for coefficient in reversed(coefficients):
        series = coefficient + (x - whole) * series
    return series * 2.0**whole


def cumulative(logits: Sequence[float]) -> list[int]:
    """Return the running sums of the frequencies of one row of logits; the last is their total."""
    top = max(logits)
    weights = [exp2((logit - top) * 1.4426950408889634) for logit in logits]
    total = 0.0
    for weight in weights:
        total += weight
    share = 2.0**24 / total
    sums = [0]
    for weight in weights:
        sums.append(sums[-1] + int(weight * share) + 1)
    return sums


def encode(rows: Sequence[Sequence[float]], symbols: Sequence[int]) -> bytes:
    """Encode symbols, each under its row of logits."""
    coder = Encoder()
    for logits, symbol in zip(rows, symbols, strict=True):
        cum = cumulative(logits)
        coder.encode_share(cum[symbol], cum[symbol + 1] - cum[symbol], cum[-1])
    return coder.finish()


def decode(data: bytes, rows: Sequence[Sequence[float]]) -> list[int]:
    """Mirror `encode`."""
    coder, symbols = Decoder(data), []
    for logits in rows:
        cum = cumulative(logits)
        target = coder.target_share(cum[-1])
        symbol = next(i for i in range(len(logits)) if cum[i + 1] > target)
        coder.advance_share(cum[symbol], cum[symbol + 1] - cum[symbol], cum[-1])
        symbols.append(symbol)
    return symbols
