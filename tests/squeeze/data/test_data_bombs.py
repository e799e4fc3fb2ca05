"""Text that a few bytes of a compressed file stand for is read in memory that is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from squeeze.data import documents as documents_room
from squeeze.data.documents import TextFiles, read_documents
from squeeze.data.tokenize import PENDING, Job, _Shards
from squeeze.errors import BadData, CorruptData

MOST = 100 << 20  # bytes
SIZE = 96 << 20


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def documents(path: Path) -> list[str]:
    return list(read_documents(TextFiles([path], separator="<end>")))


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        ("gz", gzip.compress), ("bz2", bz2.compress),
        ("xz", lambda data: lzma.compress(data, preset=0)),
    ],
)  # fmt: skip
def test_a_document_that_does_not_end_is_refused(
    tmp_path: Path, kind: str, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.{kind}.{ending}"
    path.write_bytes(pack(b"x" * SIZE))
    with little_memory(), pytest.raises(BadData, match="a document is too long"):
        documents(path)


def test_a_compressed_document_may_be_as_long_as_text_compresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_room, "FEW", 9)
    text = "".join(map(str, range(20_000)))
    for ending, pack in (("gz", gzip.compress), ("xz", lzma.compress)):
        (tmp_path / f"a.txt.{ending}").write_bytes(pack(text.encode()))
        assert documents(tmp_path / f"a.txt.{ending}") == [text]


def test_an_xz_file_may_have_several_streams_and_padding(tmp_path: Path) -> None:
    parts = [lzma.compress(b"one<end>tw"), bytes(8), lzma.compress(b"o<end>three"), bytes(4)]
    (tmp_path / "a.txt.xz").write_bytes(b"".join(parts))
    assert documents(tmp_path / "a.txt.xz") == ["one", "two", "three"]
    (tmp_path / "b.txt.xz").write_bytes(parts[0][:-9])
    with pytest.raises(BadData, match="cut off"):
        documents(tmp_path / "b.txt.xz")


def test_an_xz_stream_that_asks_for_a_large_window_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"x", filters=filters))
    with pytest.raises(BadData, match="Memory usage limit"):
        documents(tmp_path / "a.txt.xz")


def test_the_state_of_a_killed_run_is_not_inflated(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(SIZE, np.uint8))
    with zipfile.ZipFile(tmp_path / PENDING, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state.npy", array.getvalue())
    with little_memory(), pytest.raises(CorruptData, match="its arrays are compressed"):
        _Shards(tmp_path, Job((), "", 0.5, 100, None, "text"))
