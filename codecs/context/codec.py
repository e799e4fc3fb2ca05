"""Context coding of matrices of weight indices: the codec over `kernel`.

It serves scalar quantization and, given the number of states, trellis-coded indices, whose
supersets the coder then knows. Large matrices are several streams of rows, so that all cores work on
them; the streams depend on the shape alone, so the bytes do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.base import Codec, Symbols, to_dtype
from squeeze.codecs.coder import rangecoder, varint
from squeeze.codecs.context.kernel import code_rows_
from squeeze.codecs.context.model import SCALE_BITS, WORST_BITS, Start, Trellis, start_model
from squeeze.codecs.context.prediction import MAX_COLUMNS, RowPredictor, is_promising
from squeeze.codecs.trellis.tables import PARITY_CHECKS, next_states, supersets
from squeeze.errors import CorruptData

BAND = 1 << 22  # indices in a stream, at most (but at least a row)
LARGEST_SCALE = 1 << 16
WIDEST = 1 << 20  # columns of a matrix; each takes 60 bytes while the matrix is coded
CHUNK = 1 << 16  # indices converted and coded at a time
# Scalar quantization as a trellis of one state; read-only, as the tables of the others are, so that
# one compiled kernel serves them all.
SCALAR = Trellis(
    np.frombuffer(bytes(2), np.uint8).reshape(1, 2),
    np.frombuffer(bytes(1), np.uint8),
)


class Context(Codec):
    """Codec of weight indices, whose contexts are the rows above and the indices on the left.

    Payload: varint number of trellis states (0 for scalar), varint 1 where rows are predicted
    (see `prediction`) or 0, varint mean magnitude (SCALE_BITS fractional bits, clipped), then for
    each band of rows: varint length (not for the last), the trellis states of its columns (a byte
    each; not for the first band or scalar), the stream.
    """

    name = "context"
    wire_id = 48

    def __init__(self, n_states: int = 0, threads: int | None = None) -> None:
        """Make a codec of indices that a trellis or, by default, a scalar quantizer chose.

        n_states: number of states of that trellis, 0 for scalar; decoding reads it from the payload.
        threads: number of bands coded at once; by default one a core.

        Raises BadConfig for an unknown trellis.
        """
        self._n_states = n_states
        self._trellis = _trellis(n_states)
        self._threads = threads

    def accepts(self, symbols: Symbols) -> bool:
        """Return whether the array has at most WIDEST columns."""
        return symbols.shape[-1] <= WIDEST

    def _encode(self, symbols: Symbols) -> bytes:
        matrix = np.atleast_2d(symbols)
        mean = int(np.abs(matrix.astype(np.int64)).sum()) << SCALE_BITS
        scale = min(mean // matrix.size, LARGEST_SCALE)
        bands = _bands(*matrix.shape)
        starts = list(_starts(matrix, bands, self._trellis, scale))
        plain = self._assemble(matrix, bands, starts)
        if not is_promising(matrix[bands[0]]):
            return plain
        predicting = [start._replace(predict=True) for start in starts]
        return min(plain, self._assemble(matrix, bands, predicting), key=len)

    def _assemble(self, matrix: Symbols, bands: list[slice], starts: list[Start]) -> bytes:
        """Return the payload of a matrix whose bands are coded from these starts."""

        def encode_band(i: int) -> bytes:
            return encode_rows(matrix[bands[i]], starts[i])

        payload = varint.write(self._n_states)
        payload += varint.write(starts[0].predict) + varint.write(starts[0].scale)
        with ThreadPoolExecutor(self._threads or os.cpu_count()) as pool:
            streams = list(pool.map(encode_band, range(len(bands))))
        for i, stream in enumerate(streams):
            if i < len(bands) - 1:
                payload += varint.write(len(stream))
            if i and self._n_states:
                payload += starts[i].states.astype(np.uint8).tobytes()
            payload += stream
        return payload

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        return decode_matrix(data, shape, dtype, self._threads)


def decode_matrix(
    data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], threads: int | None = None
) -> Symbols:
    """Return the indices of a payload, at least one. Raises CorruptData.

    threads: number of bands decoded at once; by default one a core
    """
    n_states, position = varint.read(data, 0)
    if n_states and n_states not in PARITY_CHECKS:
        raise CorruptData("context: no such trellis", found=n_states)
    trellis = _trellis(n_states)
    predict, position = varint.read(data, position)
    scale, position = varint.read(data, position)
    widest = MAX_COLUMNS if predict else WIDEST
    if predict > 1 or scale > LARGEST_SCALE or shape[-1] > widest:
        raise CorruptData("context: malformed header")
    matrix = np.zeros(shape if len(shape) == 2 else (1, shape[0]), dtype)
    bands = _bands(*matrix.shape)
    starts, streams = [], []
    for i in range(len(bands)):
        length = len(data)
        if i < len(bands) - 1:
            length, position = varint.read(data, position)
        states = np.zeros(matrix.shape[1], np.uint8)
        if i and n_states:
            states = np.frombuffer(data[position : position + states.size], np.uint8)
            position += matrix.shape[1]
            if states.size < matrix.shape[1] or states.max() >= n_states:
                raise CorruptData("context: malformed trellis states")
        starts.append(Start(trellis, scale, states.astype(np.int64), predict == 1))
        streams.append(data[position : position + length])
        position += length

    def decode_band(i: int) -> None:
        decode_rows_(streams[i], matrix[bands[i]], starts[i])

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(decode_band, range(len(bands))))
    return matrix.reshape(shape)


def _trellis(n_states: int) -> Trellis:
    """Return the tables of a trellis; 0 states stand for the scalar quantizer."""
    if n_states == 0:
        return SCALAR
    return Trellis(next_states(n_states), supersets(n_states))


def _bands(rows: int, columns: int) -> list[slice]:
    """Return the rows of each stream: as few equal bands as hold at most BAND indices each."""
    count = min(rows, -(-rows * columns // BAND))
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _starts(matrix: Symbols, bands: list[slice], trellis: Trellis, scale: int) -> Iterator[Start]:
    """Yield the start of each band, with the states that the rows above it lead to."""
    states = np.zeros(matrix.shape[1], np.int64)
    for band in bands:
        yield Start(trellis, scale, states, False)
        if band.stop < len(matrix) and len(trellis.supersets) > 1:
            for row in matrix[band]:
                states = trellis.next_states[states, row & 1].astype(np.int64)


def _chunks(matrix: Symbols, predictor: RowPredictor) -> Iterator[slice]:
    """Yield the rows to code at a time; the predictor learns between them."""
    rows, columns = matrix.shape
    height = max(1, CHUNK // columns)
    first = 0
    while first < rows:
        last = first + predictor.rows_until_due(min(height, rows - first))
        yield slice(first, last)
        first = last


def encode_rows(matrix: Symbols, start: Start) -> bytes:
    """Return the stream of one band, integers [rows, columns]."""
    model, predictor = start_model(start), RowPredictor(matrix.shape[1], start.predict)
    coder = rangecoder.start_encoding()
    for chunk in _chunks(matrix, predictor):
        indices = matrix[chunk].astype(np.int64)
        coder = rangecoder.with_room(coder, indices.size * WORST_BITS)
        before = model.columns.states.copy()
        code_rows_(indices, model, predictor.prediction, coder)
        if start.predict:
            predictor.learn(_values(indices, before, start.trellis))
    return rangecoder.finish_encoding(coder)


def decode_rows_(data: bytes, matrix_: Symbols, start: Start) -> None:
    """Mirror `encode_rows`: fill integers [rows, columns]. Raises CorruptData."""
    model, predictor = start_model(start), RowPredictor(matrix_.shape[1], start.predict)
    coder = rangecoder.start_decoding(data)
    for chunk in _chunks(matrix_, predictor):
        indices = np.zeros(matrix_[chunk].shape, np.int64)
        before = model.columns.states.copy()
        code_rows_(indices, model, predictor.prediction, coder)
        matrix_[chunk] = to_dtype(indices, matrix_.dtype, "context")
        if start.predict:
            predictor.learn(_values(indices, before, start.trellis))
    rangecoder.check_end(coder, data)


def _values(
    indices: npt.NDArray[np.int64], states: npt.NDArray[np.int64], trellis: Trellis
) -> npt.NDArray[np.int64]:
    """Return 2·index + superset of indices [rows, columns], down the columns from `states`."""
    values = 2 * indices
    for row, value in zip(indices, values, strict=True):
        value += trellis.supersets[states]
        states = trellis.next_states[states, row & 1].astype(np.int64)
    return values
