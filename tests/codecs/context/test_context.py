"""Context coding: kernel against reference, trellis states, bands, threads, and real sizes."""

from __future__ import annotations

import contextlib
import io
import zlib

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import squeeze.codecs as codecs
from squeeze.codecs.context import codec as context
from squeeze.codecs.context import mixing
from squeeze.codecs.context import reference as context_reference
from squeeze.codecs.context.codec import Context
from squeeze.codecs.context.model import Start, Trellis
from squeeze.codecs.trellis.tables import PARITY_CHECKS, next_states, supersets
from squeeze.errors import BadConfig, CorruptData

needs_compiler = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="minutes as plain Python"
)
values = st.one_of(
    st.integers(-1, 1), st.integers(-9, 9), st.integers(-300, 300), st.integers(-(2**31), 2**31 - 1)
)


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    kind = draw(st.sampled_from([st.integers(-1, 1), st.integers(-9, 9), values]))
    return draw(hnp.arrays(np.int32, (rows, columns), elements=kind))


def start_of(n_states, scale, columns, predict=False):
    """The start of a band whose columns begin in state 0."""
    if n_states == 0:
        trellis = Trellis(np.zeros((1, 2), np.uint8), np.zeros(1, np.uint8))
    else:
        trellis = Trellis(next_states(n_states), supersets(n_states))
    return Start(trellis, scale, np.zeros(columns, np.int64), predict)


def split_payload(payload, columns):
    """(start, stream) of a payload of one band, by the documented layout."""
    n_states, position = context.varint.read(payload, 0)
    predict, position = context.varint.read(payload, position)
    scale, position = context.varint.read(payload, position)
    return start_of(n_states, scale, columns, bool(predict)), payload[position:]


@given(matrices(), st.sampled_from([0, 4, 8, 64, 256]))
def test_kernel_and_reference_write_the_same_bytes_and_read_them_back(matrix, n_states):
    payload = Context(n_states).encode(matrix)
    start, stream = split_payload(payload, matrix.shape[1])
    assert not start.predict
    assert context_reference.encode_rows(matrix.tolist(), start) == stream
    back = context_reference.decode_rows(stream, len(matrix), start)
    assert back == matrix.tolist()
    assert (Context().decode(payload, matrix.shape, matrix.dtype) == matrix).all()


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 4096])
@pytest.mark.parametrize("spread", [0.01, 0.6, 3, 40, 30_000])
def test_kernel_and_reference_agree_on_long_rows(length, spread):
    matrix = np.random.default_rng(length).normal(0, spread, (1, length)).round().astype(np.int32)
    payload = Context(8).encode(matrix)
    start, stream = split_payload(payload, length)
    assert not start.predict
    assert context_reference.encode_rows(matrix.tolist(), start) == stream
    assert (Context().decode(payload, matrix.shape, matrix.dtype) == matrix).all()


@given(st.binary(max_size=60), st.sampled_from([0, 8]))
def test_damaged_streams_decode_alike_in_kernel_and_reference(stream, n_states):
    payload = bytes([n_states, 0]) + b"\x80\x02" + stream
    back = context_reference.decode_rows(stream, 3, start_of(n_states, 256, 5))
    with contextlib.suppress(CorruptData):
        assert Context().decode(payload, (3, 5), np.int32).tolist() == back


def correlated(rows, columns, seed=1, spread=6.0):
    """Indices whose rows share a few directions, as those of an embedding do."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 1, (rows, 3)) @ rng.normal(0, 1, (3, columns))
    return (spread * (shared + rng.normal(0, 0.5, (rows, columns)))).round().astype(np.int16)


@pytest.mark.parametrize("n_states", [0, 8])
@pytest.mark.parametrize("spread", [0.5, 6, 200, 9000])
def test_prediction_agrees_between_kernel_and_reference(n_states, spread):
    matrix = correlated(150, 9, spread=spread).clip(-32768, 32767)
    start = start_of(n_states, 700, 9, predict=True)
    stream = context.encode_rows(matrix, start)
    assert context_reference.encode_rows(matrix.tolist(), start) == stream
    assert context_reference.decode_rows(stream, 150, start) == matrix.tolist()
    payload = context.varint.write(n_states) + b"\x01" + context.varint.write(700) + stream
    assert (Context().decode(payload, matrix.shape, matrix.dtype) == matrix).all()


@needs_compiler
def test_correlated_rows_are_predicted_and_cost_less():
    matrix = correlated(1500, 48)
    payload = Context().encode(matrix)
    assert split_payload(payload, 48)[0].predict
    shuffled = np.random.default_rng(2).permuted(matrix, axis=0)  # same columns, no common rows
    assert len(payload) < 0.8 * len(Context().encode(shuffled))
    assert (Context().decode(payload, matrix.shape, matrix.dtype) == matrix).all()


@needs_compiler
def test_independent_rows_are_not_predicted():
    matrix = np.random.default_rng(3).normal(0, 3, (900, 48)).round().astype(np.int8)
    assert not split_payload(Context().encode(matrix), 48)[0].predict


def test_squash_and_stretch_are_inverse_and_symmetric():
    odds = np.arange(-mixing.ODDS_LIMIT, mixing.ODDS_LIMIT) / mixing.ODDS_UNIT
    exact = np.clip(65536 / (1 + np.exp(-odds)), 8, 65528)
    assert np.abs(mixing.SQUASH - exact).max() <= 1
    p = (np.arange(4096) + 0.5) / 4096
    assert np.abs(mixing.STRETCH - 256 * np.log(p / (1 - p))).max() <= 1.01
    assert (mixing.SQUASH[1:] + mixing.SQUASH[:0:-1] == 65536).all()


@needs_compiler
def test_knowing_the_trellis_saves_bytes():
    # Indices whose magnitude depends on the superset, as the search produces them.
    rng = np.random.default_rng(4)
    step, labels = next_states(8), supersets(8)
    state = np.zeros(300, np.int64)
    rows = []
    for _ in range(200):
        value = rng.normal(0, 1.5, 300)
        row = np.round((value - labels[state]) / 2).astype(np.int8)
        rows.append(row)
        state = step[state, row & 1].astype(np.int64)
    indices = np.array(rows)
    assert len(Context(8).encode(indices)) < 0.97 * len(Context().encode(indices))


@pytest.mark.parametrize("n_states", [0, *PARITY_CHECKS])
def test_bands_are_independent_streams_and_threads_change_no_byte(n_states, monkeypatch):
    monkeypatch.setattr(context, "BAND", 500)
    monkeypatch.setattr(context, "CHUNK", 150)
    indices = np.random.default_rng(8).normal(0, 2, (61, 40)).round().astype(np.int8)
    one = Context(n_states, threads=1).encode(indices)
    assert one == Context(n_states, threads=4).encode(indices)
    for threads in (1, 4):
        back = Context(threads=threads).decode(one, indices.shape, indices.dtype)
        assert (back == indices).all()
    for cut in range(len(one)):
        with pytest.raises(CorruptData):
            Context().decode(one[:cut], (61, 41), indices.dtype)


def test_chunks_change_no_byte(monkeypatch):
    indices = np.random.default_rng(9).normal(0, 3, (50, 30)).round().astype(np.int16)
    whole = Context(4).encode(indices)
    monkeypatch.setattr(context, "CHUNK", 1)
    assert Context(4).encode(indices) == whole
    assert (Context().decode(whole, indices.shape, indices.dtype) == indices).all()


def test_an_unknown_number_of_states_is_refused():
    with pytest.raises(BadConfig):
        Context(7)
    with pytest.raises(CorruptData):
        Context().decode(b"\x07\x00\x01\x01", (2, 2), np.int8)


@needs_compiler
@pytest.mark.parametrize(("share", "slack"), [(0.5, 1.01), (0.05, 1.02), (0.001, 1.1)])
def test_ternary_matrices_come_near_their_entropy(share, slack):
    rng = np.random.default_rng(2)
    trits = rng.choice(
        np.array([-1, 0, 1], np.int8), (500, 400), p=[share / 2, 1 - share, share / 2]
    )
    entropy = -(share * np.log2(share / 2) + (1 - share) * np.log2(1 - share)) * trits.size / 8
    assert entropy * 0.99 < len(Context().encode(trits)) < slack * entropy + 20


@needs_compiler
def test_binary_matrices_come_near_their_entropy():
    bits = np.random.default_rng(2).integers(0, 2, (500, 400)).astype(np.int8)
    assert len(Context().encode(bits)) < 1.01 * bits.size / 8
    assert len(Context().encode(2 * bits - 1)) < 1.01 * bits.size / 8


@needs_compiler
def test_scales_that_differ_between_rows_and_columns_are_learnt():
    rng = np.random.default_rng(3)
    scale = np.exp(rng.normal(0, 0.5, (400, 1))) * np.exp(rng.normal(0, 0.5, (1, 300)))
    codes = (rng.normal(0, 3, scale.shape) * scale).round().astype(np.int16)
    known = (np.log2(3 * scale) + 0.5 * np.log2(2 * np.pi * np.e)).sum() / 8
    flat = codecs.get("range-histogram").encode(codes)
    assert known < len(Context().encode(codes)) < 1.025 * known < 0.97 * len(flat)


def test_context_bytes_are_pinned():
    matrix = np.array([[0, 1, -1, 0], [2, 0, -7, 300]], np.int16)
    assert Context().encode(matrix).hex() == "0000e04dfe67e87af0d8b06f5d"
    assert Context(8).encode(matrix).hex() == "0800e04dfe67e87af0d8b06f5d"


@needs_compiler
@pytest.mark.slow
def test_real_codes_cost_less_than_their_entropy_and_than_general_coders(materials):
    torch = pytest.importorskip("torch")
    path = materials / "checkpoints" / "samtruss_7.6M_65176d11.int8.ptz"
    state = torch.load(
        io.BytesIO(zlib.decompress(path.read_bytes())), weights_only=True, map_location="cpu"
    )
    total, entropy, general = 0, 0.0, 0
    for tensor in state["quantized"].values():
        codes = tensor.numpy()
        share = np.unique(codes, return_counts=True)[1] / codes.size
        entropy -= (share * np.log2(share)).sum() * codes.size / 8
        total += len(Context().encode(codes))
        general += len(codecs.encode_smallest(codes, ["brotli", "brotli-transposed", "zstd"]).data)
    assert total < 0.98 * entropy and total < 0.975 * general
