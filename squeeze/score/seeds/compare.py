"""Seeds of a run, or of two runs: means, spread, and tests of the difference. No torch here.

B. Welch, "The generalization of Student's problem when several different population variances are
involved", Biometrika 34 (1947); degrees of freedom by Satterthwaite (1946). The rule is that of the
challenge's README: a new record shows, at p < 0.01 over its seeds, at least 0.005 nats less loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from squeeze.errors import BadData
from squeeze.files import read_json
from squeeze.score.report import EvalReport
from squeeze.score.seeds.logged import LoggedSeeds, is_logged, read_logged
from squeeze.score.seeds.student import (
    MARGIN_NATS,
    P_VALUE,
    SAME_TEXT,
    Welch,
    margin_in,
    spread,
    welch,
)

MAX_REPORT = 16 << 20  # bytes
# equal over the seeds of a run, as are recipe, tokenizer and data: all but the weights and the machine
SAME = ("config", "mode", "options", "precision", "tokens", "bytes", "official")


@dataclass(frozen=True)
class Seeds:
    """Scores of one configuration under several seeds, from reports of `squeeze eval` or `train`.

    notes: differences between the seeds that do not make them another configuration
    """

    files: tuple[str, ...]
    reports: tuple[EvalReport, ...]
    notes: tuple[str, ...] = ()

    def values(self, metric: str) -> list[float]:
        """Return the metric of every seed."""
        return [report.metric(metric) for report in self.reports]

    @property
    def official(self) -> str | None:
        """Name of the official validation set, when that is what was scored."""
        return self.reports[0].official

    @property
    def bytes_per_token(self) -> float:
        """Bytes of the scored text per token."""
        return self.reports[0].bytes / self.reports[0].tokens


@dataclass(frozen=True)
class Comparison:
    """A run against an older one.

    gain: by how much the mean of the new run is lower
    better: test of the difference
    margin: of the challenge's rule, in the metric
    rule: test that the difference is larger than the margin
    applies: True when both runs are scored on the official validation set
    """

    metric: str
    gain: float
    better: Welch
    margin: float
    rule: Welch
    applies: bool

    @property
    def passes(self) -> bool:
        """True when the new run is better by the rule, should it apply."""
        return self.rule.p < P_VALUE

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return {
            "metric": self.metric,
            "gain": self.gain,
            "better": vars(self.better),
            "rule": {
                "margin": self.margin,
                "margin_nats": MARGIN_NATS,
                **vars(self.rule),
                "passes": self.passes,
                "applies": self.applies,
            },
        }


def read_seeds(paths: Sequence[Path], score: str | None = None) -> Seeds | LoggedSeeds:
    """Read the seeds of one run: reports of one configuration, logs of it, or a folder of these logs.

    score: name of the score in logs; None: the last that all of them print

    Raises BadData unless all are of one configuration, and of different models.
    """
    return read_logged(paths, score) if any(map(is_logged, paths)) else read_reports(paths)


def read_reports(paths: Sequence[Path]) -> Seeds:
    """Read the reports of one run's seeds.

    Raises BadData unless all are reports, of one configuration and of different models.
    """
    pairs = [_read_report(path) for path in paths]
    first = _identity(*pairs[0])
    for path, pair in zip(paths[1:], pairs[1:], strict=True):
        _refuse_differences(str(paths[0]), first, str(path), _identity(*pair))
    reports = [report for report, _ in pairs]
    owners: dict[str, Path] = {}
    for path, report in zip(paths, reports, strict=True):
        other = owners.setdefault(report.sha256.model, path)
        if other is not path:
            raise BadData(
                "the same model twice is one seed",
                expected="another model in each report",
                found=f"{other} and {path}",
            )
    around = [_surroundings(report) for report in reports]
    notes = [
        f"{name} differs between the seeds"
        for name in around[0]
        if len({json.dumps(facts[name], sort_keys=True) for facts in around}) > 1
    ]
    return Seeds(tuple(map(str, paths)), tuple(reports), tuple(notes))


def compare(
    new: Seeds | LoggedSeeds, old: Seeds | LoggedSeeds, metric: str = "nats_per_token"
) -> Comparison:
    """Test the difference of two runs, and whether it is larger than the challenge's margin.

    Tokenizers may differ between the runs, but then nats per token cannot be compared: the metric is
    bits per byte, and the margin is converted at the old run's tokens per byte.

    Raises BadData for runs that cannot be compared.
    """
    if isinstance(new, Seeds) and isinstance(old, Seeds):
        _check_same_text(new.reports[0], old.reports[0], metric)
    elif abs(new.bytes_per_token / old.bytes_per_token - 1) > SAME_TEXT and metric != "bpb":
        _refuse_tokenizers(metric)
    margin = margin_in(metric, old.bytes_per_token)
    values = new.values(metric), old.values(metric)
    return Comparison(
        metric=metric,
        gain=spread(values[1]).mean - spread(values[0]).mean,
        better=welch(*values),
        margin=margin,
        rule=welch(*values, margin),
        applies=bool(new.official and old.official),
    )


def _check_same_text(new: EvalReport, old: EvalReport, metric: str) -> None:
    """Raise BadData for reports of different text, or of tokenizers that the metric cannot bridge."""
    same_tokens = new.sha256.tokenizer == old.sha256.tokenizer
    if not same_tokens and metric != "bpb":
        _refuse_tokenizers(metric)
    if same_tokens and new.tokens != old.tokens:
        raise BadData("the runs score different text", expected=old.tokens, found=new.tokens)
    if new.bytes != old.bytes:
        raise BadData("the runs score different text", expected=old.bytes, found=new.bytes)


def _refuse_tokenizers(metric: str) -> NoReturn:
    raise BadData("the runs have different tokenizers", found=metric, fix="Compare them in bpb.")


def _read_report(path: Path) -> tuple[EvalReport, Any]:
    """Return the report of a score, and the recipe where it stands in the report of a training."""
    facts = read_json(path, MAX_REPORT)
    fields = facts if isinstance(facts, dict) else {}
    score = fields["val"] if isinstance(fields.get("val"), dict) else fields
    return EvalReport.from_json(score, str(path)), fields.get("recipe")


def _identity(report: EvalReport, recipe: Any) -> dict[str, Any]:
    """Return the facts that make a configuration, flat: name → value."""
    facts: dict[str, Any] = {}
    for name, value in {**{name: getattr(report, name) for name in SAME}, "recipe": recipe}.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        facts |= {f"{name}.{key}" if key else name: item for key, item in inner}
    return facts | {"tokenizer": report.sha256.tokenizer, "data": report.sha256.shards}


def _refuse_differences(
    path: str, first: dict[str, Any], other_path: str, other: dict[str, Any]
) -> None:
    """Raise BadData where the identities of two reports differ."""
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


def _surroundings(report: EvalReport) -> dict[str, Any]:
    """Return the facts whose differences are noted and not refused."""
    return {
        "versions": report.versions,
        "device_name": report.device_name,
        "code": report.sha256.code,
    }
