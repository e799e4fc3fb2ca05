"""Bytes per token: the table, and its agreement with decoded text."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import BadData, SqueezeError
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.shards import read_shard
from squeeze.train.data.text import encode_documents, train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "Grüße aus Köln; naïve café — 日本語のテキスト and the end of it\n\n  indented  twice",
    " the leading space of a document",
]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    train_tokenizer(TEXTS * 5, 320, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(model_path: Path) -> Tokenizer:
    return Tokenizer(model_path)


@pytest.fixture(scope="module")
def pieces(model_path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(model_path))


def test_vocabulary_and_hash_are_those_of_the_file(tokenizer: Tokenizer, model_path: Path) -> None:
    assert tokenizer.vocab_size == 320
    assert tokenizer.sha256 == hashlib.sha256(model_path.read_bytes()).hexdigest()


def test_control_and_unknown_pieces_stand_for_no_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.table.boundary[:5].tolist() == [True, True, True, True, False]
    assert tokenizer.table.base[:4].tolist() == [0, 0, 0, 0]


def test_every_byte_piece_is_one_byte(tokenizer: Tokenizer) -> None:
    assert tokenizer.table.base[4:260].tolist() == [1] * 256


def test_documents_count_every_byte_of_their_text(tokenizer: Tokenizer, model_path: Path) -> None:
    for text in TEXTS[:2]:
        tokens = encode_documents([text], model_path)
        assert tokens[0] == 1
        assert tokenizer.table.of_targets(tokens).sum() == len(text.encode())
        assert tokenizer.decode(tokens.tolist()) == text


def test_a_space_right_after_a_control_piece_is_not_counted(
    tokenizer: Tokenizer, model_path: Path
) -> None:
    tokens = encode_documents([TEXTS[2]], model_path)
    assert tokenizer.table.of_targets(tokens).sum() == len(TEXTS[2].encode()) - 1
    after_text = np.concatenate([tokens[-1:], tokens[1:]])
    assert tokenizer.table.of_targets(after_text).sum() == len(TEXTS[2].encode())


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0▁\ufffd")))
def test_any_text_counts_its_utf8_bytes(
    tokenizer: Tokenizer, pieces: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    tokens = np.array(pieces.encode("x" + text), np.uint16)
    counted = int((tokenizer.table.base[tokens] + tokenizer.table.space[tokens]).sum())
    assert counted == len(text.encode()) + 1
    assert tokenizer.check_bytes(tokens) == counted


def test_the_check_covers_all_documents_and_skips_broken_characters(
    tokenizer: Tokenizer, model_path: Path
) -> None:
    tokens = encode_documents(TEXTS * 200, model_path)
    assert len(tokens) > 20_000
    assert tokenizer.check_bytes(tokens) == 200 * sum(len(text.encode()) for text in TEXTS)
    broken = np.array([4 + 0xE6, 4 + 0x97], np.uint16)  # the first two bytes of 日
    assert tokenizer.check_bytes(broken) == 0
    assert tokenizer.check_bytes(np.zeros(0, np.uint16)) == 0


def test_a_table_that_counts_spaces_twice_is_refused(
    tokenizer: Tokenizer, model_path: Path
) -> None:
    doubled = Tokenizer(model_path)
    doubled.table.base[doubled.table.space] += 1
    with pytest.raises(BadData, match="byte table disagrees"):
        doubled.check_bytes(encode_documents(TEXTS, model_path))


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(1000)])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.model").write_bytes(data)
    with pytest.raises(BadData, match="not a tokenizer"):
        Tokenizer(tmp_path / "t.model")


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SqueezeError, match="cannot be read"):
        Tokenizer(tmp_path / "none.model")


def test_the_official_tokenizer_counts_the_bytes_of_real_text(materials: Path) -> None:
    tokenizer = Tokenizer(materials / "tokenizers" / "sp1024_official.model")
    assert tokenizer.sha256.startswith("4f5e8adb")
    tokens = read_shard(materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin", 131_073)
    assert int(tokenizer.table.of_targets(tokens).sum()) == 303_113
    assert tokenizer.check_bytes(tokens[1:]) == 303_113
