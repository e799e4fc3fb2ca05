"""`squeeze train` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from squeeze.checkpoint import load_model
from squeeze.cli import cli
from squeeze.errors import BadData, SqueezeError
from squeeze.train.config import ModelConfig
from squeeze.train.data import write_shard
from squeeze.train.text import encode_documents, train_tokenizer

TEXT = "A starter of wild yeast doubles in six hours at room temperature, slower in winter. " * 40
NAMES = ("num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_hidden", "seq_len")
SETTINGS = [f"{n}={v}" for n, v in zip(NAMES, (2, 16, 2, 1, 32, 16), strict=True)]
SHAPE = [word for text in [*SETTINGS, "batch_tokens=64"] for word in ("--set", text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    train_tokenizer([TEXT], 300, folder / "t.model")
    write_shard(folder / "a.bin", encode_documents([TEXT], folder / "t.model"))
    return folder


def run(folder: Path, *arguments: str) -> Result:
    out = str(folder / "m.safetensors")
    return CliRunner().invoke(
        cli, ["train", "--data", str(folder / "a.bin"), "--out", out, *arguments]
    )


def test_a_trained_model_is_saved_with_its_config_and_scored(folder: Path) -> None:
    tokenizer = ("--tokenizer", str(folder / "t.model"))
    result = run(
        folder, *tokenizer, *SHAPE, "--steps", "8", "--val", str(folder / "a.bin"), "--json"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["steps"], report["tokens_seen"]) == (8, 8 * 64)
    assert report["val"]["bytes"] == len(TEXT.encode())
    assert report["val"]["bpb"] > 0
    config = ModelConfig(300, 2, 16, 2, 1, 32, seq_len=16)
    assert load_model(folder / "m.safetensors").config == config
    assert report["params"] == config.num_params


def test_a_config_can_be_given_as_json_or_as_a_file(folder: Path) -> None:
    config = ModelConfig(310, 1, 16, 2, 2, 24, mlp_power=3, seq_len=8)
    (folder / "c.json").write_text(config.to_json())
    for given in (config.to_json(), str(folder / "c.json")):
        result = run(folder, "--config", given, "--steps", "1")
        assert result.exit_code == 0, result.output
        assert load_model(folder / "m.safetensors").config == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1", "--val", "a.bin"], "--val needs --tokenizer"),
        (["--steps", "-1"], "Invalid value"),
        (["--threads", "0"], "Invalid value"),
    ],
)
def test_a_wrong_call_is_a_usage_error(folder: Path, arguments: list[str], message: str) -> None:
    result = run(folder, *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("arguments", [["--out", "none/m"], ["--val", "none.bin"]])
def test_a_file_that_cannot_be_used_is_found_before_training(
    folder: Path, arguments: list[str]
) -> None:
    call = ["--budget-seconds", "1000", "--tokenizer", str(folder / "t.model"), *arguments]
    assert isinstance(run(folder, *call).exception, SqueezeError)


def test_data_outside_the_vocabulary_is_refused(folder: Path) -> None:
    result = run(folder, *SHAPE, "--set", "vocab_size=200", "--steps", "1")
    assert isinstance(result.exception, BadData)


def test_a_vocabulary_that_is_not_the_tokenizers_is_refused(folder: Path) -> None:
    tokenizer = ("--tokenizer", str(folder / "t.model"), "--steps", "1")
    assert isinstance(run(folder, *tokenizer, "--set", "vocab_size=200").exception, BadData)
    config = ModelConfig(200, 1, 16, 2, 2, 24).to_json()
    assert isinstance(run(folder, *tokenizer, "--config", config).exception, BadData)


def test_help_fits_one_screen_and_shows_an_example() -> None:
    text = CliRunner().invoke(cli, ["train", "--help"]).output
    assert "Example:" in text
    assert len(text.splitlines()) <= 55
