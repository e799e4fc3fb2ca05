"""Small integers in headers: one spelling a number, and an error for every other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.codecs.coder import varint
from squeeze.errors import CorruptData


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_a_number_round_trips_and_what_follows_is_left(value, rest):
    data = varint.write(value)
    assert varint.read(data + rest, 0) == (value, len(data))


@given(st.integers(-(2**62), 2**62 - 1))
def test_a_signed_number_round_trips(value):
    data = varint.write_signed(value)
    assert varint.read_signed(data, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "payload header ends inside a number"),
        (b"\xff", "payload header ends inside a number"),
        (b"\x82\x00", "payload header: a number is not in its shortest form"),
        (b"\xff" * 9, "payload header: a number is longer than 9 bytes"),
    ],
)
def test_a_spelling_that_writing_does_not_make_is_malformed(data, message):
    with pytest.raises(CorruptData, match=message):
        varint.read(data, 0)


def test_an_error_names_the_field_and_the_header():
    with pytest.raises(CorruptData, match="proof header ends inside threads"):
        varint.read(b"", 0, "threads", "proof header")
