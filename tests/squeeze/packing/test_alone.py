"""Weights that no model runs: packed to a limit, read again, and told from weights of our own model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

import squeeze
from squeeze.checkpoint.read import is_own, load_checkpoint
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, OverBudget
from squeeze.subject.source import ModelSource
from squeeze.train.checkpoint import save_checkpoint
from tests.tiny_models import PLAIN, lively


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # rows of very different sizes, as trained layers have
    rows = torch.logspace(-2, 0, 96)[:, None]
    return {
        "encoder.wide": torch.randn(96, 64, generator=generator) * rows,
        "encoder.bank": torch.randn(3, 48, 32, generator=generator).bfloat16(),
        "bias": torch.randn(96, generator=generator),
    }


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(state(), path)
    return path


def squeezed(weights: Path, limit: int) -> Result:
    command = ["pack", str(weights), "--squeezed", "--limit", str(limit), "--json"]
    return CliRunner().invoke(cli, [*command, "-o", str(weights.with_name("m.sqz"))])


def test_any_state_dict_lands_under_a_limit_and_comes_back(weights: Path) -> None:
    done = squeezed(weights, 6_000)
    assert done.exit_code == 0, done.output
    path = weights.with_name("m.sqz")
    assert 5_800 <= path.stat().st_size <= 6_000
    packed = squeeze.load(path)
    assert {n: (t.shape, t.dtype) for n, t in packed.items()} == {
        n: (t.shape, t.dtype) for n, t in state().items()
    }
    for name, tensor in state().items():
        error = (packed[name].float() - tensor.float()).square().mean()
        assert error < 0.1 * tensor.float().square().mean()


def test_a_limit_that_binds_is_met_without_a_model_too(weights: Path) -> None:
    save_file({**state(), "wide": torch.randn(320, 256)}, weights)
    path = weights.with_name("m.sqz")
    command = ["pack", str(weights), "--json", "-o", str(path), "--limit"]
    rounded = CliRunner().invoke(cli, [*command, "60000"])
    assert rounded.exit_code == 0 and "packed to it" not in rounded.output
    limit = path.stat().st_size // 2
    done = CliRunner().invoke(cli, [*command, str(limit)])
    assert done.exit_code == 0 and limit - 200 < path.stat().st_size <= limit
    said = "packed to it with --squeezed, as no model says what these weights are for"
    assert json.loads(done.stdout)["notes"][-1].endswith(said)
    assert isinstance(CliRunner().invoke(cli, [*command, "100"]).exception, OverBudget)


@pytest.mark.parametrize("options", [["--squeezed"], ["--quant", "all=4", "--small", "0"]])
def test_masks_among_the_weights_are_exact(weights: Path, options: list[str]) -> None:
    """As in files of GPT-2; -1e9 is beyond fp16. A megabyte of them costs some kilobytes."""
    masks = {
        "attn.bias": torch.ones(1, 1, 300, 300).tril(),
        "far": torch.full((300, 300), -1e9).triu(1),
        "positions": torch.arange(300.0).repeat(300, 1),
    }
    out = weights.with_name("m.sqz")
    command = ["pack", str(weights), "-o", str(out), "--json", *options]
    sizes = []
    for state_dict in (state(), state() | masks):
        save_file(state_dict, weights)
        done = CliRunner().invoke(cli, [*command, "--limit", "20000"])
        assert done.exit_code == 0, done.output
        sizes.append(out.stat().st_size)
    packed = squeeze.load(out)
    assert all(torch.equal(packed[name], mask) for name, mask in masks.items())
    assert not torch.equal(packed["encoder.wide"], state()["encoder.wide"])
    assert "squeezed" in options[0] or sizes[1] < sizes[0] + 9_000


def test_a_tensor_with_the_name_of_a_part_is_not_lost(weights: Path) -> None:
    save_file({**state(), "encoder.bank[0]": torch.randn(64, 64)}, weights)
    result = squeezed(weights, 7_000)
    assert isinstance(result.exception, BadCheckpoint)
    assert "has the name of a part of encoder.bank" in str(result.exception)


def test_what_little_is_left_of_is_named(weights: Path) -> None:
    small = {**state(), "tiny": 1e-12 * torch.randn(64, 64)}
    save_file(small, weights)
    out = str(weights.with_name("r.sqz"))
    for options, lost in (
        (["--quant", "all=6", "--small", "0"], "1 tensor (sum of squares): tiny"),
        (["--quant", "all=3:40", "--small", "0"], "3 tensors (sum of squares): "),
        (["--squeezed", "--limit", "700"], ""),
    ):
        result = CliRunner().invoke(cli, ["pack", str(weights), "-o", out, *options])
        assert f"rounding loses more than half of {lost}" in result.output


def test_every_matrix_errs_by_about_one_share_of_itself(weights: Path) -> None:
    assert squeezed(weights, 4_000).exit_code == 0
    packed = squeeze.load(weights.with_name("m.sqz"))
    shares = []
    for name in ("encoder.wide", "encoder.bank"):
        tensor = state()[name].float()
        shares.append(float((packed[name].float() - tensor).square().mean() / tensor.var()))
    assert max(shares) < 2 * min(shares)


def test_what_fits_as_it_is_keeps_every_bit(weights: Path) -> None:
    assert squeezed(weights, 1_000_000).exit_code == 0
    packed = squeeze.load(weights.with_name("m.sqz"))
    assert all(torch.equal(packed[name], tensor) for name, tensor in state().items())


def grouped() -> torch.Tensor:
    """Weights of four bits in groups of 64 with a scale each, on no grid of rows."""
    groups = torch.randn(256 * 8, 64, generator=torch.Generator().manual_seed(0))
    steps = groups.abs().amax(1, keepdim=True) / 7
    return ((groups / steps).round() * steps).reshape(256, 512)


def pruned() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(256, 512, generator=generator)
    return torch.where(torch.rand(256, 512, generator=generator) > 0.8, weights, 0.0).bfloat16()


@pytest.mark.parametrize("made", [grouped, pruned])
def test_floats_with_little_in_them_keep_every_bit_where_they_fit(
    weights: Path, made: Callable[[], torch.Tensor]
) -> None:
    whole = made()
    save_file({"w": whole, "scale": torch.tensor(2.0), "none": torch.zeros(0, 3)}, weights)
    assert squeezed(weights, 16_000_000).exit_code == 0
    path = weights.with_name("m.sqz")
    size = path.stat().st_size
    assert size < 0.5 * whole.nbytes
    assert squeezed(weights, size).exit_code == 0
    assert path.stat().st_size == size and torch.equal(squeeze.load(path)["w"], whole)


def test_a_limit_that_nothing_fits_exits_with_3_and_says_what_would(weights: Path) -> None:
    done = squeezed(weights, 300)
    assert isinstance(done.exception, squeeze.OverBudget) and done.exception.exit_code == 3
    assert "smallest possible size" in str(done.exception)
    assert not weights.with_name("m.sqz").exists()


def test_inspect_and_unpack_read_weights_alone(weights: Path) -> None:
    squeezed(weights, 6_000)
    path, out = weights.with_name("m.sqz"), weights.with_name("out.safetensors")
    done = CliRunner().invoke(cli, ["inspect", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parameters"] == sum(t.numel() for t in state().values())
    assert CliRunner().invoke(cli, ["unpack", str(path), "-o", str(out)]).exit_code == 0
    again, packed = squeeze.load(out), squeeze.load(path)
    assert all(torch.equal(again[name], tensor) for name, tensor in packed.items())


def test_weights_of_another_model_are_not_our_own(weights: Path, tmp_path: Path) -> None:
    assert not is_own(load_checkpoint(weights), {})
    model = lively(PLAIN)
    save_checkpoint(tmp_path / "own.safetensors", PLAIN, model.state_dict())
    assert is_own(load_checkpoint(tmp_path / "own.safetensors"), {})
    # without its configuration it lacks a statement, and is ours all the same
    save_file({n: t.clone() for n, t in model.state_dict().items()}, tmp_path / "bare.safetensors")
    assert is_own(load_checkpoint(tmp_path / "bare.safetensors"), {})


@pytest.mark.parametrize("limit", [20_000, 1_000_000])
def test_squeezing_asks_nothing_of_weights_of_our_own_names(tmp_path: Path, limit: int) -> None:
    """No model runs there: what the file does not say is asked where it is scored."""
    path, out = tmp_path / "bare.safetensors", tmp_path / "m.sqz"
    state = {name: tensor.clone() for name, tensor in lively(PLAIN).state_dict().items()}
    save_file(state, path)
    done = squeezed(path, limit)
    assert done.exit_code == 0, done.output
    assert any("without a model" in note for note in json.loads(done.stdout)["notes"])
    assert squeeze.load(out).keys() == state.keys()
    with pytest.raises(BadCheckpoint, match="the file does not say"):
        ModelSource(out).open()
    stated = ModelSource(out, statements={"like": "baseline", "seq_len": 32})
    assert stated.open().subject.length == 32
    # what is said is not passed over
    named = ["--squeezed", "--like", "baseline", "--seq-len", "32", "--limit", str(limit)]
    CliRunner().invoke(cli, ["pack", str(path), *named, "-o", str(out)], catch_exceptions=False)
    assert ModelSource(out).open().subject.length == 32


def test_a_file_is_read_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import squeeze.checkpoint.read as reading

    sizes: list[int] = []
    read_file = reading.read_file

    def counting(path: Path) -> bytes:
        data: bytes = read_file(path)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(reading, "read_file", counting)
    piece = ModelSource(weights).open(alone=True)
    assert len(sizes) == 1 and np.array_equal(piece.tensors["bias"], state()["bias"].numpy())


@pytest.mark.parametrize("flag", ["--squeezed", "--lossless"])
def test_a_table_under_two_names_is_stored_and_counted_once(tmp_path: Path, flag: str) -> None:
    table, other = state()["encoder.wide"], state()["encoder.wide"] * -1.0
    named = {"wte.weight": table, "mid": other, "z.head.weight": table.clone(), "b": torch.ones(9)}
    both, once = tmp_path / "both.safetensors", tmp_path / "once.safetensors"
    save_file(named, both)
    save_file({name: t for name, t in named.items() if name != "z.head.weight"}, once)
    for path in (both, once):
        out = str(path.with_suffix(".sqz"))
        limit = ["--limit", "9000"] if flag == "--squeezed" else []
        done = CliRunner().invoke(cli, ["pack", str(path), flag, *limit, "-o", out])
        assert done.exit_code == 0, done.output
    repacked = ["pack", str(both.with_suffix(".sqz")), "--lossless", "-o", str(tmp_path / "2.sqz")]
    assert CliRunner().invoke(cli, repacked).exit_code == 0
    for path in (both.with_suffix(".sqz"), tmp_path / "2.sqz"):
        shown = CliRunner().invoke(cli, ["inspect", str(path), "--json"])
        facts = json.loads(shown.stdout)
        assert facts["parameters"] == 2 * table.numel() + 9
        assert "z.head.weight is wte.weight, tied" in facts["notes"]
        packed = squeeze.load(path)
        assert packed.keys() == named.keys()
        assert torch.equal(packed["wte.weight"], packed["z.head.weight"])
        assert flag == "--squeezed" or torch.equal(packed["z.head.weight"], table)
    if flag == "--lossless":
        sizes = [path.with_suffix(".sqz").stat().st_size for path in (both, once)]
        assert sizes[1] < sizes[0] < sizes[1] + 80
