"""The rules as a table, in the order they are judged; docs/rules.md has them in words."""

from __future__ import annotations

from squeeze.score.audit import rules_folder, rules_model, rules_score
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.verdict import FAIL, PASS, UNKNOWN, Rule, Verdict, unknown

NOT_RUN = "it could not be run on this machine"
ENDED = "it ended before its first answer"
WATCHING = (
    "files",
    "network",
)  # rules that see what a run does: without one, they have seen nothing
RULES = (
    Rule(
        "runs",
        "Runs within the limits",
        "README: self-contained and reproducible",
        rules_model.runs,
    ),
    Rule(
        "determinism",
        "Same answers from two fresh processes",
        "README: reproducible",
        rules_model.determinism,
        ("runs",),
    ),
    Rule(
        "normalisation",
        "Full normalised distribution",
        "C2 of #1017; caught in #886, #1147, #1872",
        rules_model.normalisation,
        ("runs",),
    ),
    Rule(
        "single-pass",
        "Single left-to-right pass",
        "C4 of #1017; rescoring",
        rules_model.single_pass,
        ("runs", "determinism"),
    ),
    Rule(
        "causality",
        "Predictions depend on the past alone",
        "C1 of #1017; caught in #1240, #1420",
        rules_model.causality,
        ("runs", "determinism", "single-pass"),
    ),
    Rule(
        "score-before-update",
        "Scored before learned from",
        "C3 of #1017; caught in #677, #1376, #1900",
        rules_model.score_before_update,
        ("runs", "determinism", "single-pass", "causality"),
    ),
    Rule(
        "documents",
        "Nothing crosses documents undeclared",
        "caught in #1855",
        rules_model.documents,
        ("runs", "determinism", "single-pass", "causality", "score-before-update"),
    ),
    Rule(
        "coverage",
        "Whole validation scored once",
        "README; caught in #1218, #1881",
        rules_score.coverage,
        ("runs",),
    ),
    Rule(
        "bytes",
        "Byte denominator",
        "README: tokenizer-agnostic; caught in #1271, #1719, #2138",
        rules_score.byte_count,
        ("runs", "coverage"),
    ),
    Rule(
        "score",
        "Stated score follows from its distributions",
        "README: reproducible; clamped targets",
        rules_score.score,
        (
            "runs",
            "determinism",
            "normalisation",
            "single-pass",
            "causality",
            "score-before-update",
            "documents",
            "coverage",
            "bytes",
        ),
    ),
    Rule(
        "overlap",
        "No validation documents in training",
        "README; caught in #2127",
        rules_score.overlap,
    ),
    Rule("size", "Shipped bytes", "README: 16,000,000; caught in #1809, #1835", rules_folder.size),
    Rule("files", "Opens nothing outside the folder", "README: self-contained", rules_folder.files),
    Rule("network", "No network", "README: no external downloads", rules_folder.network),
    Rule("clock", "600 s of training", "README; caught in #2041", rules_folder.clock),
    Rule(
        "seeds", "One configuration over all seeds", "README; caught in #2124", rules_folder.seeds
    ),
)


def judge(evidence: Evidence) -> dict[str, Verdict]:
    """Return a verdict for every rule, by id, in order."""
    verdicts: dict[str, Verdict] = {}
    for rule in RULES:
        broken = [name for name in rule.after if verdicts[name].status == FAIL]
        ran = rule.id == "runs" or verdicts["runs"].status != UNKNOWN
        if broken:
            verdicts[rule.id] = unknown(f"nothing to compare while {' and '.join(broken)} fails")
        elif "runs" in rule.after and not ran:
            verdicts[rule.id] = unknown(NOT_RUN)
        else:
            verdict = rule.check(evidence)
            answered = ran and (evidence.hello is not None or evidence.failure is None)
            blind = rule.id in WATCHING and verdict.status == PASS and not answered
            verdicts[rule.id] = unknown(ENDED if ran else NOT_RUN) if blind else verdict
    return verdicts
