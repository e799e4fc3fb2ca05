"""`squeeze eval` from the command line, on small models and on the real ones."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

UNPINNED = "the tokenizer's identity is not pinned: no file names its tokenizer"
TEXT = "Each pound of flour takes about two thirds of a pound of water, more or less. " * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    train_tokenizer([TEXT], 300, folder / "t.model")
    config = ModelConfig(300, 2, 16, 2, 1, 16, seq_len=32)
    save_checkpoint(folder / "m.safetensors", config, GPT(config).state_dict())
    write_shard(folder / "a.bin", encode_documents([TEXT], folder / "t.model"))
    write_shard(folder / "b.bin", encode_documents([TEXT, "Bread."], folder / "t.model"))
    return folder


def run(folder: Path, *arguments: str) -> Result:
    model, tokenizer = str(folder / "m.safetensors"), str(folder / "t.model")
    return CliRunner().invoke(cli, ["eval", model, "--tokenizer", tokenizer, *arguments])


def report(folder: Path, *arguments: str) -> dict:  # type: ignore[type-arg]
    result = run(folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_the_precision_of_a_score_is_said(folder: Path) -> None:
    arguments = ("--val", str(folder / "a.bin"), "--precision", "bf16")
    assert report(folder, *arguments)["precision"] == "bf16"
    assert "s scoring in bf16 on cpu" in run(folder, *arguments).output


def test_a_piece_with_text_that_begins_documents_stands_for_none(
    folder: Path, tmp_path: Path
) -> None:
    shard = str(folder / "a.bin")
    table = Tokenizer(folder / "t.model").table
    tokens = read_shard(folder / "a.bin")
    piece = int(np.bincount(tokens[table.base[tokens] > 0]).argmax())
    config = ModelConfig(300, 2, 16, 2, 1, 16, seq_len=32, bos_id=piece)
    save_checkpoint(tmp_path / "m.safetensors", config, GPT(config).state_dict())
    shutil.copy(folder / "t.model", tmp_path)
    facts = report(tmp_path, "--val", shard, "--mode", "documents", "--stride", "32")
    text = table.of_targets(tokens)[tokens[1:] != piece]
    assert (facts["tokens"], facts["bytes"]) == (len(text), text.sum())
    assert facts["bpb"] == pytest.approx(facts["nats"] / np.log(2) / text.sum())
    assert any(f"token {piece}, which begins documents, is" in note for note in facts["notes"])


def test_json_tells_what_was_scored_and_what_was_opened(folder: Path) -> None:
    shard = folder / "a.bin"
    facts = report(folder, "--val", str(shard))
    assert facts["bytes"] == facts["bytes_checked_against_text"] == len(TEXT.encode())
    assert facts["partial"] is False
    assert facts["tokens"] == facts["available_tokens"]
    assert facts["bpb"] == pytest.approx(facts["nats"] / np.log(2) / facts["bytes"])
    assert facts["nats_per_token"] == pytest.approx(np.log(300), abs=0.02)  # untrained
    assert facts["config"]["seq_len"] == 32
    assert facts["notes"] == [UNPINNED] and facts["precision"] == "fp32"
    expected = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    assert facts["sha256"]["model"] == expected["m.safetensors"]
    assert facts["sha256"]["tokenizer"] == expected["t.model"]
    assert facts["sha256"]["data"] == {str(shard): expected["a.bin"]}


def test_shards_are_scored_as_one_stream(folder: Path) -> None:
    shards = ["--val", str(folder / "a.bin"), "--val", str(folder / "b.bin")]
    both = report(folder, *shards)
    first, second = (report(folder, *shards[i : i + 2]) for i in (0, 2))
    assert both["tokens"] == first["tokens"] + second["tokens"] + 1  # the second shard's BOS
    assert both["bytes"] == first["bytes"] + second["bytes"]


def test_sliding_by_the_whole_window_is_the_window_score(folder: Path) -> None:
    data = ["--val", str(folder / "b.bin")]
    window = report(folder, *data)
    slid = report(folder, *data, "--mode", "sliding", "--stride", "32")
    assert [slid[key] for key in ("nats", "tokens", "bytes")] == [
        window[key] for key in ("nats", "tokens", "bytes")
    ]
    assert slid["options"] == {"length": 32, "stride": 32}


def test_documents_are_scored_one_by_one_and_their_ends_apart(folder: Path) -> None:
    data = ["--val", str(folder / "b.bin")]
    facts, window = report(folder, *data, "--mode", "documents"), report(folder, *data)
    assert (facts["documents"], facts["ends"]) == (2, 1)
    assert facts["tokens"] == window["tokens"] - 1 and facts["bytes"] == window["bytes"]
    assert facts["partial"] is False and facts["bpb_with_ends"] > facts["bpb"]


def test_drawn_documents_are_partial_and_follow_the_seed(folder: Path) -> None:
    data = ["--val", str(folder / "b.bin"), "--mode", "documents", "--documents", "1"]
    facts = report(folder, *data)
    assert facts["partial"] is True and facts["documents"] == 1
    assert facts["bytes"] == len(TEXT.encode())  # the last document has no BOS after it


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("ttt-lora", ["chunk=8", "targets=head,c_k"]),
        ("ttt-chunk", ["chunk=64", "epochs=1"]),
        ("ttt-phased", ["chunk=8", "rank=2", "sgd_chunk=50", "documents=2", "phases=1"]),
    ],
)
def test_test_time_training_reports_its_options_and_its_order(
    folder: Path, mode: str, options: list[str]
) -> None:
    flags = [flag for option in options for flag in ("--ttt", option)]
    facts = report(folder, "--val", str(folder / "a.bin"), "--mode", mode, *flags)
    assert facts["order"]["updates"] > 0
    assert facts["order"]["scored"] == facts["tokens"] + facts.get("ends", 0)
    assert facts["nats_per_token"] < np.log(300)  # untrained, and the text repeats itself


def test_the_official_set_is_known_by_its_tokens_and_held_to_its_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["--val", str(folder / "b.bin")]
    whole = report(folder, *data)
    targets = whole["tokens"] // 64 * 64  # the records leave out what fills no window
    size = report(folder, *data, "--tokens", str(targets))["bytes"]
    monkeypatch.setattr("squeeze.score.official.WINDOW", 64)
    monkeypatch.setattr("squeeze.score.official.OFFICIAL", {300: ("test", targets, size)})
    facts = report(folder, *data)
    assert (facts["official"], facts["tokens"], facts["bytes"]) == ("test", targets, size)
    assert facts["partial"] is False and targets < whole["tokens"]
    assert report(folder, *data, "--tokens", "100")["official"] is None
    monkeypatch.setattr("squeeze.score.official.OFFICIAL", {300: ("test", targets, size + 1)})
    with pytest.raises(SqueezeError, match="official test validation set, but not its bytes"):
        raise run(folder, *data).exception  # type: ignore[misc]


def test_code_and_versions_are_named(folder: Path) -> None:
    facts = report(folder, "--val", str(folder / "a.bin"), "--tokens", "64")
    again = report(folder, "--val", str(folder / "a.bin"), "--tokens", "64")
    assert len(facts["sha256"]["code"]) == 64 and facts["sha256"] == again["sha256"]
    assert {"squeeze", "python", "torch", "numpy"} <= facts["versions"].keys()
    assert facts["ranks"] == 1 and set(facts["seconds"]) == {"data", "load", "score", "check_bytes"}


def test_a_part_of_the_data_is_marked_partial(folder: Path) -> None:
    facts = report(folder, "--val", str(folder / "a.bin"), "--tokens", "100")
    assert facts["tokens"] == 100
    assert facts["partial"] is True


def test_the_window_can_be_set(folder: Path) -> None:
    facts = report(folder, "--val", str(folder / "a.bin"), "--seq-len", "7", "--batch", "3")
    assert facts["config"]["seq_len"] == 7
    assert facts["tokens"] == facts["available_tokens"]


def test_the_terminal_shows_the_score_on_stdout(folder: Path) -> None:
    result = run(folder, "--val", str(folder / "a.bin"), "--tokens", "64")
    assert result.exit_code == 0, result.output
    assert "bits per byte" in result.stdout
    assert "partial" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--val", "none.bin"], "no such file"),
        (["--val", "a.bin", "--tokens", "1000000"], "shorter than --tokens"),
        (["--val", "a.bin", "--device", "teapot"], "device 'teapot'"),
        (["--val", "t.model"], "not a token shard"),
        (["--val", "a.bin", "--documents", "3"], "reads one stream"),
        (["--val", "a.bin", "--stride", "8"], "window scoring has no stride"),
        (["--val", "a.bin", "--mode", "sliding", "--stride", "33"], "stride"),
        (["--val", "a.bin", "--ttt", "lr=1"], "no such options"),
        (["--val", "a.bin", "--mode", "ttt-lora", "--ttt", "lr"], "name=value"),
        (["--val", "a.bin", "--mode", "ttt-lora", "--ttt", "lr=x"], "a number such as 0"),
        (["--val", "a.bin", "--mode", "ttt-lora", "--ttt", "rnk=1"], "Did you mean rank"),
        (["--val", "a.bin", "--mode", "ttt-lora", "--ttt", "rank=0"], "rank"),
        (["--val", "a.bin", "--mode", "ttt-lora", "--batch", "2"], "--ttt batch=N"),
        (["--val", "a.bin", "--mode", "documents", "--documents", "1"], "no whole document"),
    ],
)
def test_bad_input_is_one_clear_error(folder: Path, arguments: list[str], message: str) -> None:
    arguments = [str(folder / a) if a.endswith((".bin", ".model")) else a for a in arguments]
    result = run(folder, *arguments)
    assert isinstance(result.exception, SqueezeError)
    assert message in str(result.exception)


def test_help_fits_one_screen_and_shows_an_example() -> None:
    text = CliRunner().invoke(cli, ["eval", "--help"]).output
    assert "Example:" in text
    assert len(text.splitlines()) <= 50


def test_help_imports_neither_torch_nor_numba() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from squeeze.cli import cli\n"
        "for name in ('eval', 'train'): assert not CliRunner().invoke(cli, [name, '-h']).exception\n"
        "sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KNOWN_ANSWERS = [
    ("nolanvild_0.48M_fp32.pt", 256, 3, 4.357658, 2.718523),
    ("nolanvild_0.48M.int8.ptz", 256, 3, 4.358625, 2.719127),
    ("samtruss_7.6M_65176d11.int8.ptz", 512, 2, 3.442010, 2.147296),
    ("samtruss_7.6M_65176d11.int8.ptz", 1024, 2, 3.448621, 2.151421),
    ("reference_8.7M_fp32.safetensors", 512, 2, 3.473120, 2.166704),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seq_len", "power", "nats", "bpb"), KNOWN_ANSWERS)
def test_known_answers_on_the_validation_tail(
    materials: Path, name: str, seq_len: int, power: int, nats: float, bpb: float
) -> None:
    facts = score_material(materials, name, seq_len, power, 131_072)
    assert facts["bytes"] == 303_113
    assert facts["nats_per_token"] == pytest.approx(nats, abs=1e-6)
    assert facts["bpb"] == pytest.approx(bpb, abs=1e-6)


def test_a_real_checkpoint_scores_as_it_did(materials: Path) -> None:
    """A short span of the first known answer, pinned when the whole of it was met."""
    facts = score_material(materials, "nolanvild_0.48M_fp32.pt", 256, 3, 8192)
    assert facts["bpb"] == pytest.approx(2.476308, abs=1e-6)


def score_material(materials: Path, name: str, seq_len: int, power: int, tokens: int) -> dict:  # type: ignore[type-arg]
    arguments = [
        "eval",
        str(materials / "checkpoints" / name),
        "--tokenizer",
        str(materials / "tokenizers" / "sp1024_official.model"),
        "--val",
        str(materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin"),
        *("--tokens", str(tokens), "--like", "baseline", "--seq-len", str(seq_len)),
        *("--mlp-power", str(power)),
        "--json",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]
