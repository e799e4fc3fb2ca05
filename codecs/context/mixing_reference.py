"""The decisions of `mixing` in plain Python: the oracle of its kernels.

Here a context is a tuple and a slot an entry of a dictionary; the kernels' index arithmetic is one
way to lay them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.context.mixing import COUNT_LIMIT, ODDS_LIMIT, SQUASH, STRETCH

Bit = Callable[[int, int], int]  # (bit to encode, P(1) of 2^16) -> the bit coded or decoded


def encoding(coder: Encoder) -> Bit:
    """Return the `Bit` that encodes its bit."""

    def code(bit: int, p1: int) -> int:
        coder.encode_bit(bit, p1, 16)
        return bit

    return code


def decoding(coder: Decoder) -> Bit:
    """Return the `Bit` that ignores its bit and decodes one."""
    return lambda bit, p1: coder.decode_bit(p1, 16)


class Slot:
    """P(1) with 22 bits, and the number of decisions seen."""

    def __init__(self) -> None:
        self.p, self.count = 1 << 21, 0

    def odds(self) -> int:
        """Return the log-odds of a 1."""
        return int(STRETCH[self.p >> 10])

    def move(self, bit: int) -> None:
        """Move P(1) towards the bit."""
        pace = (2 << 16) // (2 * self.count + 3)
        self.p += (((bit << 22) - self.p) >> 3) * pace >> 13
        self.p = max(0, min(self.p, (1 << 22) - 1))
        self.count = min(self.count + 1, COUNT_LIMIT)


class Decisions:
    """Mixed and plain decisions with all that they have learnt.

    bit: codes a bit under its probability.
    first_weight: of every context before the first decision, in 1/2^16.
    """

    def __init__(self, bit: Bit, first_weight: int = (1 << 16) // 3) -> None:
        self.bit = bit
        self.first_weight = first_weight
        self.slots: dict[object, Slot] = {}
        self.weights: dict[object, list[int]] = {}

    def slot(self, key: object) -> Slot:
        """Return the slot of a context."""
        return self.slots.setdefault(key, Slot())

    def mixed(self, bit: int, decision: object, contexts: Sequence[object], rate: int) -> int:
        """Code a bit with the weights of `decision`; equal contexts at the same place share a slot."""
        slots = [self.slot((i, context)) for i, context in enumerate(contexts)]
        weights = self.weights.setdefault(decision, [self.first_weight] * 3)
        odds = sum(w * slot.odds() for w, slot in zip(weights, slots, strict=True)) >> 16
        p1 = int(SQUASH[max(-ODDS_LIMIT, min(odds, ODDS_LIMIT - 1)) + ODDS_LIMIT])
        bit = self.bit(bit, p1)
        error = ((bit << 16) - p1) * rate
        for i, slot in enumerate(slots):
            weights[i] += (slot.odds() * error + (1 << 19)) >> 20
            slot.move(bit)
        return bit

    def plain(self, bit: int, key: object) -> int:
        """Code a bit under one slot."""
        slot = self.slot(key)
        bit = self.bit(bit, max(8, min(slot.p >> 6, (1 << 16) - 8)))
        slot.move(bit)
        return bit

    def even(self, bit: int) -> int:
        """Code a bit that is 0 or 1 equally often."""
        return self.bit(bit, 1 << 15)
