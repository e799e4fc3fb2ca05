"""Text to shards: readers, sides that cannot overlap, resumption; tokenizers; checks of shards."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from squeeze.cli import cli
from squeeze.data import documents
from squeeze.data import tokenize as tokenizing
from squeeze.data.check import check_shards
from squeeze.data.tokenize import ShardOptions, is_validation
from squeeze.errors import BadConfig, BadData, CorruptData, SqueezeError
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.data.text import train_tokenizer


def documents_of(paths: list[Path], separator: str | None = None, field: str = "text") -> Any:
    return documents.read_documents(documents.TextFiles(paths, separator, field))


def tokenized(paths: list[Path], tokenizer: Path, out: Path, **options: Any) -> dict[str, Any]:
    texts = documents.TextFiles(paths)
    return tokenizing.tokenize(texts, tokenizer, out, ShardOptions(**options))


SENTENCE = "Each pound of flour takes about two thirds of a pound of water, more or less. "
TEXTS = [f"{number} loaves. {SENTENCE}" for number in range(60)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "t.model"
    train_tokenizer([SENTENCE * 30], 300, path)
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def decoded(paths: list[str], pieces: Path) -> list[str]:
    """Texts of the documents in shards, which all begin with BOS."""
    tokenizer, texts = Tokenizer(pieces), []
    for path in paths:
        tokens = read_shard(path)
        assert tokens[0] == 1
        parts = np.split(tokens, np.flatnonzero(tokens == 1))[1:]
        texts += [tokenizer.decode(part[1:].tolist()) for part in parts]
    return texts


# --- readers ---


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    texts = ["one\ntwo", "drei — vier", "five"]
    body = "".join(json.dumps({"text": text, "n": 1}) + "\n\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(body)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(body.encode()))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(body.encode()))
    (tmp_path / "d.txt").write_text("§§".join(["", *texts, ""]))
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.xz", "d.txt"):
        assert list(documents_of([tmp_path / name], "§§")) == texts
    assert list(documents_of([tmp_path / "d.txt"])) == ["§§one\ntwo§§drei — vier§§five§§"]


def test_parquet_is_read_by_column(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": TEXTS, "id": range(60)}), tmp_path / "a.parquet")
    assert list(documents_of([tmp_path / "a.parquet"])) == TEXTS
    for field, message in (("body", "no column"), ("id", "row 1: no text")):
        with pytest.raises(BadData, match=message):
            list(documents_of([tmp_path / "a.parquet"], field=field))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(BadData, match="not a Parquet file"):
        list(documents_of([tmp_path / "b.parquet"]))


def test_a_separator_may_fall_on_the_edge_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.data.documents.BLOCK", 7)
    path = tmp_path / "a.txt"
    path.write_text("<|end|>".join(["first one", "second", "third text"]))
    assert list(documents_of([path], "<|end|>")) == ["first one", "second", "third text"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": ', "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: no text"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1: no text"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: no text"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.txt.gz", b"not gzip", "cannot be read"),
        ("a.txt.xz", b"not xz", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99, mtime=0)[:-9], "cannot be read"),
        ("a.docx", b"PK", "unknown kind"),
        ("a", b"text", "unknown kind"),
    ],
)
def test_files_that_are_no_text_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=message) as error:
        list(documents_of([tmp_path / name]))
    assert name in str(error.value)
    with pytest.raises(BadData, match="no such file"):
        list(documents_of([tmp_path / "missing.txt"]))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", '{"text": "bread"}'), ("b.txt", "bread")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert list(documents_of([tmp_path / name])) == ["bread"]


def test_half_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b \\ud83d\\ude00"}\n')
    assert list(documents_of([tmp_path / "a.jsonl"])) == ["a\ufffdb \U0001f600"]


# --- shards ---


def test_every_document_is_on_one_side_and_comes_back(
    lines: Path, pieces: Path, tmp_path: Path
) -> None:
    report = tokenized([lines, lines], pieces, tmp_path / "out", share=0.3, shard_tokens=400)
    train = decoded(report["train"]["shards"], pieces)
    validation = decoded(report["val"]["shards"], pieces)
    assert set(train) | set(validation) == set(TEXTS)
    assert not set(train) & set(validation)
    assert all(is_validation(text, 0.3) for text in validation) and len(set(validation)) > 5
    assert len(report["train"]["shards"]) > 2
    assert report["train"]["documents"] + report["val"]["documents"] == 2 * len(TEXTS)
    assert report["val"]["text_bytes"] == sum(len(text.encode()) for text in validation)
    for side in ("train", "val"):
        sizes = [len(read_shard(path)) for path in report[side]["shards"]]
        assert sum(sizes) == report[side]["tokens"]
        assert all(size >= 400 for size in sizes[:-1])


def test_the_share_is_about_what_was_asked_for() -> None:
    chosen = sum(is_validation(str(number), 0.2) for number in range(20_000))
    assert chosen == pytest.approx(4000, abs=200)
    assert not any(is_validation(str(number), 0.0) for number in range(100))
    assert all(is_validation(str(number), 1.0) for number in range(100))


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_killed_run_ends_with_the_same_shards(
    lines: Path, pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    options = {"share": 0.3, "shard_tokens": 400}
    whole = tokenized([lines], pieces, tmp_path / "whole", **options)
    monkeypatch.setattr(tokenizing, "ENCODED_AT_ONCE", 7)
    calls = 0
    write = tokenizing.write_shard

    def killed(path: Path, tokens: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KeyboardInterrupt
        write(path, tokens)

    monkeypatch.setattr(tokenizing, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        tokenized([lines], pieces, tmp_path / "part", **options)
    monkeypatch.setattr(tokenizing, "write_shard", write)
    again = tokenized([lines], pieces, tmp_path / "part", **options)
    for side in ("train", "val"):
        for one, other in zip(whole[side]["shards"], again[side]["shards"], strict=True):
            assert Path(one).read_bytes() == Path(other).read_bytes()
        assert whole[side]["documents"] == again[side]["documents"]


def test_a_finished_job_is_not_done_again(lines: Path, pieces: Path, tmp_path: Path) -> None:
    first = tokenized([lines], pieces, tmp_path / "out")
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.bin"))]
    assert tokenized([lines], pieces, tmp_path / "out") == first
    assert times == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.bin"))]


def test_another_job_does_not_mix_with_the_shards_of_the_first(
    lines: Path, pieces: Path, tmp_path: Path
) -> None:
    tokenized([lines], pieces, tmp_path / "out")
    with pytest.raises(BadData, match="another job"):
        tokenized([lines], pieces, tmp_path / "out", share=0.5)
    (tmp_path / "out" / tokenizing.PENDING).write_bytes(b"PK damaged")
    with pytest.raises(CorruptData, match="damaged"):
        tokenized([lines], pieces, tmp_path / "out")


def test_text_that_changed_at_the_same_length_is_another_job(pieces: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one loaf")
    tokenized([text], pieces, tmp_path / "out")
    text.write_text("two loaf")
    with pytest.raises(BadData, match="another job"):
        tokenized([text], pieces, tmp_path / "out")


def test_a_shard_that_vanished_is_noticed(lines: Path, pieces: Path, tmp_path: Path) -> None:
    report = tokenized([lines], pieces, tmp_path / "out")
    write_shard(report["train"]["shards"][0], np.ones(3, np.uint16))
    with pytest.raises(CorruptData, match="not the shard that was written"):
        tokenized([lines], pieces, tmp_path / "out")


def test_options_and_tokenizers_that_make_no_sense_are_refused(
    lines: Path, pieces: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match="share"):
        tokenized([lines], pieces, tmp_path / "out", share=1.5)
    with pytest.raises(BadConfig, match="tokens of a shard"):
        tokenized([lines], pieces, tmp_path / "out", shard_tokens=0)
    with pytest.raises(BadData, match="not a tokenizer"):
        tokenized([lines], lines, tmp_path / "out")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(BadData, match="no text"):
        tokenized([tmp_path / "empty.txt"], pieces, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(SqueezeError, match="cannot be made"):
        tokenized([lines], pieces, tmp_path / "file")


# --- checks ---


def test_shards_made_here_have_no_problems(lines: Path, pieces: Path, tmp_path: Path) -> None:
    made = tokenized([lines], pieces, tmp_path / "out", share=0.3)
    paths = {side: [Path(path) for path in made[side]["shards"]] for side in made}
    report = check_shards(paths["train"], paths["val"], vocab_size=300)
    assert report["tokens"] == {
        "train": made["train"]["tokens"],
        "validation": made["val"]["tokens"],
    }
    assert report["documents"]["train"] == made["train"]["documents"]
    assert report["train"][0]["starts_with_bos"] and not report["overlap"]["exact"]


def random_documents(seed: int, count: int = 20) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.append(1, rng.integers(2, 300, 100)).astype(np.uint16) for _ in range(count)]


def test_validation_text_in_training_shards_is_found(tmp_path: Path) -> None:
    mine, others = random_documents(0), random_documents(1)
    near = mine[7].copy()
    near[50] = 299
    write_shard(tmp_path / "val.bin", np.concatenate(mine))
    write_shard(tmp_path / "a.bin", np.concatenate([*others, mine[3]]))
    write_shard(tmp_path / "b.bin", np.concatenate([near, *others]))
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    report = check_shards(paths, [tmp_path / "val.bin"])
    assert (report["overlap"]["exact"], report["overlap"]["near"]) == (1, 1)
    assert "1 validation documents" in report["problems"][0]
    write_shard(tmp_path / "b.bin", np.concatenate(others))
    clean = check_shards([tmp_path / "b.bin"], [tmp_path / "val.bin"])
    assert clean["problems"] == [] and clean["overlap"]["largest_share"] < 0.1


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ([5, 6, 7], "no document begins"),
        ([1, 1, 1, 5], "are empty"),
        ([1, 400], "beyond the vocabulary"),
    ],
)
def test_odd_shards_are_described(tmp_path: Path, tokens: list[int], problem: str) -> None:
    write_shard(tmp_path / "a.bin", np.array(tokens, np.uint16))
    report = check_shards([tmp_path / "a.bin"], [], vocab_size=300)
    assert len(report["problems"]) == 1 and problem in report["problems"][0]
    write_shard(tmp_path / "a.bin", np.zeros(0, np.uint16))
    with pytest.raises(BadData, match="an empty shard"):
        check_shards([tmp_path / "a.bin"], [])


# --- commands ---


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)])


def test_the_commands_work_one_after_another(lines: Path, tmp_path: Path) -> None:
    model, shards = tmp_path / "my.model", tmp_path / "shards"
    trained = run("tokenizer", lines, "-o", model, "--vocab", 300, "--json")
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["documents"] == len(TEXTS)
    first = model.read_bytes()
    assert run("tokenizer", lines, "-o", model, "--vocab", 300).exit_code == 0
    assert model.read_bytes() == first

    made = run("tokenize", lines, "--tokenizer", model, "-o", shards, "--val-share", 0.2)
    assert made.exit_code == 0, made.output
    train, validation = shards / "train_000000.bin", shards / "val_000000.bin"
    checked = run("check", train, "--val", validation, "--tokenizer", model)
    assert checked.exit_code == 1 and "11 nearly" in checked.output  # they differ in a number
    write_shard(tmp_path / "other.bin", np.concatenate(random_documents(1)))
    clean = run("check", train, "--val", tmp_path / "other.bin", "--tokenizer", model)
    assert clean.exit_code == 0 and "no problems" in clean.output, clean.output
    write_shard(tmp_path / "long.bin", np.concatenate(random_documents(0)))
    leaked = run("check", train, tmp_path / "long.bin", "--val", tmp_path / "long.bin", "--json")
    assert leaked.exit_code == 1 and json.loads(leaked.stdout)["overlap"]["exact"] == 20
    shown = run("check", tmp_path / "long.bin", "--val", tmp_path / "long.bin")
    assert "problem: 20 validation documents" in shown.output
    assert run("check").exit_code == 2


def test_a_tokenizer_uses_as_much_text_as_it_is_told(lines: Path, tmp_path: Path) -> None:
    result = run(
        "tokenizer", lines, "-o", tmp_path / "m", "--vocab", 300, "--max-bytes", 900, "--json"
    )
    report = json.loads(result.stdout)
    assert 900 <= report["text_bytes"] < 1100 and report["pieces"] == 300


def test_too_little_text_for_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    result = run("tokenizer", tmp_path / "a.txt", "-o", tmp_path / "m", "--vocab", 5000)
    assert isinstance(result.exception, BadData)
    assert not (tmp_path / "m").exists()
    result = run("tokenizer", tmp_path / "a.txt", "-o", tmp_path / "no" / "m", "--vocab", 300)
    assert isinstance(result.exception, SqueezeError)


def test_a_separator_is_read_as_the_shell_leaves_it(pieces: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one\n\ntwo\n\nthree")
    call = ["tokenize", text, "--tokenizer", pieces, "--out"]
    result = run(*call, tmp_path / "out", "--separator", r"\n\n", "--json")
    assert sum(side["documents"] for side in json.loads(result.stdout).values()) == 3
    result = run(*call, tmp_path / "one", "--separator", "§")
    assert "the separator '§' stands in no file" in result.stderr


def test_a_check_takes_the_tokenizers_bos(tmp_path: Path) -> None:
    import io

    import sentencepiece

    model, tokens = io.BytesIO(), tmp_path / "a.bin"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SENTENCE] * 30),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        bos_id=2,
        eos_id=1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        minloglevel=2,
    )
    (tmp_path / "t.model").write_bytes(model.getvalue())
    write_shard(tokens, np.array([2, 40, 50, 2, 60], np.uint16))
    assert run("check", tokens, "--tokenizer", tmp_path / "t.model").exit_code == 0
    assert run("check", tokens, "--tokenizer", tmp_path / "t.model", "--bos", 1).exit_code == 1
