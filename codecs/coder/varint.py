"""Small integers in headers: seven bits a byte, low first, the top bit says more follow."""

from __future__ import annotations

from squeeze.errors import CorruptData

MAX_BYTES = 9  # 63 bits: more than any count or value in a header


def write(value: int) -> bytes:
    """Encode a non-negative integer below 2^63."""
    assert 0 <= value < 1 << 63
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(
    data: bytes, position: int, field: str = "a number", header: str = "payload header"
) -> tuple[int, int]:
    """Return the integer at `position` and the position after it.

    field, header: names of what is read and of where, for the message. Raises CorruptData where the
    data ends, and for a spelling that `write` does not make, so that a number has one.
    """
    value = 0
    for shift in range(0, 7 * MAX_BYTES, 7):
        if position >= len(data):
            raise CorruptData(f"{header} ends inside {field}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise CorruptData(f"{header}: {field} is not in its shortest form")
            return value, position
    raise CorruptData(f"{header}: {field} is longer than {MAX_BYTES} bytes")


def write_signed(value: int) -> bytes:
    """Encode an integer of magnitude below 2^62: 0, -1, 1, -2, … become 0, 1, 2, 3, …"""
    return write(value << 1 if value >= 0 else ~value << 1 | 1)


def read_signed(data: bytes, position: int) -> tuple[int, int]:
    """Return the signed integer at `position` and the position after it. Raises CorruptData."""
    value, position = read(data, position)
    return (~(value >> 1) if value & 1 else value >> 1), position
