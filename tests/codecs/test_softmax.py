"""Symbols coded under logits: against the plain Python oracle, the entropy, and hostile input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeeze.codecs import softmax, softmax_reference
from squeeze.codecs.softmax import SoftmaxDecoder, SoftmaxEncoder
from squeeze.errors import CorruptData, SqueezeError


def encode(batches):
    coder = SoftmaxEncoder()
    for logits, symbols in batches:
        coder.encode(logits, symbols)
    return coder.finish()


def drawn(rng, rows, vocab, spread=3.0):
    """Logits float32 [rows, vocab] and symbols drawn from them."""
    logits = rng.normal(0, spread, (rows, vocab)).astype(np.float32)
    noise = rng.gumbel(size=logits.shape)
    return logits, np.argmax(logits + noise, axis=1)


def code_length(logits, symbols):
    """Bits of symbols under softmax, float64."""
    wide = logits.astype(np.float64)
    log_total = np.log(np.exp(wide - wide.max(1, keepdims=True)).sum(1)) + wide.max(1)
    return (log_total - wide[np.arange(len(symbols)), symbols]).sum() / np.log(2)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), rows=st.integers(0, 20), vocab=st.integers(1, 40))
def test_bytes_equal_those_of_the_plain_reference(seed, rows, vocab):
    logits, symbols = drawn(np.random.default_rng(seed), rows, vocab, spread=10.0)
    data = encode([(logits, symbols)])
    assert data == softmax_reference.encode(logits.tolist(), symbols.tolist())
    assert softmax_reference.decode(data, logits.tolist()) == symbols.tolist()
    assert SoftmaxDecoder(data).decode(logits).tolist() == symbols.tolist()


def test_batches_of_any_size_come_back_and_end_exactly():
    rng = np.random.default_rng(1)
    batches = [drawn(rng, rows, 300) for rows in (1, 64, 0, 7, 2000, 1)]
    data = encode(batches)
    decoder = SoftmaxDecoder(data)
    for logits, symbols in batches:
        assert (decoder.decode(logits) == symbols).all()
    decoder.finish()


@pytest.mark.parametrize("vocab", [1024, 8192, 65536])
def test_the_ones_cost_their_share_of_the_probability_and_no_more(vocab):
    logits, symbols = drawn(np.random.default_rng(2), (1 << 20) // vocab, vocab)
    scratch = softmax.Scratch(np.zeros(vocab), np.zeros(vocab + 1, np.uint64))
    cum = scratch.cumulative
    bits = 0.0
    for row, symbol in zip(logits, symbols, strict=True):
        softmax.fill_cumulative_(scratch, row)
        bits -= np.log2(float(cum[symbol + 1] - cum[symbol]) / float(cum[-1]))
    assert bits <= code_length(logits, symbols) + 1.45 * vocab / 2**24 * len(symbols)


def test_the_coder_adds_three_ten_thousandths_of_a_bit_per_symbol():
    logits, symbols = drawn(np.random.default_rng(7), 30_000, 100)
    bits = 8 * len(encode([(logits, symbols)]))
    assert bits - 32 <= code_length(logits, symbols) + 0.0004 * len(symbols)


def test_the_exponential_is_right_to_nine_digits():
    for x in np.linspace(-62.9, 0.0, 4001):
        assert softmax.exp2(float(x)) == pytest.approx(2.0**x, rel=1e-9)
    assert softmax.exp2(-63.5) == 0.0


def test_symbols_of_vanishing_probability_are_coded():
    logits = np.array([[0.0, -1e30, 3e38], [-3e38, 3e38, 0.0]], np.float32)
    for symbols in ([1, 0], [0, 2], [2, 1]):
        assert SoftmaxDecoder(encode([(logits, symbols)])).decode(logits).tolist() == symbols


def test_one_symbol_costs_nothing():
    logits = np.zeros((1000, 1), np.float32)
    assert len(encode([(logits, np.zeros(1000, np.int64))])) <= 1


def test_finish_may_be_called_again():
    coder = SoftmaxEncoder()
    coder.encode(*drawn(np.random.default_rng(3), 50, 9))
    assert coder.finish() == coder.finish()


def test_reading_past_the_end_is_an_error_not_endless_zeros():
    logits, symbols = drawn(np.random.default_rng(4), 500, 256)
    decoder = SoftmaxDecoder(encode([(logits, symbols)])[:40])
    with pytest.raises(CorruptData, match="ends too early"):
        for _ in range(3):
            decoder.decode(logits)


def test_bytes_left_over_are_an_error():
    logits, symbols = drawn(np.random.default_rng(5), 50, 256)
    decoder = SoftmaxDecoder(encode([(logits, symbols)]) + bytes(6))
    decoder.decode(logits)
    with pytest.raises(CorruptData, match="does not end"):
        decoder.finish()


def test_other_logits_decode_to_other_symbols():
    rng = np.random.default_rng(6)
    logits, symbols = drawn(rng, 500, 64)
    data = encode([(logits, symbols)]) + bytes(4000)  # room to run on
    assert (
        SoftmaxDecoder(data).decode(logits + rng.normal(0, 0.1, logits.shape).astype(np.float32))
        != symbols
    ).any()


@pytest.mark.parametrize(
    ("logits", "symbols", "message"),
    [
        (np.zeros((2, 3)), [0, 0], "float32"),
        (np.zeros(3, np.float32), [0], "float32"),
        (np.zeros((1, 0), np.float32), [0], "float32"),
        (np.zeros((1, 70000), np.float32), [0], "float32"),
        (np.full((1, 3), np.nan, np.float32), [0], "finite"),
        (np.full((1, 3), np.inf, np.float32), [0], "finite"),
        (np.zeros((2, 3), np.float32), [0], "one symbol a row"),
        (np.zeros((2, 3), np.float32), [0, 3], "outside"),
        (np.zeros((2, 3), np.float32), [-1, 0], "outside"),
    ],
)
def test_malformed_input_is_refused_by_name(logits, symbols, message):
    with pytest.raises(SqueezeError, match=message):
        SoftmaxEncoder().encode(logits, np.array(symbols))
