"""Proofs of models that a script runs, and of checkpoints that need a statement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from squeeze.cli import cli
from squeeze.errors import BadConfig, BadData, SqueezeError
from squeeze.score.modes import Mode
from squeeze.score.proof.coding import Submission
from squeeze.score.proof.documents import Selection, select_documents
from squeeze.score.proof.file import Proof
from squeeze.score.tokenizer import Text
from squeeze.subject.script import load_script
from squeeze.subject.source import ModelSource
from squeeze.train.data.shards import read_shards, write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

DECODERS = Path(__file__).parents[3] / "subjects" / "decoders.py"
SENTENCE = "Fold the dough every half hour; the warmer the room, the sooner it is done. "
TEXTS = [SENTENCE, "Bread.", "", SENTENCE[20:]]
STEPS = """
bos = 1
class Bigram(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_emb, self.read = nn.Embedding(VOCAB, 8), nn.Linear(8, VOCAB)
    def forward(self, ids):
        return self.read(self.tok_emb(ids))
class Steps:
    def __init__(self, module, batch, length):
        self.module, self.device = module, module.read.weight.device
    def reset_(self):
        pass
    def step(self, ids):
        return self.module(ids)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prove-subjects")
    train_tokenizer([SENTENCE * 30], 300, folder / "t.model")
    write_shard(folder / "d.bin", encode_documents(TEXTS, folder / "t.model"))
    text = DECODERS.read_text().replace(
        "VOCAB, WIDTH, HEADS, LENGTH = 256, 64", "VOCAB, WIDTH, HEADS, LENGTH = 300, 16"
    )
    (folder / "mine.py").write_text(text + STEPS)
    (folder / "stepped.py").write_text(text + STEPS + "step = Steps\n")
    for name in ("Baseline", "Bigram"):
        module = load_script(f"{folder / 'mine.py'}:{name}").module
        torch.save(module.state_dict(), folder / f"{name}.pt")
    torch.manual_seed(0)
    own = GPT(ModelConfig(300, 2, 16, 2, 1, 16, seq_len=32))
    torch.save(own.state_dict(), folder / "own.pt")
    return folder


def prove(folder: Path, *arguments: str) -> dict[str, Any]:
    paths = ["--tokenizer", str(folder / "t.model"), "--val", str(folder / "d.bin")]
    command = ["prove", *arguments, *paths, "--threads", "1", "--device", "cpu", "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output + str(result.exception)
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["identical"]
    return report


STATED = ("--assume", "--heads", "2", "--seq-len", "32")


def test_a_checkpoint_with_statements_comes_back_from_another_process(folder: Path) -> None:
    report = prove(folder, str(folder / "own.pt"), *STATED)
    assert report["statement_bytes"] > 0 and report["script_bytes"] == 0
    (folder / "settings.json").write_text('{"num_heads": 2}')
    settings = ("--assume", "--settings", str(folder / "settings.json"), "--seq-len", "32")
    assert prove(folder, str(folder / "own.pt"), *settings)["bpb"] == report["bpb"]


@pytest.mark.parametrize(("file", "whole"), [("mine.py", True), ("stepped.py", False)])
def test_a_model_of_a_script_comes_back(folder: Path, file: str, whole: bool) -> None:
    name, script = ("Baseline" if whole else "Bigram"), folder / file
    report = prove(
        folder, str(folder / f"{name}.pt"), "--model", f"{script}:{name}", "--batch", "3"
    )
    assert report["script_bytes"] == script.stat().st_size
    assert any("count with the model" in note for note in report["notes"])
    assert whole == any("no `step`" in note for note in report["notes"])
    score = [
        "eval",
        str(folder / f"{name}.pt"),
        "--model",
        f"{script}:{name}",
        "--mode",
        "documents",
    ]
    score += ["--length", "32", "--stride", "16", "--device", "cpu", "--json"]
    score += ["--tokenizer", str(folder / "t.model"), "--val", str(folder / "d.bin")]
    result = CliRunner().invoke(cli, score)
    assert report["bpb"] == pytest.approx(json.loads(result.stdout)["bpb"], rel=1e-5)


def load(folder: Path, script: str | None, **statements: Any) -> Submission:
    weights = folder / ("own.pt" if script is None else "Bigram.pt")
    source = ModelSource(weights, script, False, statements)
    return Submission.load(source, folder / "t.model", torch.device("cpu"))


def encoded(submission: Submission, folder: Path) -> Proof:
    text = Text(read_shards([folder / "d.bin"]), submission.tokenizer.table)
    documents, _ = select_documents(text, submission.bos, Selection(None, None, None))
    return submission.encode(documents, Mode("documents"), 4, 1)[0]


def test_another_script_is_refused(folder: Path) -> None:
    proof = encoded(load(folder, f"{folder / 'mine.py'}:Bigram"), folder)
    proof = Proof.from_bytes(proof.to_bytes())
    tampered = folder / "tampered" / "mine.py"
    tampered.parent.mkdir()
    tampered.write_text((folder / "mine.py").read_text() + "# tampered\n")
    with pytest.raises(BadData, match="another script; expected SHA-256"):
        load(folder, f"{tampered}:Bigram").decode(proof)


def test_other_statements_are_refused(folder: Path) -> None:
    stated = {"assume": True, "num_heads": 2, "seq_len": 32}
    proof = encoded(load(folder, None, **stated), folder)
    load(folder, None, **stated).decode(proof)
    with pytest.raises(BadData, match="another statement of the model"):
        load(folder, None, **stated | {"rope_base": 500.0}).decode(proof)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ("bos = 1\n", BadConfig, "Write `bos = 1`"),
        ("return self.module(ids)", SqueezeError, "forward fails: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_proved_is_one_line(
    folder: Path, tmp_path: Path, change: str, error: type[Exception], says: str
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        (folder / "stepped.py").read_text().replace(change, "" if "bos" in change else "1 / 0")
    )
    with pytest.raises(error, match=says):
        encoded(load(folder, f"{script}:Bigram"), folder)


def test_a_mode_that_learns_needs_our_model(folder: Path) -> None:
    submission = load(folder, f"{folder / 'mine.py'}:Bigram")
    with pytest.raises(BadConfig, match="a model of squeeze's own"):
        submission.encode([read_shards([folder / "d.bin"])[1:5]], Mode("ttt-lora"), 1, 1)
