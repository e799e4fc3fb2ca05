"""The word coder of `context_words` in plain Python: the oracle of its kernel."""

from __future__ import annotations

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.context.reference import Bit, Decisions
from squeeze.codecs.context.words import MEAN_WINDOW, RATE


def code_words(values_: list[int], planes: int, bit: Bit) -> None:
    """Code the values through `bit`; a decoding `bit` ignores them and fills them in."""
    decide = Decisions(bit, first_weight=1 << 15)
    last = before = mean = 0
    for i, value in enumerate(values_):
        above = 0
        for plane in reversed(range(planes)):
            down = 8 * plane
            byte = last >> down & 255
            agrees = above == last >> down + 8
            contexts: tuple[object, object, object]
            if plane == planes - 1:
                contexts = before >> down & 255, byte, mean >> down + 8 & 255
            else:
                upper = above & 255 if plane == planes - 2 else 0
                away = max(-2, min(above - (mean >> down + 16), 2))
                contexts = upper, (byte, agrees), (away, mean >> down + 11 & 31)
            node = 1
            for k in reversed(range(8)):
                slots = [(plane, node, context) for context in contexts]
                digit = value >> down + k & 1
                node = node << 1 | decide.mixed(digit, (plane, agrees, k), slots, RATE)
            above = above << 8 | node & 255
        values_[i] = above
        before, last = last, above
        mean += ((above << 8) - mean) // min(i + 1, MEAN_WINDOW)


def encode_words(values: list[int], planes: int) -> bytes:
    """As ContextWords.encode, of unsigned values."""
    coder = Encoder()

    def bit(value: int, p1: int) -> int:
        coder.encode_bit(value, p1, 16)
        return value

    code_words(list(values), planes, bit)
    return coder.finish()


def decode_words(data: bytes, count: int, planes: int) -> list[int]:
    """Mirror of `encode_words`, without the check of the end."""
    coder = Decoder(data)
    values = [0] * count
    code_words(values, planes, lambda value, p1: coder.decode_bit(p1, 16))
    return values
