"""The zoo: every planted violation is caught by the right rule, and no honest submission is accused.

The fast tests call most submissions in this process; the slow ones run all of them in boxes.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit import Audit, AuditOptions, Limits, audit, load_data
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.rules import RULES
from squeeze.score.audit.rules_score import overlap
from squeeze.score.audit.submission import load_submission
from squeeze.score.audit.verdict import FAIL, PASS, UNKNOWN
from squeeze.score.box.sandbox import isolation
from squeeze.score.overlap import find_overlap
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import BOS
from tests.recorder import Recorder
from tests.zoo.animals import HONEST, VOCAB, Animal, Habitat, build, make_habitat
from tests.zoo.breeds import BREEDS, ROOMY, VOCABULARIES
from tests.zoo.leaks import BLURRED, LEAKS
from tests.zoo.limit import rates
from tests.zoo.offenders import LIMIT, OFFENDERS
from tests.zoo.smugglers import PAPERS, SIDECARS, STATEMENTS, with_span
from tests.zoo.unboxed import without_boxes

TARGETS = 1200
LIMITS = Limits(seconds=30, report_seconds=60, memory=2 << 30, disk=64 << 20, processes=64)


@pytest.fixture(scope="session")
def habitat(tmp_path_factory: pytest.TempPathFactory) -> Habitat:
    return make_habitat(tmp_path_factory.mktemp("habitat"))


def examine(
    animal: Animal,
    habitat: Habitat,
    tmp_path: Path,
    seed: int = 3,
    boxed: bool = True,
    reporter: Reporter = SILENT,
) -> Audit:
    if animal in SIDECARS:
        animal = with_span(animal, habitat, TARGETS)
    tmp_path.mkdir(exist_ok=True)
    shard = tmp_path / "train.bin"
    write_shard(shard, animal.train(habitat) if animal.train else habitat.train)
    with contextlib.nullcontext() if boxed else without_boxes():
        return audit(
            build(animal, habitat, tmp_path / "submission"),
            load_data([habitat.data], habitat.tokenizer, TARGETS),
            AuditOptions(train_data=(shard,), limits=LIMITS, byte_limit=LIMIT, seed=seed),
            reporter,
        )


def test_a_report_without_losses_leaves_some_rules_open_and_the_rest_judged(
    habitat: Habitat, tmp_path: Path
) -> None:
    silent = ("len(losses), losses\n", "len(losses), []\n")
    recorder = Recorder()
    result = examine(
        Animal("silent", changes=(silent,)),
        habitat,
        tmp_path / "honest",
        boxed=False,
        reporter=recorder,
    )
    assert result.failures == [], told(result)
    open_ones = [name for name, v in result.verdicts.items() if v.status == UNKNOWN]
    assert open_ones == ["single-pass", "score-before-update"]
    # progress: every stage has a total, and those of the runs reach it
    counted = {stage.name: (sum(stage.counts), stage.total) for stage in recorder.stages}
    assert counted["fresh processes"] == (4, 4)
    assert counted["distributions"] == (TARGETS, TARGETS) and counted["report"] == (2, 2)
    assert all(total is not None for _, total in counted.values()), counted
    (clamped,) = (a for a in OFFENDERS if a.name == "clamped targets")
    clamped = replace(clamped, changes=(*clamped.changes, silent))
    assert examine(clamped, habitat, tmp_path / "clamped", boxed=False).failures == ["score"]


def told(result: Audit) -> str:
    return "\n".join(f"{name}: {v.status}: {v.evidence}" for name, v in result.verdicts.items())


def check_caught(animal: Animal, habitat: Habitat, tmp_path: Path, boxed: bool) -> None:
    if animal.breaks == "network" and isolation().level != "namespaces":
        pytest.skip("no network namespace here: a real request would leave the machine")
    result = examine(animal, habitat, tmp_path, boxed=boxed)
    assert result.failures == [animal.breaks], told(result)
    assert json.loads(json.dumps(result.as_json()))["failed"] == [animal.breaks]
    assert result.markdown().count("❌") == 1


CHEATS = (*OFFENDERS, *LEAKS, *PAPERS, *STATEMENTS, *SIDECARS)
# what a box refuses or records, its inputs, and one of each half of the protocol
BOXED = (
    *(a for a in OFFENDERS if a.breaks in ("files", "network") or "hidden helper" in a.name),
    *(a for a in LEAKS if a.name in ("reads the text from its inputs", "fed, in small steps")),
    *PAPERS[::3],
)
IN_TURN = (*LEAKS[::4], *PAPERS[-2:], *STATEMENTS[::4], SIDECARS[1])  # the others are slow
UNBOXED = tuple(a for a in (*OFFENDERS, *IN_TURN) if a not in BOXED)


@pytest.mark.parametrize("animal", UNBOXED, ids=lambda animal: animal.name)
def test_a_cheat_is_caught_by_its_rule_alone(
    animal: Animal, habitat: Habitat, tmp_path: Path
) -> None:
    check_caught(animal, habitat, tmp_path, boxed=False)


@pytest.mark.parametrize(
    "animal",
    [a if a in BOXED else pytest.param(a, marks=pytest.mark.slow) for a in CHEATS],
    ids=lambda animal: animal.name,
)
def test_a_cheat_in_a_box_is_caught_by_its_rule_alone(
    animal: Animal, habitat: Habitat, tmp_path: Path
) -> None:
    check_caught(animal, habitat, tmp_path, boxed=True)


@pytest.mark.parametrize("animal", HONEST, ids=lambda animal: animal.name)
def test_an_honest_submission_passes_every_rule(
    animal: Animal, habitat: Habitat, tmp_path: Path
) -> None:
    result = examine(animal, habitat, tmp_path, boxed=animal.shape == "ttt-document")
    assert {v.status for v in result.verdicts.values()} == {PASS}, told(result)


def test_the_fast_tests_try_every_rule() -> None:
    rules = {rule.id for rule in RULES} - {"runs"}  # that one is the vandals'
    assert {animal.breaks for animal in (*UNBOXED, *BOXED)} >= rules


SEEDS = range(5)


@pytest.mark.parametrize("animal", BREEDS[::9], ids=lambda animal: animal.name)
def test_an_honest_submission_of_unusual_design_is_not_accused(
    animal: Animal, habitat: Habitat, tmp_path: Path
) -> None:
    result = examine(animal, habitat, tmp_path, boxed=False)
    assert result.failures == [], told(result)


@pytest.mark.parametrize(("further", "failures"), [(64, []), (100, ["runs"])])
def test_a_few_outputs_without_a_piece_are_padding_and_others_another_vocabulary(
    further: int, failures: list[str], habitat: Habitat, tmp_path: Path
) -> None:
    wider = f'np.pad(weights["table"], ((0, {further}),) * 2, constant_values=-9)'
    animal = Animal("padded", changes=(('weights["table"].', f"{wider}."),), claims=ROOMY)
    result = examine(animal, habitat, tmp_path, boxed=False)
    assert result.failures == failures, told(result)
    assert any("are taken for padding" in note for note in result.notes) is not bool(failures)


def test_documents_may_begin_with_another_token_when_declared(
    habitat: Habitat, tmp_path: Path
) -> None:
    changes = (
        ("BOS = 1\n", "BOS = 300\n"),
        ('"stateful": STATEFUL,', '"stateful": STATEFUL, "bos": BOS,'),
        (
            "            losses = losses[target != BOS]\n",
            "            losses, sizes = losses[target != BOS], sizes[target != BOS]\n",
        ),
    )
    animal = Animal("other documents", None, "documents", changes, ROOMY)
    result = examine(animal, habitat, tmp_path, boxed=False)
    assert result.failures == [], told(result)


@pytest.mark.slow
@pytest.mark.parametrize("animal", BREEDS, ids=lambda animal: animal.name)
def test_no_honest_submission_is_accused_whatever_the_seed(
    animal: Animal, habitat: Habitat, tmp_path: Path
) -> None:
    for seed in SEEDS:
        result = examine(animal, habitat, tmp_path / str(seed), seed)
        assert result.failures == [], told(result)


@pytest.mark.slow
@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_no_honest_submission_of_another_vocabulary_is_accused(
    vocab: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("other")
    other = make_habitat(folder, vocab)
    for seed, animal in enumerate((*HONEST, *BREEDS[:5])):
        submission = build(replace(animal, claims={}), other, folder / str(seed))
        (submission / "submission.json").write_text("{}")
        data = load_data([other.data], other.tokenizer, TARGETS)
        result = audit(submission, data, AuditOptions(limits=LIMITS, seed=seed))
        assert result.failures == [], told(result)


@pytest.mark.slow
def test_leaks_above_the_stated_limit_are_found_and_weaker_ones_not_always() -> None:
    """`python -m tests.zoo.limit` has the rates of 200 seeds."""
    seeds = 20
    caught = {(rate.kind, rate.factor): rate.caught for rate in rates(seeds, 1024)}
    assert min(caught["share", 1.1], caught["spread", 1.1]) >= seeds - 1, caught
    assert caught["spread", 0.5] <= 2, caught


def test_noise_that_a_gain_could_hide_in_is_no_pass(habitat: Habitat, tmp_path: Path) -> None:
    verdicts = examine(BLURRED, habitat, tmp_path, boxed=False).verdicts
    told_of = {name: verdicts[name] for name in ("causality", "score")}
    assert all(verdict.status != PASS for verdict in told_of.values()), told_of


def test_a_stated_score_may_not_gain_by_its_rounding(habitat: Habitat, tmp_path: Path) -> None:
    shard = tmp_path / "whole.bin"
    write_shard(shard, habitat.validation[:301])
    data = load_data([shard], habitat.tokenizer, 300)
    options = AuditOptions(limits=LIMITS, seed=3)
    with without_boxes():
        true = audit(build(HONEST[0], habitat, tmp_path / "s"), data, options)
    bpb = true.verdicts["score"].data["bpb"]
    for gain, failures in ((1e-4, []), (5e-4, ["score"])):
        animal = Animal("rounds", claims={"val_bpb": bpb - gain})
        with without_boxes():
            result = audit(build(animal, habitat, tmp_path / f"{gain}"), data, options)
        assert result.failures == failures, told(result)


@pytest.mark.parametrize(
    ("documents", "copied", "status"),
    [(4000, 0, PASS), (4000, 1, UNKNOWN), (6500, 1, PASS), (4000, 5, FAIL)],
)
def test_few_copied_documents_are_no_proof_and_no_pass_where_they_could_gain(
    documents: int, copied: int, status: str, habitat: Habitat, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    rows = random.integers(5, VOCAB, (documents, 70)).astype(np.uint16)
    rows[:, 0] = BOS
    training = random.integers(5, VOCAB, 9000).astype(np.uint16)
    training = np.concatenate([training, rows[:copied].ravel()])
    data = load_data([habitat.data], habitat.tokenizer, TARGETS)
    submission = load_submission(build(HONEST[0], habitat, tmp_path / "s"))
    evidence = Evidence(submission, data, isolation(), AuditOptions())
    evidence.overlap = find_overlap(rows.ravel(), [training], BOS)
    assert overlap(evidence).status == status
