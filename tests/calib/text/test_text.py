"""Sources of calibration tokens: one interface, honest counts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

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
from squeeze.errors import BadConfig, BadData, CorruptData
from squeeze.files.arrays import OtherKey, write_arrays
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


def test_text_is_kept_with_what_it_belongs_to_and_damage_is_found(tmp_path: Path) -> None:
    text, path = RandomTokens(40).draw(12, 4), tmp_path / "text.safetensors"
    text.save(path, "of these weights")
    kept = Sequences.load(path, "of these weights")
    assert (kept.digest(), kept.source) == (text.digest(), text.source)
    with pytest.raises(OtherKey, match="of other weights"):
        Sequences.load(path, "of others")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptData, match="damaged"):
        Sequences.load(path, "of these weights")
    write_arrays(path, {"x": np.eye(2, dtype=np.float32)}, "of these weights", {})
    with pytest.raises(CorruptData, match="not a file of calibration text"):
        Sequences.load(path, "of these weights")


def test_sequences_of_no_tokens_or_of_another_dimension_are_refused() -> None:
    ids = np.zeros((2, 4), np.uint16)
    for bad in (ids[:0], ids[0]):
        with pytest.raises(BadData, match="calibration sequences"):
            Sequences(bad, "a")


def test_windows_follow_the_training_window_up_to_2048() -> None:
    assert (window_length(512), window_length(4096)) == (512, 2048)
