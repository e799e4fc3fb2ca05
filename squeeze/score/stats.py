"""Seeds of a run, or of two runs: means, spread, and whether one is really better. No torch here.

B. Welch, "The generalization of Student's problem when several different population variances are
involved", Biometrika 34 (1947); degrees of freedom by Satterthwaite (1946). The rule is that of the
challenge's README: a new record shows, at p < 0.01 over its seeds, at least 0.005 nats less loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.errors import BadData
from squeeze.files import read_file

MARGIN_NATS = 0.005  # nats per token
P_VALUE = 0.01
MAX_REPORT = 16 << 20  # bytes
METRICS = ("nats_per_token", "bpb")

# what must be the same over the seeds of a run: everything but the weights and the machine
SAME = ("config", "mode", "options", "tokens", "bytes", "official", "recipe")
SAME_FILES = ("tokenizer", "data")
TOLD = ("versions", "device_name", "code")  # differences of these are told, not refused


@dataclass(frozen=True)
class Seeds:
    """Scores of one configuration under several seeds, from reports of `squeeze eval` or `train`.

    reports: what was read, completed with `recipe` where a training told it. notes: what differs
    between the seeds without making them another configuration.
    """

    files: tuple[str, ...]
    reports: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def values(self, metric: str) -> list[float]:
        """The metric of every seed."""
        return [float(report[metric]) for report in self.reports]


@dataclass(frozen=True)
class Spread:
    """n values: mean, sample standard deviation, and the 95 % interval of the mean (None for n = 1)."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Welch:
    """One-sided test that a mean lies lower by more than a margin.

    t: statistic; df: degrees of freedom; p: chance of such a t if it does not.
    """

    t: float
    df: float
    p: float


def read_seeds(paths: Sequence[Path]) -> Seeds:
    """Reports of one run's seeds. Raises BadData unless all are of one configuration and distinct."""
    reports = [_read_report(path) for path in paths]
    first = _identity(reports[0])
    for path, report in zip(paths[1:], reports[1:], strict=True):
        _refuse_differences(str(paths[0]), first, str(path), _identity(report))
    owners: dict[str, Path] = {}
    for path, report in zip(paths, reports, strict=True):
        other = owners.setdefault(str(report["sha256"]["model"]), path)
        if other is not path:
            raise BadData(
                "the same model twice is one seed",
                expected="another model in each report",
                found=f"{other} and {path}",
            )
    notes = [
        f"{name} differs between the seeds"
        for name in TOLD
        if len({json.dumps(_told(report, name), sort_keys=True) for report in reports}) > 1
    ]
    return Seeds(tuple(map(str, paths)), tuple(reports), tuple(notes))


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and 95 % interval of values."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Spread(1, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(0.975, n - 1) * sd / math.sqrt(n)
    return Spread(n, mean, sd, mean - half, mean + half)


def welch(new: Sequence[float], old: Sequence[float], margin: float = 0.0) -> Welch:
    """Test that mean(old) - mean(new) > margin. Raises BadData for fewer than two values a side."""
    if min(len(new), len(old)) < 2:
        raise BadData(
            "a test needs spread",
            expected="2 seeds of each run",
            found=f"{len(new)} and {len(old)}",
        )
    sides = [spread(new), spread(old)]
    parts = [(side.sd or 0.0) ** 2 / side.n for side in sides]
    gain = sides[1].mean - sides[0].mean - margin
    if not sum(parts):
        return Welch(math.copysign(math.inf, gain), math.inf, 0.0 if gain > 0 else 1.0)
    t = gain / math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(
        part**2 / (side.n - 1) for part, side in zip(parts, sides, strict=True)
    )
    return Welch(t, df, t_tail(t, df))


def compare(new: Seeds, old: Seeds, metric: str = "nats_per_token") -> dict[str, Any]:
    """Both runs, Welch's test of the difference, and of the challenge's margin; plain values.

    Tokenizers may differ between the runs, but then nats per token cannot be compared: the metric is
    bits per byte, and the margin is converted at the old run's tokens per byte. rule.passes needs the
    official validation set: `applies` says whether both runs are scored on it.
    """
    a, b = new.reports[0], old.reports[0]
    same_tokens = a["sha256"]["tokenizer"] == b["sha256"]["tokenizer"]
    if not same_tokens and metric != "bpb":
        raise BadData(
            "the runs have different tokenizers", found=metric, fix="Compare them in bpb."
        )
    if same_tokens and a["tokens"] != b["tokens"]:
        raise BadData("the runs score different text", expected=b["tokens"], found=a["tokens"])
    if a["bytes"] != b["bytes"]:
        raise BadData("the runs score different text", expected=b["bytes"], found=a["bytes"])
    margin = MARGIN_NATS
    if metric == "bpb":
        margin *= b["tokens"] / b["bytes"] / math.log(2.0)
    values = new.values(metric), old.values(metric)
    plain, rule = welch(*values), welch(*values, margin)
    return {
        "metric": metric,
        "gain": spread(values[1]).mean - spread(values[0]).mean,
        "better": vars(plain),
        "rule": {
            "margin": margin,
            "margin_nats": MARGIN_NATS,
            **vars(rule),
            "passes": rule.p < P_VALUE,
            "applies": bool(a["official"] and b["official"]),
        },
    }


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t with df > 0 degrees of freedom.

    >>> round(t_tail(1.812461123, 10), 9)  # the 95 % point of the tables
    0.05
    """
    square = t * t
    if square < df:  # near the middle, where df / (df + t²) would round to 1
        tail = 0.5 - 0.5 * incomplete_beta(0.5, 0.5 * df, square / (df + square))
    else:
        tail = 0.5 * incomplete_beta(0.5 * df, 0.5, df / (df + square))
    return tail if t > 0 else 1.0 - tail


def t_quantile(p: float, df: float) -> float:
    """The t with P(T ≤ t) = p, for p in [0.5, 1), by bisection."""
    low, high = 0.0, 1.0
    while 1.0 - t_tail(high, df) < p:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if 1.0 - t_tail(middle, df) < p else (low, middle)
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), a, b > 0, x in [0, 1].

    Continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, by the modified
    Lentz method; where it converges slowly, through I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_front = a * math.log(x) + b * math.log1p(-x)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny, fraction, c, d = 1e-300, 1.0, 1.0, 0.0
    for step in range(2000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + term / c
        c = c if abs(c) > tiny else tiny
        fraction *= c * d
        if step and abs(1.0 - c * d) < 1e-16:
            break
    return math.exp(log_front) / a * (fraction - 1.0)


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(read_file(path, MAX_REPORT))
    except (ValueError, RecursionError):
        raise BadData(f"{path}: not JSON", expected="what `squeeze eval --json` prints") from None
    if isinstance(report, dict) and isinstance(report.get("val"), dict):
        report = {**report["val"], "recipe": report.get("recipe")}
    needed = {*METRICS, *SAME, "sha256"} - {"recipe", "official"}
    lacking = sorted(needed - set(report)) if isinstance(report, dict) else sorted(needed)
    hashes = report.get("sha256") if isinstance(report, dict) else None
    if not lacking and not (isinstance(hashes, dict) and {"model", *SAME_FILES} <= hashes.keys()):
        lacking = ["sha256.model"]
    if not lacking and not isinstance(hashes["data"], dict | list):  # type: ignore[index]
        lacking = ["list of sha256.data"]
    if lacking:
        raise BadData(
            f"{path}: not a report of a score",
            expected="what `squeeze eval --json` prints",
            found=f"no {', '.join(lacking)[:200]}",
        )
    for metric in METRICS:
        value = report[metric]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise BadData(f"{path}: {metric}", expected="a finite number", found=repr(value)[:40])
    return {"official": None, **report}


def _identity(report: dict[str, Any]) -> dict[str, Any]:
    """What makes a configuration, flat: name -> value."""
    found: dict[str, Any] = {}
    for name in SAME:
        value = report.get(name)
        inner = value.items() if isinstance(value, dict) else [("", value)]
        found |= {f"{name}.{key}" if key else name: item for key, item in inner}
    hashes = report["sha256"]
    data = hashes["data"].values() if isinstance(hashes["data"], dict) else hashes["data"]
    return found | {"tokenizer": hashes["tokenizer"], "data": list(data)}


def _refuse_differences(
    path: str, first: dict[str, Any], other_path: str, other: dict[str, Any]
) -> None:
    names = sorted(
        name for name in first.keys() | other.keys() if first.get(name) != other.get(name)
    )
    if names:
        name = names[0]
        raise BadData(
            "these are not seeds of one configuration",
            expected=f"{name} {str(first.get(name))[:80]} as in {path}",
            found=f"{str(other.get(name))[:80]} in {other_path}",
            fix=f"They differ in {', '.join(names)[:300]}.",
        )


def _told(report: dict[str, Any], name: str) -> Any:
    return report["sha256"].get("code") if name == "code" else report.get(name)
