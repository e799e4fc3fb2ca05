"""The tokenizer's identity, from shards through checkpoint and artifact to every score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from squeeze.artifact.facts import tokenizer_of_artifact
from squeeze.artifact.file import load
from squeeze.checkpoint.read import load_model
from squeeze.cli import cli
from squeeze.data.documents import TextFiles
from squeeze.data.tokenize import ShardOptions, tokenize
from squeeze.errors import BadData
from squeeze.files import sha256
from squeeze.score.audit import AuditOptions, Limits, audit, load_data
from squeeze.score.identity import named_tokenizers, tokenizer_notes
from squeeze.submit.check import Inputs
from squeeze.train.data.identity import STATE, tokenizer_of_shard
from squeeze.train.data.text import train_tokenizer

BREAD = "Bread rises while it is warm, and falls when it has risen for too long. "
SHIPS = "A ship sails while the wind is fair; it waits in port when there is a storm. "
OWN, OTHER = "a" * 64, "b" * 64
REFUSED = "the tokenizer is not that of"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokenizers of as many pieces, shards of the first, a model trained on them, its artifact."""
    place = tmp_path_factory.mktemp("identity")
    for name, text in (("own", BREAD), ("other", SHIPS)):
        train_tokenizer([text * 30], 300, place / f"{name}.model")
    documents = [BREAD * 4 + str(n) for n in range(60)]
    (place / "text.txt").write_text("\0".join(documents))
    texts = TextFiles((place / "text.txt",), "\0")
    tokenize(texts, place / "own.model", place / "shards", ShardOptions(share=0.3))
    model = place / "m.safetensors"
    small = "--set num_layers=2 --set model_dim=16 --set mlp_hidden=16 --set seq_len=32".split()
    train = place / "shards" / "train_000000.bin"
    run("train", "--data", train, "-o", model, "--tokenizer", place / "own.model", "--steps", 1,
        "--no-plot", "--set", "batch_tokens=256", "--set", "bigram_rows=0",
        "--set", "trigram_rows=0", *small)  # fmt: skip
    run("pack", model, "-o", place / "m.sqz", "--small", 100)
    return place


def scoring(place: Path, name: str) -> list[object]:
    return ["--tokenizer", place / f"{name}.model", "--val", place / "shards" / "val_000000.bin"]


def test_the_identity_goes_from_shards_through_checkpoint_and_artifact(
    place: Path, tmp_path: Path
) -> None:
    own = sha256((place / "own.model").read_bytes())
    assert tokenizer_of_shard(place / "shards" / "val_000000.bin") == own
    assert load_model(place / "m.safetensors").tokenizer == own
    assert load(place / "m.sqz").config["tokenizer"] == own
    assert tokenizer_of_artifact((place / "m.sqz").read_bytes()) == own
    run("unpack", place / "m.sqz", "-o", tmp_path / "back.safetensors")
    assert load_model(tmp_path / "back.safetensors").tokenizer == own


@pytest.mark.parametrize("file", ["m.safetensors", "m.sqz"])
def test_a_score_takes_the_models_own_tokenizer_or_says_that_it_is_another(
    place: Path, file: str
) -> None:
    own = json.loads(run("eval", place / file, *scoring(place, "own"), "--json"))
    assert own["notes"] == []
    with pytest.raises(BadData, match=rf"{REFUSED} the model.*--other-tokenizer"):
        run("eval", place / file, *scoring(place, "other"))
    arguments = [place / file, *scoring(place, "other"), "--other-tokenizer", "--json"]
    other = json.loads(run("eval", *arguments))
    assert other["bpb"] != own["bpb"]
    assert [note[:36] for note in other["notes"]] == ["scored with another tokenizer than t"] * 2
    assert sha256((place / "own.model").read_bytes()) in other["notes"][0]


def test_a_proof_takes_the_models_own_tokenizer(place: Path) -> None:
    with pytest.raises(BadData, match=REFUSED):
        run("prove", place / "m.sqz", *scoring(place, "other"), "--documents", 1)


def test_an_audit_takes_the_models_own_tokenizer(place: Path) -> None:
    shards = [place / "shards" / "val_000000.bin"]
    data = load_data(shards, place / "other.model", 64)
    with pytest.raises(BadData, match=f"{REFUSED} the model"):
        audit(place / "m.sqz", data, AuditOptions(limits=Limits(seconds=60.0)))


def test_a_submission_takes_the_models_own_tokenizer(place: Path) -> None:
    model, shards = (place / "m.sqz").read_bytes(), [place / "shards" / "val_000000.bin"]
    assert Inputs(place / "own.model", shards).identity(model) == []
    with pytest.raises(BadData, match=REFUSED):
        Inputs(place / "other.model", shards).identity(model)
    assert len(Inputs(place / "other.model", shards, other_tokenizer=True).identity(model)) == 2
    about = ["-o", place / "s", "--name", "Nine", "--author", "A. Name", "--github-id", "a"]
    with pytest.raises(BadData, match=REFUSED):
        run("submit", place / "m.sqz", *about, *scoring(place, "other"))


def test_training_takes_the_tokenizer_of_its_shards(place: Path, tmp_path: Path) -> None:
    train = place / "shards" / "train_000000.bin"
    with pytest.raises(BadData, match=f"{REFUSED} train_000000.bin"):
        run("train", "--data", train, "-o", tmp_path / "m.safetensors", "--steps", 1,
            "--tokenizer", place / "other.model")  # fmt: skip


def test_a_score_of_files_without_an_identity_says_so() -> None:
    assert tokenizer_notes(OWN, {"the model": OWN, "the data": OWN}) == []
    (nothing,) = tokenizer_notes(OWN, {"the model": None, "the data": None})
    assert nothing == "the tokenizer's identity is not pinned: no file names its tokenizer"
    (model,) = tokenizer_notes(OWN, {"the model": None, "the data": OWN})
    assert model == "the tokenizer's identity is not pinned by the model"
    with pytest.raises(BadData, match=REFUSED):
        tokenizer_notes(OWN, {"the model": None, "the data": OTHER})


def test_shards_are_of_the_tokenizer_that_the_file_beside_them_says(tmp_path: Path) -> None:
    state = {"job": {"tokenizer": OWN}, "sizes": {"train": [5, 5], "val": []}}
    (tmp_path / STATE).write_text(json.dumps(state))
    assert tokenizer_of_shard(tmp_path / "train_000001.bin") == OWN
    for name in ("train_000002.bin", "val_000000.bin", "mine.bin"):
        assert tokenizer_of_shard(tmp_path / name) is None
    named = named_tokenizers(None, [tmp_path / "train_000000.bin", tmp_path / "mine.bin"])
    assert named == {"the model": None, "train_000000.bin": OWN, "mine.bin": None}
    for damaged in ("[1]", "{", '{"job": 5, "sizes": {"train": [1]}}', "[" * 100_000):
        (tmp_path / STATE).write_text(damaged)
        assert tokenizer_of_shard(tmp_path / "train_000000.bin") is None
