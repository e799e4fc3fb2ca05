"""The byte shuffle inside compressed streams: the first byte of every word, then all second ones, …"""

from __future__ import annotations

SHUFFLE = b"BSHF"  # then the stride in one byte, then the planes one after another


def unshuffled(data: bytes | bytearray) -> tuple[bytes | bytearray, int]:
    """Return the bytes in their own order, and the stride of the byte shuffle that was undone.

    A shuffle is marked by SHUFFLE; without the mark, a stride of 2 or 4 is taken when a zip archive's
    first bytes come out. Stride 0: not shuffled.
    """
    if data[:4] == SHUFFLE and len(data) > 5:
        stride = data[4]
        return (_unshuffle(memoryview(data)[5:], stride) if stride > 1 else data[5:]), stride
    for stride in (2, 4):
        starts = [sum(_lengths(len(data), stride)[:plane]) for plane in range(stride)]
        places = [start + at for at in range(4 // stride) for start in starts]
        head = bytes(data[place] for place in places if place < len(data))
        if head == b"PK\x03\x04":
            return _unshuffle(memoryview(data), stride), stride
    return data, 0


def _lengths(total: int, stride: int) -> list[int]:
    return [total // stride + (plane < total % stride) for plane in range(stride)]


def _unshuffle(data: memoryview, stride: int) -> bytearray:
    plain = bytearray(len(data))
    # a bytearray's own slices would copy each plane once more
    octets, at = memoryview(plain), 0
    for plane, length in enumerate(_lengths(len(data), stride)):
        octets[plane::stride] = data[at : at + length]
        at += length
    return plain
