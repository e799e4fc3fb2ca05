"""Streams of every compressor, shuffled bytes included, come back whole or not at all."""

import bz2
import gzip
import lzma
import zlib

import brotli
import numpy as np
import pytest
import zstandard

from squeeze.errors import CorruptData
from squeeze.outside import inflate
from squeeze.outside.shuffle import unshuffled
from tests.squeeze.outside.exports import (
    shuffled,
)


def test_the_byte_shuffle_is_undone_for_any_length():
    data = b"PK\x03\x04" + np.random.default_rng(2).bytes(57)
    for stride in (2, 3, 4, 7):
        assert unshuffled(shuffled(data, stride)) == (data, stride)
    assert unshuffled(shuffled(data, 4, mark=False)) == (data, 4)
    assert unshuffled(data) == (data, 0)


@pytest.mark.parametrize("coder", ["zlib", "gzip", "bz2", "xz", "lzma", "zstd", "brotli"])
def test_streams_of_several_buffers_come_back_whole_and_cut_ones_do_not(coder):
    data = np.random.default_rng(3).integers(0, 12, 3 << 20, np.uint8).tobytes()
    packed = {
        "zlib": lambda: zlib.compress(data, 1),
        "gzip": lambda: gzip.compress(data, 1),
        "bz2": lambda: bz2.compress(data, 1),
        "xz": lambda: lzma.compress(data, preset=0),
        "lzma": lambda: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
        "zstd": lambda: zstandard.compress(data, 1),
        "brotli": lambda: brotli.compress(data, quality=1),
    }[coder]()
    assert inflate.inflate(packed, coder, "x") == data
    for cut in (len(packed) - 1, len(packed) // 2):
        with pytest.raises(CorruptData, match="cut off"):
            inflate.inflate(packed[:cut], coder, "x")
