"""Sources of calibration tokens: one interface, honest counts."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from squeeze.calib.text.sources import (
    Corpus,
    RandomTokens,
    SelfGenerated,
    Sequences,
    Source,
    window_length,
)
from squeeze.errors import BadConfig, BadData
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

TEXT = np.random.default_rng(0).integers(0, 40, 1000).astype(np.uint16)
MODEL = GPT(ModelConfig(40, 1, 8, 2, 1, 8)).requires_grad_(False)
SOURCES = [SelfGenerated(partial(Cache, MODEL), 40), Corpus(TEXT, "shards", 40), RandomTokens(40)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_every_source_draws_whole_windows_in_the_vocabulary_and_repeats_itself(
    source: Source,
) -> None:
    drawn = source.draw(90, 20)
    assert drawn.ids.shape == (5, 20) and drawn.ids.dtype == np.uint16
    assert drawn.tokens == 100 and drawn.ids.max() < 40
    assert len(np.unique(drawn.ids, axis=0)) == 5
    assert drawn.digest() == source.draw(90, 20).digest()
    with pytest.raises(BadConfig, match="at least 1 token"):
        source.draw(0, 20)


def test_another_seed_draws_other_tokens() -> None:
    assert Corpus(TEXT, "text", 40, 1).draw(90, 20).digest() != SOURCES[1].draw(90, 20).digest()
    assert RandomTokens(40, 1).draw(90, 20).digest() != SOURCES[2].draw(90, 20).digest()


def test_windows_of_a_corpus_are_its_text_and_do_not_overlap() -> None:
    tokens = np.arange(105).astype(np.uint16)
    ids = Corpus(tokens, "text", 105).draw(60, 10).ids
    assert np.all(np.diff(ids.astype(int), axis=1) == 1) and len(np.unique(ids)) == 60


def test_a_corpus_that_is_too_short_or_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(BadData, match=r"too little shards text.*≥ 1020 tokens, found 1000"):
        SOURCES[1].draw(1001, 20)
    with pytest.raises(BadData, match="expected tokens below 30, found 39"):
        Corpus(TEXT, "shards", 30).draw(1000, 20)


def test_digest_knows_tokens_and_shape() -> None:
    ids = np.arange(12).astype(np.uint16)
    text = Sequences(ids.reshape(3, 4), "a")
    assert text.digest() == Sequences(ids.reshape(3, 4), "b").digest()
    assert text.digest() != Sequences(ids.reshape(4, 3), "a").digest()
    assert text.digest() != Sequences(ids[::-1].reshape(3, 4), "a").digest()


def test_a_kept_calibration_is_found_by_the_digest_that_it_was_kept_under() -> None:
    text = Sequences(np.arange(12).astype(np.uint16).reshape(3, 4), "a")
    assert text.digest().startswith("68918a25d9e2018c")


def test_sequences_of_no_tokens_or_of_another_dimension_are_refused() -> None:
    ids = np.zeros((2, 4), np.uint16)
    for bad in (ids[:0], ids[0]):
        with pytest.raises(BadData, match="calibration sequences"):
            Sequences(bad, "a")


def test_windows_follow_the_training_window_up_to_2048() -> None:
    assert (window_length(512), window_length(4096)) == (512, 2048)
