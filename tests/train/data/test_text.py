"""Text from the Python installation, and tokenizers trained on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeeze.errors import BadData
from squeeze.train.data.text import encode_documents, python_docs_text, train_tokenizer


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return python_docs_text()


def test_the_python_installation_has_a_few_megabytes_of_documents(documents: list[str]) -> None:
    assert len(documents) > 300
    assert sum(len(text.encode()) for text in documents) > 1_000_000
    assert all(text.strip() for text in documents)


@pytest.mark.slow
def test_documents_come_in_the_same_order(documents: list[str]) -> None:
    assert python_docs_text() == documents


def test_tokens_decode_to_the_documents_again(documents: list[str], tmp_path: Path) -> None:
    import sentencepiece

    train_tokenizer(documents, 512, tmp_path / "t.model")
    chosen = [*documents[::60], "\ttabs,\n\n  spaces, ünïcödé 日本 🙂"]
    tokens = encode_documents(chosen, tmp_path / "t.model")
    assert tokens.dtype == np.uint16
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
    assert pieces.vocab_size() == 512
    parts = np.split(tokens, np.flatnonzero(tokens == pieces.bos_id())[1:])
    assert [pieces.decode(part.tolist()) for part in parts] == chosen


def test_the_same_text_gives_the_same_tokenizer(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(["some text with some words in it"] * 9, 280, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_too_little_text_for_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no tokenizer of 1024 pieces"):
        train_tokenizer(["ab"], 1024, tmp_path / "t.model")
    assert not (tmp_path / "t.model").exists()


def test_encoding_with_something_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.model").write_bytes(b"nonsense")
    for name in ("t.model", "none.model"):
        with pytest.raises(BadData, match="not a tokenizer"):
            encode_documents(["text"], tmp_path / name)
