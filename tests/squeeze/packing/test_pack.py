"""Packing: recipes, the ledger that accounts for the result, and the commands around both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from squeeze.artifact.file import decode, encode, load
from squeeze.checkpoint.read import load_checkpoint
from squeeze.cli import cli
from squeeze.errors import BadConfig, SqueezeError
from squeeze.ledger.attribute import attribute_paths
from squeeze.packing.measured import Cost
from squeeze.packing.recipe import (
    LOSSLESS,
    Precision,
    Recipe,
    parse_precisions,
    quantize_checkpoint,
)
from squeeze.rows import split_bytes
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.tensors.quantized import RawTensor
from squeeze.tensors.roles import natural_key
from squeeze.train.model.config import ModelConfig

CONFIG = ModelConfig(64, 2, 32, 2, 1, 64, mlp_power=3, seq_len=32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    tensors = {name: torch.randn(shape) for name, shape in CONFIG.parameter_shapes().items()}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"squeeze.config": CONFIG.to_json()})
    return path


def run(*args: object) -> tuple[int, str]:
    """Exit code and stdout of a command; a SqueezeError gives its exit code, as `main` does."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if isinstance(result.exception, SqueezeError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


# --- recipes ---


def test_the_longest_role_wins() -> None:
    recipe = Recipe(parse_precisions({"attn": "5:10", "attn.k": "8"}), small=0)
    assert recipe.precision_for("blocks.0.attn.c_q.weight", (9, 9)) == Precision(5, 10.0)
    assert recipe.precision_for("blocks.0.attn.c_k.weight", (9, 9)) == Precision(8, None)
    assert recipe.precision_for("blocks.0.mlp.fc.weight", (9, 9)) == Precision(6, 12.85)


def test_vectors_and_small_matrices_stay_floats() -> None:
    recipe = Recipe(small=100)
    assert recipe.precision_for("blocks.0.mlp.fc.weight", (10, 10)).bits == 0
    assert recipe.precision_for("blocks.0.mlp.fc.weight", (10, 11)).bits == 6
    assert recipe.precision_for("blocks.0.attn_scale", (1000,)).bits == 0


@pytest.mark.parametrize("text", ["1", "17", "six", "6:", "6:x", "int8", ""])
def test_bad_precision_is_refused_unless_it_reads_as_bits(text: str) -> None:
    if text == "6:":
        assert Precision.parse(text) == Precision(6, None)
        return
    with pytest.raises(BadConfig, match="bad precision"):
        Precision.parse(text)


def test_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadConfig, match=r"expected all, .*mlp\.proj"):
        parse_precisions({"conv": "6"})


def test_lossless_recipe_keeps_every_bit(model: Path) -> None:
    source = load_checkpoint(model)
    packed = quantize_checkpoint(source.tensors, {}, LOSSLESS)
    decoded = decode(encode(packed))
    for name, tensor in source.tensors.items():
        assert decoded.tensors[name].dequantize().tobytes() == tensor.dequantize().tobytes()


def test_small_tensors_beyond_fp16_are_exact_and_large_ones_refused(tmp_path: Path) -> None:
    tensors = {name: torch.ones(shape) for name, shape in CONFIG.parameter_shapes().items()}
    tensors["blocks.0.attn_scale"][0] = 1e6
    save_file(tensors, tmp_path / "m.safetensors")
    source = load_checkpoint(tmp_path / "m.safetensors").tensors
    packed = quantize_checkpoint(source, {}, Recipe()).tensors
    assert packed["blocks.0.attn_scale"] == source["blocks.0.attn_scale"]
    assert isinstance(other := packed["blocks.1.attn_scale"], RawTensor) and other.stored == "fp16"
    large = np.full((64, 64), 1e6, np.float32)
    large[0, 0] = 0.3
    source["blocks.0.mlp.fc.weight"] = RawTensor(large.view(np.uint32), "fp32", "fp32")
    halves = Recipe(parse_precisions({"all": "fp16"}), small=0)
    with pytest.raises(BadConfig, match=r"blocks\.0\.mlp\.fc\.weight does not fit fp16"):
        quantize_checkpoint(source, {}, halves)


# --- the ledger ---


@given(st.integers(0, 10**7), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_shared_bytes_are_split_exactly(size: int, counts: list[int]) -> None:
    shares = split_bytes(size, counts)
    assert sum(shares) == size
    total = sum(counts)
    if total:
        exact = [size * count / total for count in counts]
        assert all(abs(share - e) < 1 for share, e in zip(shares, exact, strict=True))


def test_every_byte_has_one_row(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "submission"
    folder.mkdir()
    assert run("pack", model, "-o", folder / "model.sqz", "--small", 100)[0] == 0
    (folder / "train_gpt.py").write_text("print('hi')\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "sp.model").write_bytes(b"x" * 77)
    result = attribute_paths([folder])
    on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert result.total == on_disk == sum(row.bytes for row in result.rows)
    assert result.unattributed == 0
    assert result.weights == CONFIG.num_params
    components = {row.component for row in result.rows}
    assert components == {"weights", "container", "code", "tokenizer"}


# --- the commands ---


def test_pack_reports_and_budget_agrees(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.sqz"
    code, text = run("pack", model, "-o", out, "--small", 100, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["ledger"]["total"] == out.stat().st_size
    code, text = run("budget", out, "--json")
    assert json.loads(text) == report["ledger"]


def test_packing_twice_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("pack", model, "-o", tmp_path / f"{name}.sqz", "--small", 100)[0] == 0
    assert (tmp_path / "a.sqz").read_bytes() == (tmp_path / "b.sqz").read_bytes()


def test_over_the_limit_exits_with_3_and_says_by_how_much(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.sqz"
    code, text = run("pack", model, "-o", out, "--limit", 1000, "--quant", "all=6")
    over = out.stat().st_size - 1000
    assert code == 3
    assert f"over the limit by {over:,} bytes" in text
    code, text = run("budget", out, "--limit", 1000)
    assert code == 3
    assert run("budget", out, "--limit", out.stat().st_size)[0] == 0


def test_code_counts_against_the_limit(model: Path, tmp_path: Path) -> None:
    out, script = tmp_path / "m.sqz", tmp_path / "train_gpt.py"
    script.write_bytes(b"#" * 5000)
    rounding = ("pack", model, "-o", out, "--quant", "all=6")
    assert run(*rounding)[0] == 0
    limit = out.stat().st_size + 4999
    assert run(*rounding, "--limit", limit)[0] == 0
    assert run(*rounding, "--limit", limit, "--code", script)[0] == 3


def test_a_limit_that_binds_calibrates_where_nothing_else_is_asked_for(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.sqz"
    assert run("pack", model, "-o", out)[0] == 0
    limit = out.stat().st_size // 2
    arguments = ("pack", model, "-o", out, "--tokens", 512, "--json", "--limit")
    code, text = run(*arguments, limit)
    assert code == 0 and limit - 1000 < out.stat().st_size <= limit
    report = json.loads(text)
    assert "over the limit: packed to it with --preset best" in report["notes"][-1]
    assert report["fit"]["limit"] == limit
    code, text = run(*arguments, 300)
    assert code == 3 and out.stat().st_size > 300


def test_a_frontier_is_drawn_printed_and_in_the_report(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, picture = tmp_path / "m.sqz", tmp_path / "f.png"
    arguments = ("pack", model, "-o", out, "--tokens", 512, "--preset", "fast", "--limit", 14_000)
    code, text = run(*arguments, "--frontier", picture, "--json")
    assert code == 0 and picture.read_bytes().startswith(b"\x89PNG")
    report = json.loads(text)
    sizes = {point["octaves"]: point["size"] for point in report["frontier"]}
    assert sizes[0] == out.stat().st_size < sizes[-1]
    assert "as packed" in run(*arguments, "--frontier", picture)[1]
    assert run("pack", model, "-o", out, "--frontier", picture)[0] == 2


def test_unpack_gives_back_the_weights_and_configuration(model: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "m.sqz", tmp_path / "back.safetensors"
    assert run("pack", model, "-o", out, "--small", 100)[0] == 0
    assert run("unpack", out, "-o", back)[0] == 0
    decoded, unpacked = load(out), load_checkpoint(back)
    assert unpacked.config == CONFIG
    for name, tensor in decoded.tensors.items():
        assert np.array_equal(unpacked.tensors[name].dequantize(), tensor.dequantize())


@pytest.mark.parametrize("depth", range(5))
def test_budget_prints_a_total_at_every_depth(model: Path, tmp_path: Path, depth: int) -> None:
    out = tmp_path / "m.sqz"
    run("pack", model, "-o", out)
    code, text = run("budget", out, "--depth", depth)
    assert code == 0
    assert f"{out.stat().st_size:,}" in text
    assert "unattributed 0" in text


def test_inspect_shows_configuration_and_tensors(model: Path) -> None:
    code, text = run("inspect", model, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["parameters"] == CONFIG.num_params
    names = [row["tensor"] for row in report["tensors"]]
    assert names == sorted(
        CONFIG.parameter_shapes(), key=natural_key
    )  # in whatever order the file has
    assert "blocks.1.mlp.proj.weight" in run("inspect", model, "-v")[1]


def test_a_read_only_folder_and_a_missing_one_leave_nothing(model: Path, tmp_path: Path) -> None:
    code, text = run("pack", model, "-o", tmp_path / "absent" / "m.sqz")
    assert code == 1
    assert "cannot be written" in text


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    from squeeze.files import atomic_writer

    target = tmp_path / "m.sqz"
    target.write_bytes(b"old")
    with pytest.raises(SqueezeError, match="No space left"), atomic_writer(target) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.sqz"]


@pytest.mark.parametrize("spec", ["mlp", "mlp=", "=6"])
def test_a_malformed_quant_option_is_a_usage_error(model: Path, spec: str) -> None:
    assert run("pack", model, "--quant", spec)[0] == 2


# --- real checkpoints ---

CUBED = ["--like", "baseline", "--mlp-power", 3]


def test_int8_pack_of_nolanvild_beats_its_published_twin_by_15_percent(
    materials: Path, tmp_path: Path
) -> None:
    out = tmp_path / "n.sqz"
    source = materials / "checkpoints" / "nolanvild_0.48M_fp32.pt"
    assert run("pack", source, "-o", out, "--quant", "all=8", "--small", 4096, *CUBED)[0] == 0
    assert out.stat().st_size <= 0.85 * 772_586


def test_samtruss_repacked_losslessly_keeps_its_codes_and_saves_10_percent(
    materials: Path, tmp_path: Path
) -> None:
    import brotli

    from squeeze.tensors.quantized import QuantizedTensor

    out = tmp_path / "s.sqz"
    source = materials / "checkpoints" / "samtruss_7.6M_65176d11.int8.ptz"
    assert run("pack", source, "-o", out, "--like", "baseline")[0] == 0
    assert out.stat().st_size <= 0.90 * 2_943_945
    original, decoded = load_checkpoint(source).tensors, load(out).tensors
    codes, coded = b"", 0
    rows = [row for row in attribute_paths([out]).rows if row.kind == "codes"]
    for name, tensor in original.items():
        other = decoded[name]
        assert np.array_equal(other.dequantize(), tensor.dequantize())
        if isinstance(tensor, QuantizedTensor):
            assert isinstance(other, QuantizedTensor)
            assert np.array_equal(other.codes, tensor.codes)
            if name.startswith("blocks.0."):  # brotli needs a minute for all
                codes += tensor.codes.tobytes()
                coded += sum(row.bytes for row in rows if row.tensor == name)
    assert coded <= 0.985 * len(brotli.compress(codes, quality=11, lgwin=24))


@pytest.mark.slow
def test_known_answers_through_packed_artifacts_of_lossless_streams(
    materials: Path, tmp_path: Path
) -> None:
    known = {  # materials/README: file, window, mlp power, bits per byte
        ("nolanvild_0.48M_fp32.pt", 256, 3): 2.718523,
        ("nolanvild_0.48M.int8.ptz", 256, 3): 2.719127,
        ("samtruss_7.6M_65176d11.int8.ptz", 512, 2): 2.147296,
    }
    shard = materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin"
    tokenizer = materials / "tokenizers" / "sp1024_official.model"
    for (name, window, power), bpb in known.items():
        out = tmp_path / f"{name}.sqz"
        flags = ["--lossless", "--like", "baseline", "--seq-len", window, "--mlp-power", power]
        assert run("pack", materials / "checkpoints" / name, "-o", out, *flags)[0] == 0
        report = evaluate(out, tokenizer, [shard], EvalOptions(tokens=131_072))
        assert report.bytes == 303_113
        assert report.bpb == pytest.approx(bpb, abs=1e-5)


@pytest.mark.parametrize(
    "expected, measured, verdict, said",
    [
        (1e-6, 1e-5, "negligible", ()),
        (0.01, 0.012, "visible", ()),
        (0.01, 0.03, "visible", ("3 times the foreseen",)),
        (0.01, 0.004, "visible", ("0.4 times the foreseen",)),
        (2.0, 2.6, "severe", ("the cost is severe: 2.600 nats",)),
        (0.1, 2.6, "severe", ("the cost is severe", "26 times the foreseen")),
    ],
)
def test_a_cost_has_a_verdict_and_what_is_severe_or_unforeseen_is_said(
    expected: float, measured: float, verdict: str, said: tuple[str, ...]
) -> None:
    cost = Cost(expected, measured)
    assert cost.verdict == verdict
    assert len(cost.cautions) == len(said)
    assert all(words in sentence for words, sentence in zip(said, cost.cautions, strict=True))


def test_a_cost_says_on_how_many_tokens_it_was_measured_and_that_few_give_a_rough_figure() -> None:
    assert Cost(0.01, 0.012, 8192, 0.0002).cautions == ()
    # of hidden states: half a squared error of 384 whitened features
    verdicts = [Cost(n, n, 8192, 0.01, 384).verdict for n in (0.19, 0.2, 9.5, 9.7)]
    assert verdicts == ["negligible", "visible", "visible", "severe"]
    (severe,) = Cost(9.7, 9.7, 8192, 0.01, 384).cautions
    assert "the cost is severe: 5.1% of the hidden states' variance;" in severe
    assert "8,192 tokens" in str(Cost(0.01, 0.012, 8192, 0.0002))
    (rough,) = Cost(0.01, 0.012, 512, 0.0013).cautions
    assert "rough figure: measured on 512 tokens (standard error 0.0013 nats)" in rough
    (unforeseen, both) = Cost(0.01, 0.1, 0, 0.0).cautions, Cost(0.01, 0.1, 64, 0.01).cautions
    assert len(both) == len(unforeseen) + 1  # what is not known to be rough is not called so


def test_matrices_that_stay_floats_for_their_size_are_named(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["pack", str(model), "-o", str(tmp_path / "m.sqz")])
    assert result.exit_code == 0, result.output
    assert "9 matrices, 14,336 of 16,676" in result.output and "stay fp16" in result.output
    small = ["pack", str(model), "-o", str(tmp_path / "s.sqz"), "--small", "1"]
    assert "stay fp16" not in CliRunner().invoke(cli, small).output
