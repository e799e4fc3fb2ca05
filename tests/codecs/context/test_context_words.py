"""Context coding of words: kernel against reference, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import squeeze.codecs as codecs
from squeeze.codecs.context import words as context_words
from squeeze.codecs.context import words_reference as context_words_reference
from squeeze.codecs.context.words import ContextWords


@given(
    st.sampled_from([np.uint8, np.uint16, np.uint32]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(1, 60))
    )
)
def test_kernel_and_reference_write_the_same_bytes_and_read_them_back(words):
    planes = words.dtype.itemsize
    data = ContextWords().encode(words)
    assert context_words_reference.encode_words(words.tolist(), planes) == data
    assert context_words_reference.decode_words(data, words.size, planes) == words.tolist()
    assert (ContextWords().decode(data, words.shape, words.dtype) == words).all()


def steps(count=6000):
    """fp16 bit patterns of row steps: a level for each matrix, a tenth of spread within."""
    rng = np.random.default_rng(1)
    levels = np.repeat(np.exp(rng.normal(-4, 0.3, count // 300)), 300)
    return (levels * np.exp(rng.normal(0, 0.1, levels.size))).astype(np.float16).view(np.uint16)


def test_kernel_and_reference_agree_on_long_streams():
    words = steps(3000)
    data = ContextWords().encode(words)
    assert context_words_reference.encode_words(words.tolist(), 2) == data


def test_chunks_change_no_byte(monkeypatch):
    whole = ContextWords().encode(steps())
    monkeypatch.setattr(context_words, "CHUNK", 37)
    assert ContextWords().encode(steps()) == whole
    assert (ContextWords().decode(whole, steps().shape, np.uint16) == steps()).all()


def gains():
    """fp32 bit patterns of per-channel gains around one."""
    return np.random.default_rng(2).normal(1, 0.05, 4000).astype(np.float32).view(np.uint32)


@pytest.mark.parametrize(("words", "share"), [(steps(), 0.97), (gains(), 1.005)])
def test_bit_patterns_of_floats_cost_less_than_with_general_coders(words, share):
    # Independent gains have nothing to learn from but their exponent; a coder may not lose on them.
    ours = len(ContextWords().encode(words))
    others = [n for n in codecs.names() if not n.startswith(("context", "range"))]
    assert ours < share * len(codecs.encode_smallest(words, others).data)


def test_word_bytes_are_pinned():
    words = np.array([[15360, 15361], [0, 65535]], np.uint16)
    assert ContextWords().encode(words).hex() == "c442820ca8b0d239"
