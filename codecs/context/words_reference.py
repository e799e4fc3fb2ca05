"""The coder of words in plain Python: the oracle of `words`, with the same steps by the same names."""

from __future__ import annotations

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.context.mixing_reference import Bit, Decisions, decoding, encoding
from squeeze.codecs.context.words import MEAN_WINDOW, RATE, History


def code_words(values_: list[int], planes: int, bit: Bit) -> None:
    """Code the values through `bit`; a decoding `bit` ignores them and fills them in."""
    decide = Decisions(bit, first_weight=1 << 15)
    history = History(last=0, before=0, mean=0, count=0)
    for i, value in enumerate(values_):
        above = 0
        for plane in reversed(range(planes)):
            decision, contexts = contexts_of_byte(plane, planes, above, history)
            byte = code_byte(decide, value >> 8 * plane, decision, contexts)
            above = above << 8 | byte
        values_[i] = above
        count = min(history.count + 1, MEAN_WINDOW)
        mean = history.mean + ((above << 8) - history.mean) // count
        history = History(above, history.last, mean, count)


def contexts_of_byte(
    plane: int, planes: int, above: int, history: History
) -> tuple[tuple[int, bool], tuple[object, object, object]]:
    """Return what names the weights of a byte's decisions, and the byte's three contexts.

    plane: the byte's number, 0 for the lowest.
    above: the higher bytes of the word, as one number.
    """
    down = 8 * plane
    last_byte = history.last >> down & 255
    agrees = above == history.last >> down + 8
    if plane == planes - 1:
        contexts: tuple[object, object, object] = (
            history.before >> down & 255,
            last_byte,
            history.mean >> down + 8 & 255,
        )
    else:
        upper = above & 255 if plane == planes - 2 else 0
        away = max(-2, min(above - (history.mean >> down + 16), 2))
        contexts = upper, (last_byte, agrees), (away, history.mean >> down + 11 & 31)
    return (plane, agrees), contexts


def code_byte(
    decide: Decisions,
    byte: int,
    decision: tuple[int, bool],
    contexts: tuple[object, object, object],
) -> int:
    """Code the low eight bits of `byte` from the highest on; return those coded or decoded."""
    node = 1
    for k in reversed(range(8)):
        slots = [(decision[0], node, context) for context in contexts]
        node = node << 1 | decide.mixed(byte >> k & 1, (*decision, k), slots, RATE)
    return node & 255


def encode_words(values: list[int], planes: int) -> bytes:
    """Return the stream of unsigned values, as `ContextWords.encode` writes it."""
    coder = Encoder()
    code_words(list(values), planes, encoding(coder))
    return coder.finish()


def decode_words(data: bytes, count: int, planes: int) -> list[int]:
    """Mirror `encode_words`, without the check of the end."""
    values = [0] * count
    code_words(values, planes, decoding(Decoder(data)))
    return values
