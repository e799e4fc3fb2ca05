"""Options that the way of packing takes nothing from are refused, not passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import nn

from squeeze.cli import cli
from squeeze.errors import BadConfig

VOCAB, WIDTH = 64, 32
SCRIPT = f"""
from torch import nn
length = 16

def build():
    return nn.Sequential(nn.Embedding({VOCAB}, {WIDTH}), nn.Linear({WIDTH}, {VOCAB}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "net.py").write_text(SCRIPT)
    module = nn.Sequential(nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB))
    save_file(module.state_dict(), folder / "m.safetensors")
    return folder


def pack(folder: Path, *options: str) -> Result:
    fixed = ["pack", str(folder / "m.safetensors"), "--model", str(folder / "net.py")]
    return CliRunner().invoke(cli, [*fixed, "-o", str(folder / "m.sqz"), *options])


@pytest.mark.parametrize(
    "options, name",
    [
        ("--lossless --tokens 5", "--tokens"),
        ("--quant all=6 --calibration shards --data nothing.bin", "--calibration"),
        ("--squeezed --seed 3", "--seed"),
        ("--preset fast --small 100", "--small"),
        ("--lossless --small-floats fp32", "--small-floats"),
        ("--small -5", "--small"),
    ],
)
def test_an_option_without_a_use_is_refused(folder: Path, options: str, name: str) -> None:
    result = pack(folder, *options.split())
    assert result.exit_code == 2
    assert f"{name} is for" in result.output or f"Invalid value for '{name}'" in result.output


def test_what_a_variable_says_for_all_packs_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEEZE_PACK_TOKENS", "512")
    assert pack(folder, "--lossless").exit_code == 0


def test_settings_of_own_models_are_refused_beside_a_script(folder: Path) -> None:
    for options in (["--rope-base", "5"], ["--set", "qk_norm=off"], ["--like", "baseline"]):
        result = pack(folder, "--lossless", *options)
        assert isinstance(result.exception, BadConfig)
        assert "the script of --model says how it computes" in str(result.exception)


def test_shards_and_the_calibration_text_shards_ask_for_each_other(folder: Path) -> None:
    for options, words in (
        (["--calibration", "shards"], "Name them with --data"),
        (["--data", "x.bin"], "Add --calibration shards"),
    ):
        result = pack(folder, "--preset", "fast", *options)
        assert isinstance(result.exception, BadConfig) and words in str(result.exception)


def test_a_record_says_what_stays_floats_and_names_no_empty_correction(folder: Path) -> None:
    options = ["--preset", "record-1855", "--tokens", "64"]
    result = pack(folder, *options)
    assert result.exit_code == 0, result.output
    assert "stay fp16" in result.output and "left out" not in result.output
    assert any(
        "stay fp16" in note for note in json.loads(pack(folder, *options, "--json").stdout)["notes"]
    )
