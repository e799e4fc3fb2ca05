"""Text through a model and back: identical, as small as computed, and refused when anything differs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.errors import (
    BadConfig,
    BadData,
    CorruptData,
    RuleBroken,
    SqueezeError,
    UnsupportedFormat,
)
from squeeze.reporter import SILENT
from squeeze.score.modes import Mode
from squeeze.score.plan import document_plan, document_spans
from squeeze.score.proof.coding import Submission, machine, token_bytes
from squeeze.score.proof.documents import Selection, select_documents
from squeeze.score.proof.file import Proof
from squeeze.score.proof.predictor import mode_fields, read_mode
from squeeze.score.proof.prove import (
    ProofOptions,
    decode_elsewhere,
    prove,
)
from squeeze.score.tokenizer import Text
from squeeze.score.window import score_plan
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CPU = torch.device("cpu")
CONFIG = ModelConfig(300, 2, 16, 2, 1, 16, seq_len=32)
SENTENCE = "Each pound of flour takes about two thirds of a pound of water, more or less. "
TEXTS = [
    SENTENCE * 2,
    "Bread.",
    SENTENCE + "Über 100 % Mehl\u00a0…",
    "",
    SENTENCE,
    "Salt? Yes!",
]
WINDOWS = Mode("documents")
SETTINGS = {"chunk": "8", "rank": "2", "lr": "0.01"}
LORA = Mode("ttt-lora", 32, None, SETTINGS)
PARTS = {"sgd_chunk": "64", "documents": "4", "phases": "2"}
PHASED = Mode("ttt-phased", 32, None, SETTINGS | PARTS)
CHUNK = Mode("ttt-chunk", 32, 8, {"chunk": "64", "lr": "0.01"})


def save(path: Path, config: ModelConfig, seed: int) -> None:
    """A model whose every weight says something, as an artifact."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: RawTensor(
            rng.normal(0, 0.2, shape).astype(np.float32).view(np.uint32), "fp32", "fp32"
        )
        for name, shape in config.parameter_shapes().items()
    }
    fields = {"model": json.loads(config.to_json())}
    path.write_bytes(encode(Artifact(fields, tensors)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prove")
    train_tokenizer([SENTENCE * 30], 300, folder / "t.model")
    train_tokenizer(["".join(sorted(SENTENCE)) * 9], 300, folder / "other.model")
    save(folder / "m.sqz", CONFIG, 0)
    save(folder / "other.sqz", CONFIG, 1)
    write_shard(folder / "d.bin", encode_documents(TEXTS, folder / "t.model"))
    return folder


@pytest.fixture(scope="module")
def submission(folder: Path) -> Submission:
    return Submission.load(ModelSource(folder / "m.sqz"), folder / "t.model", CPU)


@pytest.fixture(scope="module")
def documents(folder: Path) -> list[np.ndarray]:
    tokens = encode_documents(TEXTS, folder / "t.model")
    return [part[1:] for part in np.split(tokens, np.flatnonzero(tokens == 1))[1:]]


@pytest.fixture(scope="module")
def proof(submission: Submission, documents: list[np.ndarray]) -> Proof:
    return submission.encode(documents, WINDOWS, batch=5, threads=1)[0]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "mode", [WINDOWS, Mode("documents", 8), Mode("documents", 7, 7), LORA, PHASED]
)
def test_what_is_coded_comes_back(submission, documents, mode) -> None:  # type: ignore[no-untyped-def]
    proof, coded = submission.encode(documents, mode, batch=4, threads=1)
    assert same(submission.decode(Proof.from_bytes(proof.to_bytes())), documents)
    bits = (coded.nats + coded.end_nats) / math.log(2)
    assert bits - 8 <= 8 * len(proof.payload) <= bits + 8 + 0.001 * coded.symbols


def test_models_of_records_come_back_too(folder: Path, documents: list[np.ndarray]) -> None:
    config = replace(
        CONFIG, num_layers=3, layer_schedule=(0, 1, 2, 1, 2), smear_gate="channels", xsa_layers=2
    )
    save(folder / "record.sqz", config, 2)
    recurrent = Submission.load(ModelSource(folder / "record.sqz"), folder / "t.model", CPU)
    proof, _ = recurrent.encode(documents, Mode("documents", 16), batch=4, threads=1)
    assert same(recurrent.decode(proof), documents)


def scored_stream(documents: list[np.ndarray]) -> np.ndarray:
    """The end of the last document is coded, too, so a BOS follows it."""
    stream = np.frombuffer(token_bytes(documents, 1), "<u2").astype(np.uint16)
    return np.append(stream, np.uint16(1))


@pytest.mark.parametrize(
    ("mode", "length", "stride"), [(WINDOWS, 32, 16), (Mode("documents", 10, 3), 10, 3)]
)
def test_the_code_length_is_the_score_of_the_same_windows(
    submission: Submission, documents: list[np.ndarray], mode: Mode, length: int, stride: int
) -> None:
    stream, table = scored_stream(documents), submission.tokenizer.table
    gpt = GPT.from_tensors(CONFIG, submission.model.tensors)
    coded = submission.encode(documents, mode, batch=4, threads=1)[1]
    plan = document_plan(document_spans(stream, 1), length, stride, bos=1)
    score = score_plan(gpt, Text(stream, table), plan)
    assert coded.nats == pytest.approx(score.nats, rel=1e-5)
    assert coded.end_nats == pytest.approx(score.end_nats, rel=1e-5)
    assert coded.symbols == plan.outputs


def test_the_code_length_is_the_score_of_models_that_adapt(submission, documents) -> None:  # type: ignore[no-untyped-def]
    alike = sorted(documents, key=len, reverse=True)  # as `score_phased` takes them
    stream, table = scored_stream(alike), submission.tokenizer.table
    gpt = GPT.from_tensors(CONFIG, submission.model.tensors)
    spans_of = document_spans(stream, 1)
    for mode, batch in ((LORA, 6), (PHASED, 2), (CHUNK, 1)):
        grouped = mode if mode is CHUNK else with_batch(mode, batch)
        score, _ = grouped.scoring(gpt).score(Text(stream, table), spans_of, None, SILENT)
        coded = submission.encode(alike, mode, batch, threads=1)[1]
        total = score.nats + score.end_nats
        assert coded.nats + coded.end_nats == pytest.approx(total, rel=1e-5), mode


def with_batch(mode: Mode, batch: int) -> Mode:
    return replace(mode, settings=dict(mode.settings) | {"batch": str(batch)})


def test_a_stream_that_trains_all_weights_comes_back(submission, documents) -> None:  # type: ignore[no-untyped-def]
    proof, _ = submission.encode(documents, CHUNK, batch=1, threads=1)
    assert same(submission.decode(proof), documents)


def test_the_stream_is_the_same_twice(submission, documents, proof) -> None:  # type: ignore[no-untyped-def]
    again = submission.encode(documents, WINDOWS, batch=5, threads=1)[0]
    assert again.to_bytes() == proof.to_bytes()


def test_another_artifact_is_refused(folder: Path, proof: Proof) -> None:
    other = Submission.load(ModelSource(folder / "other.sqz"), folder / "t.model", CPU)
    with pytest.raises(BadData, match="another artifact"):
        other.decode(proof)


def test_another_tokenizer_is_refused(folder: Path, proof: Proof) -> None:
    other = Submission.load(ModelSource(folder / "m.sqz"), folder / "other.model", CPU)
    with pytest.raises(BadData, match="another tokenizer"):
        other.decode(proof)


def test_another_machine_is_refused(submission: Submission, proof: Proof) -> None:
    with pytest.raises(UnsupportedFormat, match="another kind of machine"):
        submission.decode(replace(proof, machine="1.0 abacus"))
    assert machine(CPU).startswith(torch.__version__.split("+")[0])


@pytest.mark.parametrize("byte", [0, 1, -2, -1])
def test_a_forged_stream_fails_clearly_however_late(
    submission: Submission, proof: Proof, byte: int
) -> None:
    """Past the checksum: as if somebody had recomputed it."""
    payload = bytearray(proof.payload)
    payload[byte] ^= 0x10
    with pytest.raises(CorruptData):
        submission.decode(replace(proof, payload=bytes(payload)))


def test_weights_that_differ_by_a_hair_fail_clearly(submission: Submission, proof: Proof) -> None:
    """As on a machine that rounds differently: the header agrees, the logits do not."""
    name = "tok_emb.weight"
    own = submission.model.tensors
    weights = own | {name: own[name] * np.float32(1.0001)}
    build = lambda: Subject.of_gpt(GPT.from_tensors(CONFIG, weights))  # noqa: E731
    other = replace(submission, model=replace(submission.model, build=build))
    with pytest.raises(CorruptData):
        other.decode(proof)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 1}, "more tokens"),
        ({"tokens": 10_000}, "number of tokens"),
        ({"documents": 5}, "does not end|number of tokens|more tokens"),
        ({"documents": 1 << 31}, "too early|does not end|number of tokens|more tokens"),
        ({"documents": 7}, "too early|does not end|number of tokens|more tokens"),
        ({"payload": b""}, "too early"),
        ({"digest": bytes(8)}, "not the text that was coded"),
    ],
)
def test_a_header_that_lies_about_the_stream_fails_clearly(
    submission: Submission, proof: Proof, change: dict, message: str
) -> None:
    with pytest.raises(CorruptData, match=message):
        submission.decode(replace(proof, **change))


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ({"length": 0}, BadConfig, "length"),
        ({"length": "long"}, CorruptData, "mode"),
        ({"length": True}, CorruptData, "mode"),
        ({"stride": 33}, BadConfig, "stride"),
        ({"length": 1 << 40}, BadConfig, "length"),
        ({"mode": "ttt-lora", "ttt": {"rank": "1048576"}}, BadConfig, "rank"),
        ({"depth": 3}, CorruptData, "depth"),
        ({"mode": "magic"}, BadConfig, "scoring mode"),
        ({"mode": "sliding"}, BadConfig, "codes documents"),
        ({"mode": "ttt-lora", "stride": 8}, BadConfig, "no stride"),
        ({"ttt": {"rank": "2"}}, BadConfig, "no such options"),
        ({"mode": "ttt-lora", "ttt": {"rank": 2}}, CorruptData, "options of the mode"),
        ({"mode": "ttt-lora", "ttt": {"rank": "0"}}, BadConfig, "rank"),
        ({"mode": "ttt-lora", "ttt": {"targets": "tail"}}, BadConfig, "targets"),
        ({"mode": "ttt-lora", "ttt": {"lr": "high"}}, BadConfig, "lr"),
        ({"mode": "ttt-lora", "ttt": {"lr": "nan"}}, BadConfig, "lr"),
        ({"mode": "ttt-phased", "ttt": {"sgd_lr": "-1"}}, BadConfig, "lr"),
        ({"mode": "ttt-lora", "ttt": {"beta1": "1.5"}}, BadConfig, "beta1"),
        ({"mode": "ttt-lora", "ttt": {"batch": "9"}}, BadConfig, "Use --batch"),
        ({"mode": "ttt-chunk", "ttt": {"chunk": "0"}}, BadConfig, "chunk"),
    ],
)
def test_modes_that_make_no_sense_are_refused(
    submission: Submission, proof: Proof, mode: dict, error: type[SqueezeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        submission.decode(replace(proof, mode=mode))


def test_a_batch_that_would_fill_the_memory_is_refused(
    submission: Submission, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.score.proof.predictor.MAX_MEMORY", 10_000)
    for mode in ({}, {"mode": "ttt-lora", "ttt": {"rank": "64"}}):
        with pytest.raises(BadConfig, match="does not fit"):
            submission.decode(replace(proof, mode=mode))


def test_a_mode_names_only_what_differs() -> None:
    assert mode_fields(WINDOWS) == {}
    assert mode_fields(Mode("documents", 8)) == {"length": 8}
    for mode in (WINDOWS, Mode("documents", 8, 4), LORA, PHASED, CHUNK):
        assert read_mode(mode_fields(mode)) == mode


def test_documents_without_text_prove_nothing(submission: Submission) -> None:
    with pytest.raises(BadData, match="stand for no text"):
        empty = [np.zeros(0, np.uint16)]
        prove(submission, empty, ProofOptions(WINDOWS, 1, 1), None, lambda name: print)


@pytest.mark.parametrize("inside", [1, 299 + 1])
def test_documents_that_cannot_be_coded_are_refused(submission: Submission, inside: int) -> None:
    with pytest.raises(BadData, match="document 1 cannot be coded"):
        submission.encode([np.zeros(0, np.uint16), np.array([5, inside], np.uint16)], WINDOWS, 2, 1)
    with pytest.raises(BadData, match="nothing to code"):
        submission.encode([], WINDOWS, 2, 1)


# --- which documents ---


def chosen(folder: Path, **options: int) -> list[int]:
    """Lengths of the documents selected from a stream that begins inside one."""
    table = Submission.load(ModelSource(folder / "m.sqz"), folder / "t.model", CPU).tokenizer.table
    tokens = np.concatenate([[9, 9], *([1] + [270] * n for n in range(20))]).astype(np.uint16)
    documents, skipped = select_documents(Text(tokens, table), 1, Selection(**options))
    assert skipped == 2
    return [len(document) for document in documents]


def test_documents_are_taken_from_the_start_or_at_random_in_order(folder: Path) -> None:
    assert chosen(folder) == list(range(20))
    assert chosen(folder, documents=3) == [0, 1, 2]
    drawn = chosen(folder, documents=5, seed=1)
    assert len(drawn) == 5 and drawn == sorted(drawn) != [0, 1, 2, 3, 4]
    assert drawn == chosen(folder, documents=5, seed=1) != chosen(folder, documents=5, seed=2)


def test_documents_are_taken_until_their_text_is_long_enough(folder: Path) -> None:
    table = Submission.load(ModelSource(folder / "m.sqz"), folder / "t.model", CPU).tokenizer.table
    size = int(table.base[270] + table.space[270])
    for wanted in (1, 10 * size, 50 * size):
        taken = sum(chosen(folder, text_bytes=wanted, seed=3)) * size
        assert wanted <= taken + 2 * size * 20 and taken >= wanted - 20 * size


def test_a_shard_without_documents_is_refused(submission: Submission) -> None:
    with pytest.raises(BadData, match="no whole document"):
        select_documents(Text(np.full(9, 5, np.uint16), submission.tokenizer.table), 1)


# --- the command ---


def run(folder: Path, *arguments: str) -> Result:
    command = ["prove", str(folder / "m.sqz"), "--tokenizer", str(folder / "t.model"), *arguments]
    return CliRunner().invoke(cli, command)


def test_the_command_proves_and_its_file_decodes_by_hand(folder: Path, tmp_path: Path) -> None:
    file, text = tmp_path / "t.sqp", tmp_path / "t.txt"
    result = run(folder, "--val", str(folder / "d.bin"), "-o", str(file), "--json", "--threads=1")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    size = sum(len(text.encode()) for text in TEXTS)
    assert report["identical"] and report["text_bytes"] == size
    assert report["file_bytes"] == file.stat().st_size
    assert report["file_bpb"] == pytest.approx(8 * file.stat().st_size / size)
    assert report["bpb_with_ends"] == pytest.approx(8 * report["code_bytes"] / size)
    assert report["window_bpb"] > 0 and report["seconds"]["decode"] > 0

    done = run(folder, "--decode", str(file), "-o", str(text))
    assert done.exit_code == 0, done.output
    assert text.read_text() == "\n".join(TEXTS)
    assert report["sha256"]["text"] in done.output
    assert report["written_bytes"] == text.stat().st_size == size + len(TEXTS) - 1
    assert f"{report['written_bytes']:,} bytes with newlines" in done.output


def test_the_files_that_the_decoder_reads_are_counted_and_a_strange_tokenizer_is_told(
    folder: Path, tmp_path: Path
) -> None:
    result = run(folder, "--val", str(folder / "d.bin"), "--json", "--threads=1")
    report = json.loads(result.stdout)
    assert report["artifact_bytes"] == (folder / "m.sqz").stat().st_size
    assert report["tokenizer_bytes"] == (folder / "t.model").stat().st_size
    assert any("none of the challenge's" in note for note in report["notes"])


def test_one_command_verifies_a_file_against_the_data(folder: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "t.sqp", tmp_path / "other.bin"
    data = ["--val", str(folder / "d.bin")]
    assert run(folder, *data, "-o", str(file), "--threads=1", "--documents=3").exit_code == 0
    done = run(folder, "--decode", str(file), *data, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["found_in_data"] and facts["file_bytes"] == file.stat().st_size
    write_shard(other, encode_documents([*TEXTS[:2], TEXTS[4]], folder / "t.model"))
    with pytest.raises(RuleBroken, match="not one of the data"):
        raise run(folder, "--decode", str(file), "--val", str(other)).exception


def test_the_command_proves_adapting_models(folder: Path) -> None:
    data = ["--val", str(folder / "d.bin"), "--mode", "ttt-lora", "--json", "--threads=1"]
    result = run(folder, *data, "--length", "32", "--ttt", "chunk=8", "--ttt", "rank=2")
    assert result.exit_code == 0, result.output
    mode = json.loads(result.stdout)["mode"]
    assert mode["name"] == "ttt-lora" and mode["ttt"] == {"chunk": "8", "rank": "2"}


def test_the_decoding_process_reports_its_error_in_ours(
    submission: Submission, proof: Proof
) -> None:
    data = bytearray(proof.to_bytes())
    data[-20] ^= 1
    with pytest.raises(SqueezeError, match=r"another process failed: .*checksum"):
        decode_elsewhere(submission, bytes(data), "", SILENT)


def test_the_decoding_process_imports_no_tests_and_needs_no_folder(tmp_path: Path) -> None:
    """A folder with traps named like the modules it imports changes nothing."""
    for name in ("numpy", "torch", "squeeze", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    command = [sys.executable, "-I", "-m", "squeeze.score.proof.decode", *"abcd", "cpu", "{}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be read" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--decode", "x", "--mode", "psychic"], ["--val", "d.bin", "--mode", "psychic"]],
)
def test_unclear_requests_are_usage_errors(folder: Path, arguments: list[str]) -> None:
    assert run(folder, *arguments).exit_code == 2


@pytest.mark.slow
def test_a_real_model_proves_its_score_within_a_thousandth(materials: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.sqz"
    source = str(materials / "checkpoints/nolanvild_0.48M.int8.ptz")
    shape = ["--like", "baseline", "--seq-len", "256", "--mlp-power", "3"]
    packed = CliRunner().invoke(cli, ["pack", source, "-o", str(model), *shape])
    assert packed.exit_code == 0, packed.output
    result = CliRunner().invoke(
        cli,
        [
            *("prove", str(model), "--threads=1", "--json"),
            *("--tokenizer", str(materials / "tokenizers/sp1024_official.model")),
            *("--val", str(materials / "fineweb/fineweb_val_000003_sp1024_tail.bin")),
            *("--bytes=200000", "--seed=1", "--batch=128"),
        ],
    )
    report = json.loads(result.stdout)
    assert report["identical"] and report["text_bytes"] >= 200_000
    assert report["overhead"] < 0.001
