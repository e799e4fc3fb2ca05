"""The public API: the bytes of the command line, from modules, state dicts and files alike."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
from contextlib import chdir
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

import squeeze
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, BadConfig, BadData, UnsupportedFormat
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tiny_models import begun

CONFIG = ModelConfig(256, 2, 64, 2, 1, 192, seq_len=32)
LIMIT = 30_000


@pytest.fixture(scope="module")
def model() -> GPT:
    gpt = GPT(CONFIG)
    gpt.load_state_dict(begun(CONFIG, 3))
    return gpt


@pytest.fixture(scope="module")
def checkpoint(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(model.state_dict(), path, {"squeeze.config": CONFIG.to_json()})
    return path


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, 512).astype(np.uint16)


@pytest.fixture(scope="module")
def shard(ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "ids.bin"
    write_shard(path, ids)
    return path


def packed_by_command(checkpoint: Path, out: Path, *options: object) -> bytes:
    arguments = ["pack", str(checkpoint), "-o", str(out), *map(str, options)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out.read_bytes()


@pytest.mark.parametrize("preset", ["fast", "tuned", "record-1394"])
def test_packing_in_python_gives_the_bytes_of_the_command(
    preset: str, checkpoint: Path, model: GPT, ids: np.ndarray, shard: Path, tmp_path: Path
) -> None:
    limit = 1_000_000 if preset == "record-1394" else LIMIT
    tune = 3 if preset == "tuned" else None
    text = ["--calibration", "shards", "--data", shard, "--tokens", len(ids)]
    updates = ["--tune", tune] if tune else []
    by_command = packed_by_command(
        checkpoint, tmp_path / "m.sqz", "--preset", preset, "--limit", limit, *text, *updates
    )
    packed = squeeze.pack(model, limit, tokens=ids, preset=preset, tune=tune)
    assert packed.data == by_command
    assert squeeze.pack(checkpoint, limit, tokens=ids, preset=preset, tune=tune).data == by_command


def test_updates_are_of_the_preset_that_is_tuned(model: GPT) -> None:
    with pytest.raises(BadConfig, match="expected preset tuned, found preset best"):
        squeeze.pack(model, LIMIT, preset="best", tune=10)


@pytest.mark.parametrize("tune", [0, -1, True, 2.5, "10m", timedelta(0)])
def test_no_updates_are_refused(tune: Any, model: GPT) -> None:
    with pytest.raises(BadConfig, match="tune; expected a number of updates"):
        squeeze.pack(model, LIMIT, preset="tuned", tune=tune)


@pytest.mark.parametrize(("preset", "options"), [("round", []), ("lossless", ["--lossless"])])
def test_presets_without_calibration_give_the_bytes_of_the_command(
    preset: str, options: list[str], checkpoint: Path, model: GPT, tmp_path: Path
) -> None:
    by_command = packed_by_command(checkpoint, tmp_path / "m.sqz", *options)
    state = model.state_dict()
    for packed in (
        squeeze.pack(model, preset=preset),
        squeeze.pack(state, preset=preset, config=CONFIG),
        squeeze.pack(checkpoint, preset=preset),
    ):
        assert packed.data == by_command


def test_wrapped_modules_are_packed_as_what_they_wrap(model: GPT) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    plain = squeeze.pack(model, preset="lossless").data
    assert squeeze.pack(Wrapper(torch.compile(model)), preset="lossless").data == plain


def test_a_state_dict_of_a_wrapped_module_is_packed_as_that_of_the_module(model: GPT) -> None:
    state = {f"module._orig_mod.{name}": weight for name, weight in model.state_dict().items()}
    state["module._orig_mod.lm_head.weight"] = state["module._orig_mod.tok_emb.weight"]
    packed = squeeze.pack(state, preset="lossless", config=CONFIG)
    assert packed.data == squeeze.pack(model, preset="lossless").data
    assert "wrappers' parts removed" in packed.notes[0] and "read as tied" in packed.notes[1]


def test_one_of_several_sets_of_weights_is_named(model: GPT, tmp_path: Path) -> None:
    other = {name: weight + 1 for name, weight in model.state_dict().items()}
    torch.save({"model": model.state_dict(), "ema": other}, tmp_path / "m.pt")
    packed = squeeze.pack(tmp_path / "m.pt", preset="lossless", config=CONFIG, entry="ema")
    assert packed.data == squeeze.pack(other, preset="lossless", config=CONFIG).data
    loaded = squeeze.load(tmp_path / "m.pt", entry="ema")
    assert all(torch.equal(loaded[name], weight) for name, weight in other.items())
    with pytest.raises(BadCheckpoint, match=r"several sets of weights.*model, ema"):
        squeeze.load(tmp_path / "m.pt")


def test_weights_in_sixteen_bits_keep_their_bits_and_dtype(model: GPT, tmp_path: Path) -> None:
    state = {name: weight.bfloat16() for name, weight in model.state_dict().items()}
    squeeze.pack(state, preset="lossless", config=CONFIG).save(tmp_path / "m.sqz")
    loaded = squeeze.load(tmp_path / "m.sqz")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in state.items())
    assert {weight.dtype for weight in loaded.values()} == {torch.bfloat16}


def test_a_saved_model_comes_back_bit_for_bit(model: GPT, tmp_path: Path) -> None:
    squeeze.pack(model, preset="lossless").save(tmp_path / "m.sqz")
    other = GPT(CONFIG, seed=9)
    squeeze.load_into(other, tmp_path / "m.sqz")
    arrays = squeeze.load(tmp_path / "m.sqz", framework="np")
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
        assert arrays[name].tobytes() == weight.numpy().tobytes()


def test_a_module_that_does_not_fit_is_left_alone(checkpoint: Path) -> None:
    other = GPT(ModelConfig(256, 2, 64, 2, 1, 128, seq_len=32))
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    with pytest.raises(BadCheckpoint, match=r"blocks\.0\.mlp\.fc\.weight does not fit"):
        squeeze.load_into(other, checkpoint)
    assert all(torch.equal(weight, before[name]) for name, weight in other.state_dict().items())


def test_a_score_in_python_is_that_of_the_command(tmp_path: Path) -> None:
    config = ModelConfig(300, 1, 32, 2, 1, 64, seq_len=16)
    model = GPT(config)
    save_file(model.state_dict(), tmp_path / "m.safetensors", {"squeeze.config": config.to_json()})
    pieces = tmp_path / "t.model"
    train_tokenizer(["A pound of flour takes two thirds of a pound of water. " * 40], 300, pieces)
    ids = np.arange(3, 203, dtype=np.uint16)
    write_shard(tmp_path / "d.bin", ids)
    command = ["eval", "m.safetensors", "--tokenizer", "t.model", "--val", "d.bin", "--json"]
    with chdir(tmp_path):
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
    stated = json.loads(done.stdout)
    for given in (model, tmp_path / "m.safetensors"):
        report = squeeze.evaluate(given, ids, pieces)
        assert (report.nats, report.bytes, report.tokens) == (stated["nats"], stated["bytes"], 199)
        assert not report.partial
    with pytest.raises(BadConfig, match="mode"):
        squeeze.evaluate(model, ids, pieces, mode="fast")


def test_a_module_of_any_class_is_scored_as_its_logits_say(tmp_path: Path) -> None:
    model = GPT(ModelConfig(300, 1, 32, 2, 1, 64, seq_len=32))

    class Around(nn.Module):
        """A model of another class with the same logits."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(ids)
            return logits

    pieces = tmp_path / "t.model"
    train_tokenizer(["A pound of flour takes two thirds of a pound of water. " * 40], 300, pieces)
    ids = np.arange(3, 103)
    module = Around().train()
    report = squeeze.evaluate(module, ids, pieces, config={"seq_len": 32})
    assert report.nats == pytest.approx(squeeze.evaluate(model, ids, pieces).nats, rel=1e-6)
    assert module.training
    with pytest.raises(BadConfig, match="configuration of a live module"):
        squeeze.evaluate(module, ids, pieces, config={"num_layers": 2})


def test_the_ledger_of_a_packed_model_counts_its_code(model: GPT, tmp_path: Path) -> None:
    code = tmp_path / "train_gpt.py"
    code.write_bytes(b"#" * 1_000)
    packed = squeeze.pack(model, code=[code], preset="round")
    assert packed.ledger.files == {"model.sqz": len(packed.data), "train_gpt.py": 1_000}
    packed.save(tmp_path / "model.sqz")
    assert squeeze.budget([tmp_path / "model.sqz", code]).rows == packed.ledger.rows
    assert str(packed.ledger).startswith(f"{len(packed.data) + 1_000:,} bytes: ")


def test_a_limit_that_is_not_met_is_an_error(model: GPT, tmp_path: Path) -> None:
    with pytest.raises(squeeze.OverBudget, match="over the limit by"):
        squeeze.pack(model, limit=1_000, preset="round")
    squeeze.pack(model, preset="round").save(tmp_path / "m.sqz")
    with pytest.raises(squeeze.OverBudget):
        squeeze.budget(tmp_path / "m.sqz", limit=1_000)


@pytest.mark.parametrize("other", [7, None, [torch.ones(2, 2)]])
def test_what_is_no_model_is_refused_by_name(other: object) -> None:
    with pytest.raises(BadCheckpoint, match=f"found {type(other).__name__}"):
        squeeze.pack(other)  # type: ignore[arg-type]


def test_weights_without_values_are_refused_by_name(model: GPT) -> None:
    empty = copy.deepcopy(model).to("meta")
    for other in (empty, empty.state_dict(), nn.Linear(2, 2, device="meta"), nn.LazyLinear(2)):
        with pytest.raises(BadCheckpoint, match="of the model has no values"):
            squeeze.pack(other)  # type: ignore[arg-type]


def test_a_module_whose_forward_takes_no_tokens_is_refused() -> None:
    with pytest.raises(BadCheckpoint, match="the model's forward fails: RuntimeError"):
        squeeze.pack(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("weight", "found"), [(torch.ones(2).double(), "torch.float64"), ("weights", "str")]
)
def test_a_tensor_that_cannot_be_packed_is_named(weight: object, found: str) -> None:
    with pytest.raises(BadCheckpoint, match=rf"tok_emb\.weight .*{found}"):
        squeeze.pack({"tok_emb.weight": weight}, preset="round")  # type: ignore[dict-item]


def test_a_state_dict_of_another_configuration_is_refused(model: GPT) -> None:
    with pytest.raises(BadCheckpoint, match=r"blocks\.0\.mlp\.fc\.weight has another shape"):
        squeeze.pack(model.state_dict(), config={"mlp_hidden": 8}, preset="round", assume=True)


def test_weights_that_are_not_finite_are_refused(model: GPT) -> None:
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    state["tok_emb.weight"][3, 4] = torch.nan
    with pytest.raises(BadCheckpoint, match=r"tok_emb\.weight has NaN"):
        squeeze.pack(state, config=CONFIG, preset="round")


def test_unknown_names_are_answered_with_the_known_ones(model: GPT, checkpoint: Path) -> None:
    with pytest.raises(BadConfig, match=r"unknown preset; expected fast, best.*found quick"):
        squeeze.pack(model, preset="quick")
    with pytest.raises(BadConfig, match="unknown framework; expected torch or np, found jax"):
        squeeze.load(checkpoint, framework="jax")  # type: ignore[call-overload]


@pytest.mark.parametrize("tokens", [[[1, 2]], [0.5], [-1, 2], [70_000]])
def test_tokens_that_are_none_are_refused(model: GPT, tokens: list[object]) -> None:
    with pytest.raises(BadData, match="token id"):
        squeeze.pack(model, tokens=tokens)  # type: ignore[arg-type]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.sqz").write_bytes(b"junk")
    for call in (squeeze.load, squeeze.inspect, squeeze.pack):
        with pytest.raises(UnsupportedFormat):
            call(tmp_path / "m.sqz")  # type: ignore[operator]


WORKER = """
import sys, torch.distributed as dist, squeeze
rank, port, checkpoint, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
packed = squeeze.pack(checkpoint, limit=30_000, tokens=range(256), preset="fast")
packed.save(f"{folder}/{rank}.sqz")
try:
    squeeze.pack(checkpoint, limit=300, tokens=range(256), preset="fast")
except squeeze.OverBudget as error:
    open(f"{folder}/{rank}.txt", "w").write(str(error))
dist.destroy_process_group()
"""


def test_every_rank_of_a_group_gets_the_model_and_the_error(
    checkpoint: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(port), checkpoint, tmp_path])
        for rank in range(2)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    assert (tmp_path / "0.sqz").read_bytes() == (tmp_path / "1.sqz").read_bytes()
    messages = {(tmp_path / f"{rank}.txt").read_text() for rank in range(2)}
    assert len(messages) == 1 and "nothing fits this limit" in messages.pop()
    alone = squeeze.pack(checkpoint, limit=30_000, tokens=range(256), preset="fast")
    assert (tmp_path / "0.sqz").read_bytes() == alone.data
