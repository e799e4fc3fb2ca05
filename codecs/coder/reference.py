"""The range coder of `rangecoder` in plain Python: its oracle, and the specification to read.

Python integers do not wrap, so every place where the machine's arithmetic is modulo 2^64 shows.
"""

from __future__ import annotations

MASK = (1 << 64) - 1
MIN_RANGE = 1 << 32


class Encoder:
    """Encoder that narrows [low, low + range); see the derivation in `rangecoder`."""

    def __init__(self) -> None:
        self.low = 0
        self.range = MASK
        self.number = 0  # all words so far, as one integer: a carry is then just an addition
        self.words = 0

    def encode(self, cum: int, freq: int, bits: int) -> None:
        """Encode a symbol with the interval [cum, cum + freq) of 2^bits."""
        self.encode_share(cum, freq, 1 << bits)

    def encode_share(self, cum: int, freq: int, total: int) -> None:
        """Encode a symbol with the interval [cum, cum + freq) of any total up to 2^32."""
        unit = self.range // total
        self._narrow(unit * cum, unit * freq)

    def encode_bit(self, bit: int, p1: int, bits: int) -> None:
        """Encode a decision with P(1) = p1 / 2^bits, 0 < p1 < 2^bits."""
        split = (self.range >> bits) * p1
        self._narrow(*((0, split) if bit else (split, self.range - split)))

    def _narrow(self, start: int, width: int) -> None:
        self.low += start
        self.number += self.low >> 64
        self.low &= MASK
        self.range = width
        if self.range < MIN_RANGE:
            self.number = self.number << 32 | self.low >> 32
            self.words += 1
            self.low = self.low << 32 & MASK
            self.range <<= 32

    def finish(self) -> bytes:
        """Return the words and the fewest bytes that end the number."""
        for count in range(5):
            unit = 1 << 64 - 8 * count
            value = -(-self.low // unit) * unit
            if value - self.low < self.range:
                break
        number = (self.number << 64) + value
        return number.to_bytes(4 * self.words + 8, "big")[: 4 * self.words + count]


class Decoder:
    """Decoder that follows `code`, the distance of the coded number from the encoder's low."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.range = MASK
        self.code = self._word() << 32 | self._word()

    def _word(self) -> int:
        word = self.data[self.position : self.position + 4].ljust(4, b"\0")
        self.position += 4
        return int.from_bytes(word, "big")

    def target(self, bits: int) -> int:
        """Return a point of 2^bits within the next symbol's interval."""
        return self.target_share(1 << bits)

    def advance(self, cum: int, freq: int, bits: int) -> None:
        """Mirror `encode`, once the symbol is known."""
        self.advance_share(cum, freq, 1 << bits)

    def target_share(self, total: int) -> int:
        """Return a point of the total within the next symbol's interval."""
        return min(self.code // (self.range // total), total - 1)

    def advance_share(self, cum: int, freq: int, total: int) -> None:
        """Mirror `encode_share`, once the symbol is known."""
        unit = self.range // total
        self._narrow(unit * cum, unit * freq)

    def decode_bit(self, p1: int, bits: int) -> int:
        """Mirror `encode_bit`: return the decision."""
        split = (self.range >> bits) * p1
        bit = int(self.code < split)
        self._narrow(*((0, split) if bit else (split, self.range - split)))
        return bit

    def _narrow(self, start: int, width: int) -> None:
        self.code = self.code - start & MASK
        self.range = width
        if self.range < MIN_RANGE:
            self.code = (self.code << 32 & MASK) | self._word()
            self.range <<= 32

    def ended_exactly(self) -> bool:
        """Return True where the words that were read end where the bytes end."""
        written = self.position - 8
        return written <= len(self.data) <= written + 4
