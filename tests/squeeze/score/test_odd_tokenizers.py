"""Denominators of tokenizers of unusual design: the same for every command, or refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import sentencepiece
from click.testing import CliRunner

from squeeze.cli import cli
from squeeze.errors import BadData
from squeeze.score.audit import load_data
from squeeze.score.proof.documents import select_documents
from squeeze.score.tokenizer import Text, Tokenizer
from squeeze.train.data.shards import read_shards

TEXT = "\n".join(topics[name] for name in sorted(topics))[:60_000].replace("module", "mödule ☃", 9)
PLAIN: dict[str, Any] = {
    "vocab_size": 384,
    "model_type": "bpe",
    "byte_fallback": True,
    "character_coverage": 0.9995,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "minloglevel": 2,
    "num_threads": 1,
}
ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "with a dummy prefix": {"add_dummy_prefix": True},
    "with user symbols": {"user_defined_symbols": ["<sep>", "▁def", "    ", "▁▁if▁"]},
    "with spaces behind": {"treat_whitespace_as_suffix": True},
    "with spaces behind and at the end": {
        "treat_whitespace_as_suffix": True,
        "add_dummy_prefix": True,
    },
    "without fallback": {"byte_fallback": False, "character_coverage": 0.98},
    "normalising": {"normalization_rule_name": "nmt_nfkc"},
    "folding case": {"normalization_rule_name": "nmt_nfkc_cf"},
    "collapsing spaces": {"remove_extra_whitespaces": True},
    "of characters": {"model_type": "char", "hard_vocab_limit": False},
    "with pieces of spaces alone": {"allow_whitespace_only_pieces": True, "split_digits": True},
    "of unigrams": {"model_type": "unigram"},
}
LOSSY = {
    "with spaces behind and at the end",
    "without fallback",
    "normalising",
    "folding case",
    "collapsing spaces",
}
SPELLED: dict[str, dict[str, Any]] = {
    "everywhere": {},
    "but in some words": {"user_defined_symbols": ["▁the", "▁of", "▁and"]},
}


def train(path: Path, text: str, changes: dict[str, Any]) -> Path:
    """Write a tokenizer trained on a text."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for line in text.split("\n") if line),
        model_writer=model,
        **{**PLAIN, **changes},
    )
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n\n".join(TEXT[i : i + 900] for i in range(0, 27_000, 900)))
    return path


@pytest.mark.parametrize("name", ODD)
def test_every_command_divides_by_the_same_bytes(
    name: str, tmp_path: Path, text_file: Path
) -> None:
    path = train(tmp_path / "t.model", TEXT, ODD[name])
    arguments = ["data", "tokenize", str(text_file), "--tokenizer", str(path), "--val-share", "1"]
    result = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    side = json.loads(result.stdout)["val"]
    shards = [Path(shard) for shard in side["shards"]]
    tokenizer, tokens = Tokenizer(path), read_shards(shards)
    scored = tokenizer.table.count(tokens, np.ones(len(tokens) - 1, np.bool_))
    documents, _ = select_documents(Text(tokens, tokenizer.table), bos=1)
    proved = sum(map(tokenizer.count, documents))
    audited = load_data(shards, path, 1000).total_bytes
    assert side["table_bytes"] == scored == proved == audited
    assert bool(tokenizer.notes) == (name in LOSSY)
    if name not in LOSSY:
        assert side["text_bytes"] == side["table_bytes"]


@pytest.mark.parametrize("name", SPELLED)
def test_spaces_spelled_as_bytes_are_refused_by_every_command(
    name: str, tmp_path: Path, text_file: Path
) -> None:
    path = train(tmp_path / "t.model", TEXT.replace(" ", "\n"), SPELLED[name])
    with pytest.raises(BadData, match="bytes are not those of the text"):
        Tokenizer(path)
    arguments = ["data", "tokenize", str(text_file), "--tokenizer", str(path)]
    result = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "out")])
    assert isinstance(result.exception, BadData)


def test_bytes_that_are_no_text_count_once_and_unknown_characters_nothing(tmp_path: Path) -> None:
    tokenizer = Tokenizer(train(tmp_path / "t.model", TEXT, {}))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
    stray = np.full(600, pieces.piece_to_id("<0xFF>"), np.uint16)
    assert tokenizer.count(stray) == 600
    assert len(tokenizer.decode(stray.tolist()).encode()) == 1800
    assert tokenizer.count(np.full(9, pieces.unk_id(), np.uint16)) == 0


def test_a_piece_that_holds_the_text_is_told_in_every_score(tmp_path: Path) -> None:
    long = TEXT[:4000].replace(" ", "▁").replace("\n", "_")
    notes = Tokenizer(train(tmp_path / "t.model", TEXT, {"user_defined_symbols": [long]})).notes
    assert any("it may hold the text" in note for note in notes), notes
