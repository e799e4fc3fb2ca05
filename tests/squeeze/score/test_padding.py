"""Models of more outputs than the tokenizer has pieces: scored with a note, or refused with a fix."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

import squeeze
from squeeze.cli import cli
from squeeze.errors import BadData, CorruptData
from squeeze.packing.packed import Packed
from squeeze.score.modes import Mode
from squeeze.score.padding import TextBytes, check_pieces, padded_table
from squeeze.score.proof.coding import Submission
from squeeze.score.tokenizer import Tokenizer
from squeeze.subject.script import load_script
from squeeze.subject.source import ModelSource
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer

SENTENCE = "Fold the dough every half hour; the warmer the room, the sooner it is done. "
PIECES, OUTPUTS = 300, 304
MODEL = """
import torch
from torch import nn
bos, length = 1, 16
class Bigram(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_emb, self.read = nn.Embedding({0}, 8), nn.Linear(8, {0})
    def forward(self, ids):
        return self.read(self.tok_emb(ids))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("padding")
    train_tokenizer([SENTENCE * 30], PIECES, folder / "t.model")
    write_shard(folder / "d.bin", encode_documents([SENTENCE] * 3, folder / "t.model"))
    for outputs in (OUTPUTS, 301, 432):
        (folder / f"m{outputs}.py").write_text(MODEL.format(outputs))
        torch.manual_seed(0)
        weights = {
            "tok_emb.weight": (outputs, 8),
            "read.weight": (outputs, 8),
            "read.bias": (outputs,),
        }
        torch.save({n: torch.randn(s) for n, s in weights.items()}, folder / f"m{outputs}.pt")
    return folder


def command(folder: Path, name: str, outputs: int, *arguments: str) -> dict[str, Any]:
    call = [name, str(folder / f"m{outputs}.pt"), "--model", f"{folder / f'm{outputs}.py'}:Bigram"]
    paths = ["--tokenizer", str(folder / "t.model"), "--val", str(folder / "d.bin")]
    result = CliRunner().invoke(cli, [*call, *paths, *arguments, "--device", "cpu", "--json"])
    if result.exception is not None:
        raise result.exception
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_a_padded_model_is_scored_over_all_its_outputs_and_a_note_says_so(folder: Path) -> None:
    report = command(folder, "eval", OUTPUTS)
    weights = torch.load(folder / f"m{OUTPUTS}.pt")
    tokens = torch.from_numpy(read_shard(folder / "d.bin").astype(np.int64))
    hidden = weights["tok_emb.weight"][tokens[:-1]]
    logits = hidden @ weights["read.weight"].T + weights["read.bias"]
    nats = F.cross_entropy(logits, tokens[1:], reduction="sum").item()
    assert report["bpb"] == pytest.approx(nats / math.log(2) / len(3 * SENTENCE), rel=1e-5)
    assert any("304 outputs for the 300 pieces" in note for note in report["notes"])


def test_a_padded_model_is_proved_and_a_note_says_so(folder: Path) -> None:
    report = command(folder, "prove", OUTPUTS, "--threads", "1")
    assert report["identical"]
    assert any("304 outputs for the 300 pieces" in note for note in report["notes"])


def test_a_proof_whose_tokens_have_no_piece_is_corrupt(folder: Path) -> None:
    source = ModelSource(folder / f"m{OUTPUTS}.pt", f"{folder / f'm{OUTPUTS}.py'}:Bigram")
    submission = Submission.load(source, folder / "t.model", torch.device("cpu"))
    proof, _ = submission.encode([np.array([5, 302], np.uint16)], Mode("documents"), 1, 1)
    with pytest.raises(CorruptData, match="tokens that stand for no text"):
        submission.decode(proof)


@pytest.mark.parametrize("outputs", [301, 432])
@pytest.mark.parametrize("name", ["eval", "prove"])
def test_other_outputs_are_refused_with_a_way_to_cut_them(
    folder: Path, outputs: int, name: str
) -> None:
    with pytest.raises(BadData, match=r"different vocabularies.*returns \[\.\.\., :300\]"):
        command(folder, name, outputs)


def test_a_token_that_the_tokenizer_has_no_piece_for_is_refused(folder: Path) -> None:
    write_shard(folder / "e.bin", np.array([1, 5, 302, 5], np.uint16))
    with pytest.raises(BadData, match="tokens below 300"):
        command(folder, "eval", OUTPUTS, "--val", str(folder / "e.bin"))


def test_as_many_outputs_need_no_note_and_fewer_no_cut() -> None:
    assert check_pieces(1024, 1024) == []
    with pytest.raises(BadData, match=r"model was trained with\.$"):
        check_pieces(1016, 1024)


def test_padding_stands_for_no_bytes_in_costs_per_byte(folder: Path) -> None:
    table = Tokenizer(folder / "t.model").table
    tokens = np.array([1, 270, 303, 270], np.uint16)
    own = table.of_targets(tokens[:2])[0]
    assert padded_table(table, OUTPUTS).of_targets(tokens)[1] == 0
    assert TextBytes(folder / "t.model")(tokens)[:2].tolist() == [own, 0]


def pack(folder: Path, outputs: int, **options: Any) -> Packed:
    subject = load_script(f"{folder / f'm{outputs}.py'}:Bigram")
    tokens, tokenizer = np.arange(256) % outputs, folder / "t.model"
    return squeeze.pack(
        subject.module, 8_000, tokens=tokens, preset="fast", tokenizer=tokenizer, **options
    )


def test_a_pack_of_a_padded_model_tells_its_cost_per_byte(folder: Path) -> None:
    packed = pack(folder, OUTPUTS, config={"seq_len": 16})
    assert packed.plan is not None and packed.plan.bytes_per_token


def test_a_pack_by_the_tokenizer_of_another_vocabulary_is_refused(folder: Path) -> None:
    with pytest.raises(BadData, match="different vocabularies"):
        pack(folder, 432)
