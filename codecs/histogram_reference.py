"""The adaptive histogram of `histogram` in plain Python: the oracle of its kernels."""

from __future__ import annotations

from collections.abc import Sequence

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.histogram import BLOCK, FIRST_BLOCK, INCREMENT, LARGEST_TOTAL, table_bits


class Histogram:
    """Cumulative frequencies of 2^bits, rebuilt after each block of symbols."""

    def __init__(self, alphabet: int) -> None:
        self.bits = table_bits(alphabet)
        self.counts = [1] * alphabet
        self.pending: list[int] = []
        self.block = FIRST_BLOCK
        self._rebuild()

    def _rebuild(self) -> None:
        total, below = sum(self.counts), 0
        self.cumulative = []
        for i, count in enumerate(self.counts):
            spread = (1 << self.bits) - len(self.counts)
            self.cumulative.append(i + below * spread // total)
            below += count
        self.cumulative.append(1 << self.bits)

    def interval(self, value: int) -> tuple[int, int]:
        """Return (cum, freq) of a value."""
        return self.cumulative[value], self.cumulative[value + 1] - self.cumulative[value]

    def find(self, target: int) -> int:
        """Return the value whose interval holds `target`."""
        return max(v for v in range(len(self.counts)) if self.cumulative[v] <= target)

    def learn(self, value: int) -> None:
        """Count a value, at the end of its block."""
        self.pending.append(value)
        if len(self.pending) < self.block:
            return
        for counted in self.pending:
            self.counts[counted] += INCREMENT
        if sum(self.counts) > max(LARGEST_TOTAL, 4 * INCREMENT * len(self.counts)):
            self.counts = [count >> 1 | 1 for count in self.counts]
        self.pending = []
        self.block = min(2 * self.block, max(BLOCK, 4 * len(self.counts)))
        self._rebuild()


def encode_values(values: Sequence[int], alphabet: int) -> bytes:
    """Encode values as `histogram.encode_values` does."""
    if alphabet == 1:
        return b""
    model, coder = Histogram(alphabet), Encoder()
    for value in values:
        coder.encode(*model.interval(value), model.bits)
        model.learn(value)
    return coder.finish()


def decode_values(data: bytes, count: int, alphabet: int) -> list[int]:
    """Decode values as `histogram.decode_values` does, without the check of the end."""
    if alphabet == 1:
        return [0] * count
    model, coder = Histogram(alphabet), Decoder(data)
    values = []
    for _ in range(count):
        value = model.find(coder.target(model.bits))
        coder.advance(*model.interval(value), model.bits)
        model.learn(value)
        values.append(value)
    return values
