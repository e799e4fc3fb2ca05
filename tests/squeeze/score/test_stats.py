"""Seeds: the arithmetic against closed forms and tables, and the refusal of what cannot be compared."""

from __future__ import annotations

import copy
import json
import math
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from squeeze.cli import cli
from squeeze.errors import BadData, SqueezeError
from squeeze.score.seeds.compare import compare, read_seeds, spread, welch
from squeeze.score.seeds.student import incomplete_beta, p_text, t_quantile, t_tail

REPORT: dict[str, Any] = {
    "bpb": 1.2,
    "nats_per_token": 2.0,
    "config": {"num_layers": 9, "model_dim": 512},
    "mode": "window",
    "options": {"length": 1024},
    "tokens": 62_021_632,
    "bytes": 151_079_963,
    "official": "sp1024",
    "sha256": {"model": "m0", "tokenizer": "t", "data": {"a.bin": "d"}, "code": "c"},
    "versions": {"torch": "2.9"},
    "device_name": "x",
}


@given(st.floats(-50, 50))
def test_tails_of_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    assert t_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, abs=1e-12)
    assert t_tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


@given(st.floats(-8, 8))
def test_many_degrees_of_freedom_are_the_normal_distribution(t: float) -> None:
    assert t_tail(t, 1e5) == pytest.approx(0.5 * math.erfc(t / math.sqrt(2)), abs=5e-6)


@pytest.mark.parametrize(
    ("df", "p", "t"),  # tables of Student's t
    [(4, 0.975, 2.776445), (10, 0.95, 1.812461), (2.5, 0.99, 5.353), (30, 0.995, 2.749996)],
)
def test_quantiles_are_those_of_the_tables(df: float, p: float, t: float) -> None:
    if df == 2.5:  # between the rows of the tables: 6.965 at 2 and 4.541 at 3
        assert 4.541 < t_quantile(p, df) < 6.965
    else:
        assert t_quantile(p, df) == pytest.approx(t, abs=1e-6)
    assert t_tail(t_quantile(p, df), df) == pytest.approx(1 - p, rel=1e-9)


def tail_as_a_sum(t: float, df: int) -> Decimal:
    """Return P(T > t) of an even number of degrees of freedom: Abramowitz and Stegun, 26.7.4."""
    with localcontext() as context:
        context.prec = 400
        cosine = Decimal(df) / (df + Decimal(t) ** 2)
        term = total = Decimal(1)
        for k in range(1, df // 2):
            term *= cosine * (2 * k - 1) / (2 * k)
            total += term
        return (1 - Decimal(t) / (df + Decimal(t) ** 2).sqrt() * total) / 2


@pytest.mark.parametrize("df", [2, 4, 20, 1000])
@pytest.mark.parametrize("t", [1e-12, 0.5, 1.8, 9.0, 20.0, 1e4])
def test_both_tails_keep_their_digits(t: float, df: int) -> None:
    for side in (t, -t):
        expected = float(tail_as_a_sum(side, df))
        assert t_tail(side, df) == pytest.approx(expected, rel=1e-11, abs=1e-300)


def test_extreme_p_values_are_printed_as_what_is_known_of_them() -> None:
    assert p_text(0.01) == "p = 0.01"
    assert p_text(math.nextafter(0.01, 0)) == "p = 0.009999999999999998"
    assert p_text(0.010004) == "p = 0.01"
    assert p_text(t_tail(20, 1000)) == "p = 2e-75"
    assert p_text(t_tail(1e200, 1)) == "p < 1e-99"
    assert p_text(t_tail(-20, 1000)) == "p > 0.99"


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_the_beta_function_of_integers_is_a_binomial_sum(a: int, b: int, x: float) -> None:
    n = a + b - 1
    expected = math.fsum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1))
    assert incomplete_beta(a, b, x) == pytest.approx(expected, abs=1e-12)


def test_mean_deviation_and_interval_of_three_seeds() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    half = 4.302652729749 / math.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert spread([5.0]).sd is None


def test_welch_of_a_worked_example() -> None:
    """NIST/SEMATECH e-Handbook's formula by hand: means 3 and 6, variances 1 and 4, n = 3 and 4."""
    found = welch([2.0, 3.0, 4.0], [6 - 6**0.5, 6.0, 6.0, 6 + 6**0.5])
    assert found.t == pytest.approx(3 / math.sqrt(1 / 3 + 1))
    assert found.df == pytest.approx((4 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 1 / 3))
    assert found.p == pytest.approx(t_tail(found.t, found.df))


def test_seeds_without_spread_are_no_test_and_one_run_with_it_is() -> None:
    with pytest.raises(BadData, match=r"scores differ, found 1\.0 and 2\.0 in all of them"):
        welch([1.0, 1.0], [2.0, 2.0])
    assert 0 < welch([1.0, 1.0], [2.0, 2.1]).p < 0.05


def test_one_seed_is_no_test() -> None:
    with pytest.raises(BadData, match="2 seeds of each run, found 1 and 2"):
        welch([1.0], [2.0, 2.1])


def write(folder: Path, name: str, nats: float, **changes: Any) -> Path:
    report = copy.deepcopy(REPORT) | {"nats_per_token": nats, "bpb": nats * 0.6} | changes
    report["sha256"] = {**report["sha256"], "model": name}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report))
    return path


def run_of(folder: Path, name: str, values: list[float], **changes: Any) -> list[Path]:
    return [write(folder, f"{name}{i}", value, **changes) for i, value in enumerate(values)]


def test_the_rule_asks_for_the_margin_and_not_only_for_a_difference(tmp_path: Path) -> None:
    old = read_seeds(run_of(tmp_path, "old", [2.0000, 2.0002, 1.9998]))
    small = read_seeds(run_of(tmp_path, "small", [1.9960, 1.9962, 1.9958]))
    large = read_seeds(run_of(tmp_path, "large", [1.9900, 1.9902, 1.9898]))
    found = compare(small, old)
    assert found.better.p < 1e-4 and found.gain == pytest.approx(0.004)
    assert not found.passes and found.rule.p > 0.9
    assert compare(large, old).passes and found.applies


def test_in_bits_per_byte_the_margin_is_converted(tmp_path: Path) -> None:
    old = read_seeds(run_of(tmp_path, "old", [2.0, 2.001]))
    new = read_seeds(run_of(tmp_path, "new", [1.9, 1.901]))
    margin = compare(new, old, "bpb").margin
    assert margin == pytest.approx(0.005 * 62_021_632 / 151_079_963 / math.log(2))


def test_runs_of_different_tokenizers_are_compared_in_bits_per_byte_only(tmp_path: Path) -> None:
    old = read_seeds(run_of(tmp_path, "old", [2.0, 2.001]))
    other = {**REPORT["sha256"], "tokenizer": "u"}
    new = read_seeds(run_of(tmp_path, "new", [1.9, 1.901], sha256=other, tokens=40_000_000))
    with pytest.raises(BadData, match=r"different tokenizers.*Compare them in bpb"):
        compare(new, old)
    assert compare(new, old, "bpb").gain > 0


def test_runs_on_different_text_are_not_compared(tmp_path: Path) -> None:
    old = read_seeds(run_of(tmp_path, "old", [2.0, 2.001]))
    new = read_seeds(run_of(tmp_path, "new", [1.9, 1.901], tokens=7, bytes=9))
    for metric in ("nats_per_token", "bpb"):
        with pytest.raises(BadData, match="different text"):
            compare(new, old, metric)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"num_layers": 10, "model_dim": 512}}, "config.num_layers 9.*found 10"),
        ({"mode": "sliding"}, "mode window"),
        ({"options": {"length": 2048}}, "options.length 1024"),
        ({"precision": "bf16"}, "precision fp32"),
        ({"tokens": 5}, "tokens 62021632"),
        ({"recipe": {"lr": 0.1}}, "recipe"),
        ({"sha256": {**REPORT["sha256"], "tokenizer": "u"}}, "tokenizer t"),
        ({"sha256": {**REPORT["sha256"], "data": {"a.bin": "e"}}}, "data"),
    ],
)
def test_mixed_configurations_are_refused_by_the_field(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    paths = [write(tmp_path, "a", 2.0), write(tmp_path, "b", 2.1, **changes)]
    with pytest.raises(BadData, match=rf"not seeds of one configuration.*{named}"):
        read_seeds(paths)


def test_the_same_model_twice_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path, "a", 2.0)
    second = tmp_path / "copy.json"
    second.write_text(first.read_text())
    with pytest.raises(BadData, match="same model twice"):
        read_seeds([first, second])


def test_other_machines_and_code_are_told_and_not_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a", 2.0), write(tmp_path, "b", 2.1, device_name="y")]
    assert read_seeds(paths).notes == ("device_name differs between the seeds",)


def test_a_training_report_is_read_with_its_recipe(tmp_path: Path) -> None:
    paths = []
    for seed, lr in enumerate([0.1, 0.2]):
        inner = json.loads(write(tmp_path, f"m{seed}", 2.0 + seed).read_text())
        path = tmp_path / f"train{seed}.json"
        path.write_text(json.dumps({"seed": seed, "recipe": {"lr": lr}, "val": inner}))
        paths.append(path)
    assert read_seeds(paths[:1]).values("nats_per_token") == [2.0]
    with pytest.raises(BadData, match=r"recipe\.lr 0\.1"):
        read_seeds(paths)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bpb": 1}', "nonsense", "[" * 100_000])
def test_a_file_that_is_no_report_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SqueezeError, match=r"not JSON|not a report|nested too deeply"):
        read_seeds([tmp_path / "x.json"])


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SqueezeError, match="NaN is no number"):
        read_seeds([write(tmp_path, "a", math.nan)])


@pytest.mark.parametrize("name", ["tokens", "bytes"])
def test_a_score_of_no_text_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match=f"{name}; expected 1 or more, found 0"):
        read_seeds([write(tmp_path, "a", 2.0, **{name: 0})])


def stats(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["stats", *map(str, arguments)])


def test_the_command_shows_both_runs_and_draws_them(tmp_path: Path) -> None:
    new = run_of(tmp_path, "new", [1.990, 1.991, 1.989])
    old = run_of(tmp_path, "old", [2.0, 2.001, 1.999])
    against = [part for path in old for part in ("--against", path)]
    result = stats(*new, *against, "--plot", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    assert "n = 3   mean 1.990000   sd 0.001000" in result.output
    assert "rule     passes" in result.output
    picture = (tmp_path / "p.svg").read_bytes()
    assert picture.startswith(b"<?xml")
    # matplotlib leaves each text beside its glyphs
    for text in ("0.005 better", "seeds, lower is better", *(Path(path).stem for path in new)):
        assert f"<!-- {text} -->".encode() in picture
    facts = json.loads(stats(*new, *against, "--plot", tmp_path / "p.svg", "--json").output)
    assert facts["comparison"]["rule"]["passes"] and facts["run"]["n"] == 3
    assert (tmp_path / "p.svg").read_bytes() == picture


def test_on_a_part_of_the_data_the_rule_is_only_hypothetical(tmp_path: Path) -> None:
    new = run_of(tmp_path, "new", [1.9, 1.901], official=None)
    old = run_of(tmp_path, "old", [2.0, 2.001], official=None)
    output = stats(*new, "--against", old[0], "--against", old[1]).output
    assert "would pass on this part of the data" in output and "not the official" in output


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    result = stats(write(tmp_path, "a", 2.0), "--plot", tmp_path / "p.doc")
    assert isinstance(result.exception, SqueezeError)
