"""Text files through the tokenizer of a folder: the denominator is the text's own bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from squeeze.cli import cli

tokenizers = pytest.importorskip("tokenizers", reason="the extra transformers is missing")
transformers = pytest.importorskip("transformers", reason="the extra transformers is missing")

BOS = "<|start|>"
TEXT = f"Salt, flour, water: naïve Brötchen 日本語 🙂 — and {BOS} is text, too.  Two spaces\n" * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE())
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = tokenizers.decoders.ByteLevel()
    pieces.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=[BOS], initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator([TEXT], trainer)
    pieces.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": BOS}))
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=304, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text("Bread — again.")
    return folder


def score(folder: Path, tokenizer: Path, *arguments: str) -> Result:
    files = ["--val", str(folder / "a.txt"), "--val", str(folder / "b.txt")]
    command = ["eval", str(folder), "--tokenizer", str(tokenizer), *files, "--device", "cpu"]
    return CliRunner().invoke(cli, [*command, "--json", *arguments])


def report(folder: Path, *arguments: str) -> dict[str, Any]:
    result = score(folder, folder, *arguments)
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_the_bytes_are_those_of_the_text_and_the_nats_the_models(folder: Path) -> None:
    facts = report(folder)
    texts = [(folder / name).read_text() for name in ("a.txt", "b.txt")]
    assert facts["bytes"] == sum(len(text.encode()) for text in texts)
    pieces = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces.encode_special_tokens = True
    ids = torch.tensor([i for text in texts for i in (0, *pieces.encode(text).ids)])
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).requires_grad_(False)
    nats = 0.0
    for start in range(0, len(ids) - 1, 64):
        window, targets = ids[start : start + 64], ids[start + 1 : start + 65]
        logits = model(window[: len(targets)][None]).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
    assert facts["tokens"] == len(ids) - 1
    assert facts["nats"] == pytest.approx(nats, rel=1e-5)
    assert facts["bpb"] == pytest.approx(nats / math.log(2) / facts["bytes"], rel=1e-5)


def test_a_part_counts_the_bytes_of_its_own_tokens(folder: Path) -> None:
    pieces = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces.encode_special_tokens = True
    ids = pieces.encode(TEXT).ids
    for count in (3, 20, 37, 38, 39, 40):
        text = pieces.decode(ids[:count]).rstrip("\ufffd")
        assert report(folder, "--tokens", str(count))["bytes"] == len(text.encode())


def test_texts_are_documents(folder: Path) -> None:
    facts = report(folder, "--mode", "documents")
    assert facts["documents"] == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("lowercase", "does not give the text back; expected 'Salt"),
        ("no-start", "not scored"),
        ("broken", "not a tokenizer"),
        ("missing", "expected tokenizer.json in it"),
        ("binary", "not text; expected UTF-8"),
    ],
)
def test_other_tokenizers_are_refused_or_named(
    folder: Path, tmp_path: Path, change: str, says: str
) -> None:
    pieces = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if change == "lowercase":
        pieces.normalizer = tokenizers.normalizers.Lowercase()
    pieces.save(str(tmp_path / "tokenizer.json"))
    if change == "broken":
        (tmp_path / "tokenizer.json").write_text("{}")
    if change == "missing":
        (tmp_path / "tokenizer.json").unlink()
    arguments = []
    if change == "binary":
        (tmp_path / "shard.bin").write_bytes(b"\xff\xfe" * 9)
        arguments = ["--val", str(tmp_path / "shard.bin")]
    result = score(folder, tmp_path, *arguments)
    assert result.exit_code == (0 if change == "no-start" else 1)
    assert says in (result.output if change == "no-start" else str(result.exception))
    if change == "no-start":
        first = len(pieces.decode(pieces.encode(TEXT).ids[:1]).encode())
        total = sum((folder / name).stat().st_size for name in ("a.txt", "b.txt"))
        assert json.loads(result.stdout)["bytes"] == total - first
