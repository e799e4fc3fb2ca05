"""Context coding of matrices of weight indices: the codec over the kernel in `context_model`.

Works for scalar quantization and, given the number of states, for trellis-coded indices, whose
superset the coder then knows. Large matrices are several streams of rows, so that all cores work on
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
from squeeze.codecs.context.model import SCALE_BITS, WORST_BITS, Model, code_rows_
from squeeze.codecs.context.prediction import MAX_COLUMNS, RowPredictor, is_promising
from squeeze.codecs.trellis.tables import PARITY_CHECKS, next_states, supersets
from squeeze.errors import CorruptData

BAND = 1 << 22  # indices in a stream, at most (but at least a row)
LARGEST_SCALE = 1 << 16
CHUNK = 1 << 16  # indices converted and coded at a time


class Context(Codec):
    """Payload: varint number of trellis states (0 for scalar), varint 1 where rows are predicted
    (see `prediction`) or 0, varint mean magnitude (SCALE_BITS fractional bits, clipped), then for
    each band of rows: varint length (not for the last), the trellis states of its columns (a byte
    each; not for the first band or scalar), the stream.
    """

    name = "context"
    wire_id = 48

    def __init__(self, n_states: int = 0, threads: int | None = None) -> None:
        """`n_states` of the trellis that made the indices; 0 for scalar. Only encoding needs it."""
        self._n_states = n_states
        self._tables = _trellis(n_states)
        self._threads = threads or os.cpu_count() or 1

    def _encode(self, symbols: Symbols) -> bytes:
        matrix = np.atleast_2d(symbols)
        mean = int(np.abs(matrix.astype(np.int64)).sum()) << SCALE_BITS
        scale = min(mean // matrix.size, LARGEST_SCALE)
        bands = _bands(*matrix.shape)
        starts = self._start_states(matrix, bands)
        plain = self._assemble(matrix, bands, starts, scale, predict=False)
        if not is_promising(matrix[bands[0]]):
            return plain
        return min(plain, self._assemble(matrix, bands, starts, scale, predict=True), key=len)

    def _assemble(
        self,
        matrix: Symbols,
        bands: list[slice],
        starts: list[npt.NDArray[np.int64]],
        scale: int,
        predict: bool,
    ) -> bytes:
        def encode_band(i: int) -> bytes:
            return _encode_rows(matrix[bands[i]], scale, starts[i], self._tables, predict)

        head = varint.write(self._n_states) + varint.write(predict) + varint.write(scale)
        with ThreadPoolExecutor(self._threads) as pool:
            streams = list(pool.map(encode_band, range(len(bands))))
        for i, stream in enumerate(streams):
            if i < len(bands) - 1:
                head += varint.write(len(stream))
            if i and self._n_states:
                head += starts[i].astype(np.uint8).tobytes()
            head += stream
        return head

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        n_states, position = varint.read(data, 0)
        if n_states and n_states not in PARITY_CHECKS:
            raise CorruptData(f"{self.name}: no such trellis", found=n_states)
        tables = _trellis(n_states)
        predict, position = varint.read(data, position)
        scale, position = varint.read(data, position)
        if predict > 1 or scale > LARGEST_SCALE or (predict and shape[-1] > MAX_COLUMNS):
            raise CorruptData(f"{self.name}: malformed header")
        matrix = np.zeros(shape if len(shape) == 2 else (1, shape[0]), dtype)
        bands = _bands(*matrix.shape)
        starts, streams = [], []
        for i in range(len(bands)):
            length = len(data)
            if i < len(bands) - 1:
                length, position = varint.read(data, position)
            start = np.zeros(matrix.shape[1], np.int64)
            if i and n_states:
                start = np.frombuffer(data[position : position + start.size], np.uint8)
                position += matrix.shape[1]
                if start.size < matrix.shape[1] or start.max() >= n_states:
                    raise CorruptData(f"{self.name}: malformed trellis states")
            starts.append(start.astype(np.int64))
            streams.append(data[position : position + length])
            position += length

        def decode_band(i: int) -> None:
            _decode_rows_(streams[i], matrix[bands[i]], scale, starts[i], tables, predict == 1)

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(decode_band, range(len(bands))))
        return matrix.reshape(shape)

    def _start_states(self, matrix: Symbols, bands: list[slice]) -> list[npt.NDArray[np.int64]]:
        """The trellis state of each column where each band starts."""
        state = np.zeros(matrix.shape[1], np.int64)
        starts = [state]
        for band in bands[:-1]:
            if self._n_states:
                for row in matrix[band]:
                    state = self._tables[0][state, row & 1].astype(np.int64)
            starts.append(state)
        return starts


Tables = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def _trellis(n_states: int) -> Tables:
    """(next states, supersets); the scalar quantizer is a trellis of one state."""
    if n_states == 0:
        return np.zeros((1, 2), np.uint8), np.zeros(1, np.uint8)
    return next_states(n_states), supersets(n_states)


def _bands(rows: int, columns: int) -> list[slice]:
    count = min(rows, -(-rows * columns // BAND))
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _arguments(
    model: Model,
    tables: Tables,
    predictor: RowPredictor,
    coder: rangecoder.State,
    words: rangecoder.Words,
) -> tuple[Any, ...]:
    """What the kernel takes after the indices and the direction."""
    return (
        *tables,
        model.slots,
        model.low_slots,
        model.weights,
        model.column_scale,
        model.column_mean,
        model.above,
        model.states,
        model.matrix,
        predictor.factor,
        predictor.mean,
        predictor.innovation,
        coder,
        words,
    )


def _chunks(matrix: Symbols, predictor: RowPredictor) -> Iterator[slice]:
    """Rows to code at a time; the predictor learns between them."""
    rows, columns = matrix.shape
    height = max(1, CHUNK // columns)
    first = 0
    while first < rows:
        last = first + predictor.rows_until_due(min(height, rows - first))
        yield slice(first, last)
        first = last


def _encode_rows(
    matrix: Symbols, scale: int, start: npt.NDArray[np.int64], tables: Tables, predict: bool
) -> bytes:
    model, predictor = Model(matrix.shape[1], scale), RowPredictor(matrix.shape[1], predict)
    model.states[:] = start
    coder = rangecoder.start_encoding()
    words = np.empty(0, np.uint32)
    for chunk in _chunks(matrix, predictor):
        indices = matrix[chunk].astype(np.int64)
        needed = int(coder[2]) + indices.size * WORST_BITS // 32 + 4
        if needed > words.size:
            words = np.concatenate([words, np.empty(needed + words.size // 2, np.uint32)])
        before = model.states.copy()
        code_rows_(indices, True, *_arguments(model, tables, predictor, coder, words))
        if predict:
            predictor.learn(_values(indices, before, tables))
    return rangecoder.finish_encoding(coder, words)


def _decode_rows_(
    data: bytes,
    matrix_: Symbols,
    scale: int,
    start: npt.NDArray[np.int64],
    tables: Tables,
    predict: bool,
) -> None:
    model, predictor = Model(matrix_.shape[1], scale), RowPredictor(matrix_.shape[1], predict)
    model.states[:] = start
    coder, words = rangecoder.start_decoding(data)
    for chunk in _chunks(matrix_, predictor):
        indices = np.zeros(matrix_[chunk].shape, np.int64)
        before = model.states.copy()
        code_rows_(indices, False, *_arguments(model, tables, predictor, coder, words))
        matrix_[chunk] = to_dtype(indices, matrix_.dtype, Context.name)
        if predict:
            predictor.learn(_values(indices, before, tables))
    rangecoder.check_end(coder, data)


def _values(
    indices: npt.NDArray[np.int64], states: npt.NDArray[np.int64], tables: Tables
) -> npt.NDArray[np.int64]:
    """2·index + superset, down the columns from `states`."""
    following, labels = tables
    values = 2 * indices
    for row, value in zip(indices, values, strict=True):
        value += labels[states]
        states = following[states, row & 1].astype(np.int64)
    return values
