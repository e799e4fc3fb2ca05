"""Token shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeeze.errors import BadData
from squeeze.train.data.shards import (
    HEADER_BYTES,
    MAGIC,
    map_shard,
    read_shard,
    read_shards,
    shard_length,
    write_shard,
)


def header(magic: int = MAGIC, version: int = 1, count: int = 4) -> bytes:
    ints = np.zeros(256, "<i4")
    ints[:3] = magic, version, count
    return ints.tobytes()


@pytest.mark.parametrize("values", [[], [0], [65_535, 0, 1, 256]])
def test_a_shard_survives_writing_and_reading(tmp_path: Path, values: list[int]) -> None:
    tokens = np.array(values, np.uint16)
    write_shard(tmp_path / "s.bin", tokens)
    assert (tmp_path / "s.bin").stat().st_size == HEADER_BYTES + 2 * len(values)
    assert shard_length(tmp_path / "s.bin") == len(values)
    assert read_shard(tmp_path / "s.bin").tolist() == values


def test_shard_bytes_are_little_endian_as_published(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.bin", np.array([0x1234], np.uint16))
    data = (tmp_path / "s.bin").read_bytes()
    assert data[:12] == bytes.fromhex("88d83401 01000000 01000000")
    assert data[1024:] == b"\x34\x12"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (header()[:1023], "too short"),
        (header(magic=MAGIC + 1) + bytes(8), "not a token shard"),
        (header(version=2) + bytes(8), "unknown shard version"),
        (header(count=-1) + bytes(8), "negative"),
        (header() + bytes(7), "truncated"),
        (header(count=2**31 - 1), "truncated"),
        (header() + bytes(9), "left over"),
    ],
)
def test_each_malformed_shard_has_its_own_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "s.bin").write_bytes(data)
    with pytest.raises(BadData, match=message):
        read_shard(tmp_path / "s.bin")


def test_a_missing_shard_or_a_folder_is_bad_data(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.bin"):
        with pytest.raises(BadData, match="no such file"):
            read_shard(path)


def test_only_uint16_tokens_are_written(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="uint16"):
        write_shard(tmp_path / "s.bin", np.zeros(3, np.int64))  # type: ignore[arg-type]


def test_shards_join_in_order_and_stop_at_the_limit(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.bin" for i in range(3)]
    for i, path in enumerate(paths):
        write_shard(path, np.arange(4 * i, 4 * i + 4, dtype=np.uint16))
    assert read_shards(paths).tolist() == list(range(12))
    assert read_shards(paths, 6).tolist() == list(range(6))


def test_a_mapped_shard_holds_what_a_read_one_does(tmp_path: Path) -> None:
    for values in ([], [7, 0, 65535]):
        write_shard(tmp_path / "a.bin", np.array(values, np.uint16))
        assert map_shard(tmp_path / "a.bin").tolist() == values
    (tmp_path / "a.bin").write_bytes(header(count=9))
    with pytest.raises(BadData, match="truncated"):
        map_shard(tmp_path / "a.bin")
