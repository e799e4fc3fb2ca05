"""Validation documents found in training shards, exact and near, and none where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeeze.score import overlap
from squeeze.score.overlap import MIN_TOKENS, SHINGLE, Fingerprints, Tokens, find_overlap
from squeeze.train.data.shards import read_shard

BOS = 1


def text(seed: int, *lengths: int) -> Tokens:
    """Documents of random tokens, each behind its BOS."""
    random = np.random.default_rng(seed)
    parts = [np.append(BOS, random.integers(4, 1000, length)) for length in lengths]
    return np.concatenate(parts).astype(np.uint16)


def test_unrelated_texts_share_nothing() -> None:
    found = find_overlap(text(0, 300, 500, 90), [text(1, 5000), text(2, 100)])
    assert (found.documents, found.train_tokens) == (3, 5102)
    assert not len(found.exact) and not len(found.near)
    assert found.share.max() == 0


def test_a_copied_document_is_found_wherever_it_stands() -> None:
    validation = text(0, 300, 500, 90)
    copied = validation[301:802]  # the second, with its BOS
    found = find_overlap(validation, [text(1, 700), np.concatenate([text(2, 99), copied])])
    assert found.exact.tolist() == [1]
    assert found.share[1] == 1
    assert found.share[[0, 2]].max() == 0


def test_a_document_inside_another_or_changed_a_little_is_a_near_duplicate() -> None:
    validation = text(0, 400, 400, 400)
    inside = np.concatenate([text(3, 50), validation[1:401], text(4, 50)])
    changed = validation[402:802].copy()
    changed[::50] = 7
    found = find_overlap(validation, [np.concatenate([inside, [BOS], changed]).astype(np.uint16)])
    assert not len(found.exact)
    assert found.near.tolist() == [0, 1]


def test_a_quotation_is_no_duplicate() -> None:
    validation = text(0, 1000)
    found = find_overlap(validation, [np.concatenate([text(1, 500), validation[100:300]])])
    assert not len(found.near)
    assert 0.1 < found.share[0] < 0.3


def test_short_documents_are_not_judged() -> None:
    validation = text(0, MIN_TOKENS - 2, 200)
    found = find_overlap(validation, [validation])
    assert found.documents == 1
    assert found.exact.tolist() == [1]


@pytest.mark.parametrize("tokens", [np.zeros(0, np.uint16), text(0, 3), text(0, SHINGLE - 1)])
def test_too_little_text_shares_nothing(tokens: Tokens) -> None:
    assert find_overlap(tokens, [tokens]).documents == 0
    assert find_overlap(text(0, 200), [tokens]).share.max() == 0


def test_blocks_do_not_hide_what_lies_across_them(monkeypatch: pytest.MonkeyPatch) -> None:
    validation, training = text(0, 300, 300), text(5, 20)
    training = np.concatenate([training, validation])
    whole = find_overlap(validation, [training])
    monkeypatch.setattr(overlap, "BLOCK", 64)
    blocks = find_overlap(validation, [training])
    assert np.array_equal(whole.share, blocks.share)
    assert whole.share.tolist() == [1, 1]


def test_the_index_holds_the_validation_set_alone() -> None:
    index = Fingerprints(text(0, *[400] * 50), BOS)
    before = index.nbytes
    for seed in range(1, 4):
        index.add_training(text(seed, 20_000))
    assert index.nbytes == before < 50 * 400 * 8


def test_real_shards_are_disjoint(materials: Path) -> None:
    training = read_shard(materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin")
    validation = read_shard(materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin", 400_000)
    assert find_overlap(validation, [training]).share.max() < 0.1
    again = find_overlap(validation, [training, validation[100_000:120_000]])
    assert len(again.exact) > 5
