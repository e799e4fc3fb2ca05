"""Scores in a difference: found beside what is compared, believed for the file whose hash they state."""

import json

import pytest
from click.testing import CliRunner

from squeeze.cli.budget_cmd import command
from squeeze.files import sha256
from squeeze.views.scores import scores_of
from tests.squeeze.views.test_views import artifact


def report(path, bpb, **changes):
    """What `squeeze eval --json` prints of a file, as far as it matters here."""
    hashes = {"model": sha256(path.read_bytes()), "tokenizer": "t", "data": {"/a/val.bin": "d"}}
    facts = {"bpb": bpb, "nats_per_token": 2.0, "mode": "window", "options": {"length": 256}}
    facts |= {"tokens": 4096, "bytes": 9999, "config": {}, "sha256": hashes}
    return facts | changes


@pytest.fixture
def pair(tmp_path):
    paths = tmp_path / "old.sqz", tmp_path / "new.sqz"
    for path, spread, bpb in zip(paths, (6.0, 3.0), (2.5, 2.503), strict=True):
        path.write_bytes(artifact(spread=spread))
        path.with_suffix(".eval.json").write_text(json.dumps(report(path, bpb)))
    return paths


def diff(*paths):
    return CliRunner().invoke(command, [*map(str, paths), "--limit", "99999"])


def test_a_difference_of_artifacts_tells_the_scores_beside_them(pair):
    result = diff(*pair)
    assert result.exit_code == 0, result.output
    assert "2.500000 → 2.503000 bits per byte (+0.003000)" in result.stdout
    facts = json.loads(diff(*pair, "--json").stdout)
    assert facts["score"]["delta"] == pytest.approx(0.003)
    assert facts["score"]["before"] == {"bpb": 2.5, "source": "old.eval.json"}


def test_without_scores_nothing_is_said_of_them(pair):
    for path in pair:
        path.with_suffix(".eval.json").unlink()
    result = diff(*pair)
    assert result.exit_code == 0 and "bits per byte" not in result.output
    assert json.loads(diff(*pair, "--json").stdout)["score"]["delta"] is None


def test_one_score_is_told_without_a_difference(pair):
    pair[0].with_suffix(".eval.json").unlink()
    assert "unknown → 2.503000 bits per byte\n" in diff(*pair).stdout


@pytest.mark.parametrize(
    "changes",
    [{"mode": "sliding"}, {"tokens": 999}, {"sha256": {"data": ["other"]}},
     {"sha256": {"tokenizer": "other"}}],
)  # fmt: skip
def test_scores_of_other_text_or_another_mode_have_no_difference(pair, changes):
    path = pair[1]
    whole = report(path, 2.503)
    if "sha256" in changes:
        changes = {"sha256": whole["sha256"] | changes["sha256"]}
    path.with_suffix(".eval.json").write_text(json.dumps(whole | changes))
    result = diff(*pair)
    assert "2.500000 → 2.503000 bits per byte\n" in result.stdout
    assert "other text or another mode" in result.stderr


def test_a_score_of_another_file_is_not_believed(pair):
    pair[1].write_bytes(artifact(spread=2.0))
    result = diff(*pair)
    assert "2.500000 → unknown" in result.stdout
    assert "new.eval.json: the score of another file" in result.stderr


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"bpb": "2"}', '{"bpb": NaN}', '{"bpb": 2.5}', '{"bpb": true, "sha256": {"model": ""}}',
     '{"bpb": 2.5, "sha256": []}', "[" * 100_000, '{"bpb": 1' + "0" * 400 + "}"],
)  # fmt: skip
def test_a_report_that_is_none_is_named_and_left_out(pair, text):
    pair[1].with_suffix(".eval.json").write_text(text)
    result = diff(*pair)
    assert result.exit_code == 0, result.output
    assert "new.eval.json: not a score" in result.stderr and "unknown" in result.stdout


def folder(path, bpb, spread, **claims):
    path.mkdir()
    (path / "train_gpt.py").write_text("print(1)\n")
    (path / "model.sqz").write_bytes(artifact(spread=spread))
    (path / "submission.json").write_text(json.dumps({"val_bpb": bpb} | claims))
    return path


def test_submissions_are_compared_by_what_they_claim(tmp_path):
    old, new = folder(tmp_path / "old", 1.08, 6.0), folder(tmp_path / "new", 1.07, 3.0)
    result = diff(old, new)
    assert result.exit_code == 0, result.output
    assert "1.080000 → 1.070000 bits per byte (-0.010000)" in result.stdout
    # an artifact in a submission is what the submission says
    assert scores_of(old / "model.sqz", new / "model.sqz").delta == pytest.approx(-0.01)


def test_a_submission_whose_model_was_changed_has_no_score(tmp_path):
    hashes = {"model": "0" * 64}
    old = folder(tmp_path / "old", 1.08, 6.0)
    new = folder(tmp_path / "new", 1.07, 3.0, sha256=hashes)
    scores = scores_of(old, new)
    assert scores.before.bpb == 1.08 and scores.after is None
    assert "the score of another file" in scores.notes[0]
