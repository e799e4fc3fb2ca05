"""Preset `tuned`: less divergence at the same bytes, under the limit, the same bytes again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import squeeze
from squeeze.artifact.file import decode
from squeeze.calib.allocation.allocate import SLACK, Allocation
from squeeze.calib.statistics.divergence import Categorical
from squeeze.calib.text.sources import Sequences
from squeeze.checkpoint.read import load_model
from squeeze.errors import BadConfig, OverBudget
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.plan import Plan
from squeeze.packing.presets import TARGETS, Tuned
from squeeze.packing.recipe import contents_of
from squeeze.packing.request import PackRequest
from squeeze.packing.tune import pack as tuning
from squeeze.packing.tune.finished import FILE
from squeeze.packing.tune.shares import Shares
from squeeze.packing.tune.student import Student, untuned_rows
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import RawTensor
from squeeze.tensors.roles import role_of
from squeeze.train.data.shards import read_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.packs import Killed, pack_to, write_trained
from tests.recorder import Recorder
from tests.tiny_models import lively

CONFIG = ModelConfig(256, 2, 48, 2, 1, 96, seq_len=32)
CALIBRATION = Calibration(tokens=1024)
LIMIT, STEPS = 8_500, 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has something to lose: after 30 steps rounding costs nothing that shows."""
    return write_trained(CONFIG, tmp_path_factory.mktemp("model") / "model.safetensors", 300)


@pytest.fixture
def cache(model: Path) -> Path:
    """Calibration that all tests share; every one of them tunes anew."""
    folder = model.parent / "cache"
    (folder / FILE).unlink(missing_ok=True)
    return folder


def pack(model: Path, cache: Path | None, preset: str = "tuned", tune: int = STEPS) -> Packed:
    request = PackRequest(LIMIT, preset, calibration=CALIBRATION, cache=cache, tune=tune)
    return pack_model(load_model(model), request)


@pytest.mark.slow
def test_it_costs_less_than_best_on_real_text(materials: Path, tmp_path: Path) -> None:
    """At 1.8 bits a weight, on validation text; shares of 0.7 to 0.8 were measured (docs/log.md)."""
    path = materials / "checkpoints" / "nolanvild_0.48M_fp32.pt"
    tokens = read_shard(materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin")
    facts: dict[str, Any] = {"like": "baseline", "mlp_power": 3, "seq_len": 256}
    divergence = {}
    for preset in ("best", "tuned"):
        packed = pack_to(path, 107_282, Calibration(tokens=32_768), tmp_path, preset, **facts)
        (tmp_path / "model.sqz").write_bytes(packed.data)
        first, second = load_model(path, **facts), load_model(tmp_path / "model.sqz")
        answers = [
            Subject.of_gpt(GPT.from_tensors(model.config, model.tensors)).logits(
                torch.from_numpy(tokens[:16_384].astype(np.int64)).view(-1, 256)
            )
            for model in (first, second)
        ]
        divergence[preset] = Categorical().between(*(a.flatten(0, 1) for a in answers)).mean()
        assert 0 <= 107_282 - len(packed.data) <= 250
    assert divergence["tuned"] < 0.9 * divergence["best"]


def test_the_cost_is_measured_on_text_it_was_not_tuned_on(model: Path, cache: Path) -> None:
    packed = pack(model, cache)
    with safe_open(cache / "text.safetensors", "numpy") as file:
        text = Sequences(file.get_tensor("ids").astype(np.uint16), "self-generated")
    assert packed.cost is not None and packed.plan is not None and packed.plan.roles == ()
    rows = untuned_rows(text)
    assert rows == len(text.ids) // 4
    first, second = load_model(model), decode(packed.data).tensors
    subject = Subject.of_gpt(GPT.from_tensors(first.config, first.tensors))
    other = subject.with_weights({name: t.dequantize() for name, t in second.items()})
    ids = torch.from_numpy(text.ids[:rows].astype(np.int64))
    answers = [each.logits(ids).flatten(0, 1) for each in (subject, other)]
    mean = float(Categorical().between(*answers).mean())
    assert packed.cost.measured == pytest.approx(mean, rel=1e-3)


def test_the_same_bytes_without_a_cache(model: Path, tmp_path: Path) -> None:
    packed = pack(model, tmp_path / "cache")
    first = packed.data
    said = [note for note in packed.notes if note.startswith("learnt with")]
    assert len(said) == 5 and all("nats per token in" in note for note in said)
    assert pack(model, None).data == first


@pytest.mark.parametrize("stage", range(5))
def test_killed_in_any_stage_of_learning_it_resumes_to_the_same_bytes(
    stage: int, model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages before the one that was killed are read, not made again."""
    whole = pack(model, cache)
    learn, begun = Student.learn_, []

    def killed(self: Student, *arguments: Any) -> Any:
        begun.append(stage)
        if len(begun) > stage:
            raise Killed
        return learn(self, *arguments)

    monkeypatch.setattr(Student, "learn_", killed)
    with pytest.raises(Killed):
        pack(model, tmp_path)
    assert len(list(tmp_path.glob("tuned-*"))) == stage
    monkeypatch.setattr(Student, "learn_", learn)
    resumed = pack(model, tmp_path)
    assert resumed.data == whole.data
    said = [note for note in resumed.notes if note.startswith("learnt with")]
    assert len(said) == 5 - stage


def test_the_same_bytes_on_one_thread_on_two_and_on_four(model: Path) -> None:
    before, files = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            files.add(pack(model, None).data)
        assert len(files) == 1
    finally:
        torch.set_num_threads(before)


def test_a_damaged_stage_is_made_again_with_a_note(
    model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(model, cache)
    with monkeypatch.context() as killed:
        killed.setattr(tuning.Finished, "keep", kill)
        with pytest.raises(Killed):
            pack(model, tmp_path)
    assert len(list(tmp_path.glob("tuned-*"))) == 5
    path = tmp_path / "tuned-1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "tuned-3.safetensors").unlink()
    again = pack(model, tmp_path)
    assert again.data == whole.data
    assert [note for note in again.notes if "made again" in note and str(path) in note]


def test_after_success_stays_what_the_same_command_needs_and_nothing_that_was_tried(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(model, tmp_path)
    stages = {"text.safetensors", "hessians.safetensors", "gradients.safetensors"}
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} - {"lock"} == stages | {
        "plan.json",
        "seconds.json",
        FILE,
    }
    assert not list((tmp_path / "codes").iterdir())
    with monkeypatch.context() as idle:
        for work in ("fitted_of", "plan_for", "Student"):
            idle.setattr(tuning, work, kill)
        again = pack(model, tmp_path)
    assert again.data == first.data and again.plan == Plan.load(tmp_path / "plan.json")
    said, repeated = ([n for n in p.notes if n.startswith("tuned")] for p in (first, again))
    assert len(said) == 1 and said == repeated


@pytest.mark.parametrize("damage", [FILE, "plan.json"])
def test_a_damaged_result_is_made_again_with_a_note(
    damage: str, model: Path, tmp_path: Path
) -> None:
    first = pack(model, tmp_path, tune=1)
    path = tmp_path / damage
    path.write_bytes(path.read_bytes()[:-9])
    again = pack(model, tmp_path, tune=1)
    assert again.data == first.data
    assert [note for note in again.notes if "made again" in note and damage in note]


def test_other_updates_are_another_file(model: Path, tmp_path: Path) -> None:
    first, second = (pack(model, tmp_path, tune=steps).plan for steps in (1, 2))
    assert first is not None and second is not None and first.key != second.key


def kill(*_: Any, **__: Any) -> None:
    raise Killed


def test_the_next_share_is_weighed_by_what_the_rounded_matrices_make_of_the_text(
    model: Path, cache: Path
) -> None:
    """With zeros into the mlp nothing comes out of it; attention of the first block sees the same."""
    piece = Workpiece.of(load_model(model))
    calibrated = calibrate(piece, CALIBRATION, cache)
    contents = contents_of(piece, calibrated.layout, "fp16")
    student = Student(piece, calibrated, contents, "fp16")
    before = student.hessians()
    into = {n: w for n, w in contents.matrices.items() if n.endswith("mlp.fc.weight")}
    zeros = {name: np.zeros(w.shape, np.uint32) for name, w in into.items()}
    student.round_({name: RawTensor(bits, "fp32") for name, bits in zeros.items()})
    after = student.hessians()
    assert before.keys() - after.keys() == into.keys()
    out, query = "blocks.0.mlp.proj.weight", "blocks.0.attn.c_q.weight"
    assert before[out].any() and not after[out].any()
    np.testing.assert_array_equal(before[query], after[query])


def test_a_file_that_grows_over_the_limit_at_the_end_is_fitted_again(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats that learnt may take more bytes: here nothing is left for them."""
    monkeypatch.setattr(tuning, "RESERVE", -150)
    assert LIMIT - SLACK <= len(pack(model, cache).data) <= LIMIT


@pytest.mark.parametrize("missed, alone", [(150, True), (-250, True), (600, False)])
def test_a_file_that_misses_the_limit_at_the_end_meets_it_by_one_matrix_or_by_more(
    missed: int, alone: bool, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats that learnt may take other bytes, and the size of the last share may jump."""
    land = tuning._Tuning._land
    monkeypatch.setattr(tuning._Tuning, "_land", lambda self, limit: land(self, limit - missed))
    settled = pack(model, cache)
    assert LIMIT - SLACK <= len(settled.data) <= LIMIT
    monkeypatch.setattr(tuning._Tuning, "_settled", lambda self, fitted: fitted)
    (cache / FILE).unlink()
    missing = pack(model, cache)
    assert not LIMIT - SLACK <= len(missing.data) <= LIMIT
    first, second = (decode(each.data).tensors for each in (settled, missing))
    changed = [n for n in first if (first[n].dequantize() != second[n].dequantize()).any()]
    assert (len(changed) == 1) is alone and changed


def test_other_matrices_meet_the_limit_where_the_size_of_the_smallest_jumps(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land, refill = tuning._Tuning._land, tuning.refill
    asked: list[set[str]] = []

    def refilled(rest: Any, limit: int, tensors: Any, scales: Any) -> Any:
        asked.append(set(tensors))
        unchanged = Allocation(tensors, scales, rest.measure(tensors), 0)
        return refill(rest, limit, tensors, scales) if len(asked) > 1 else unchanged

    monkeypatch.setattr(tuning._Tuning, "_land", lambda self, limit: land(self, limit - 150))
    monkeypatch.setattr(tuning, "refill", refilled)
    assert LIMIT - SLACK <= len(pack(model, cache).data) <= LIMIT
    first, second = asked
    assert len(first) == 1 and first != second


def test_a_few_updates_are_worth_it(model: Path, cache: Path) -> None:
    """Otherwise the other tests here would be about the file that it began with."""
    plan = pack(model, cache).plan
    assert plan is not None and plan.tuning is not None
    assert plan.measured < 0.9 * plan.tuning.before


def test_updates_are_counted(model: Path, cache: Path) -> None:
    recorder = Recorder()
    request = PackRequest(LIMIT, "tuned", calibration=CALIBRATION, cache=cache, tune=STEPS)
    pack_model(load_model(model), request, recorder)
    (stage,) = (stage for stage in recorder.stages if stage.name == "tune")
    assert stage.total == STEPS and stage.unit == "updates"


def test_a_model_that_learns_nothing_good_stays_as_it_was_rounded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.packing.tune.student.RATE", 50.0)
    packed = pack(model, tmp_path)
    assert f"tuning made it worse: {tuning.STAYED}" in packed.notes
    assert f"tuning did not help: {tuning.STAYED}" in pack(model, tmp_path).notes
    assert packed.plan is not None and packed.plan.tuning is not None
    assert packed.plan.measured == packed.plan.tuning.before
    assert packed.data == pack(model, tmp_path).data
    monkeypatch.undo()
    assert packed.data != pack(model, None).data


@pytest.mark.parametrize("known", [False, True])
def test_updates_are_in_bfloat16_only_where_the_processor_has_it(
    model: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    usual = Subject.computing_in

    def computing_in(subject: Subject, precision: str) -> Subject:
        asked.append(precision)
        return usual(subject, precision)

    monkeypatch.setattr(Subject, "computing_in", computing_in)
    monkeypatch.setattr("squeeze.packing.tune.student.has_bf16", lambda device: known)
    pack(model, None, tune=1)
    assert ("bf16" in asked) is known


def test_shares_begin_with_the_mlp_and_share_the_updates() -> None:
    preset = TARGETS["tuned"]
    assert isinstance(preset, Tuned)
    parts = ("mlp.proj", "attn.c_q", "attn.proj", "mlp.fc")
    names = ("tok_emb.weight", *(f"blocks.0.{part}.weight" for part in parts))
    shares = Shares.of({name: role_of(name) for name in names}, preset, 100)
    assert shares.names == tuple((name,) for name in reversed(names))
    assert shares.steps == (21, 21, 21, 21, 16)
    unclear = Shares.of(dict.fromkeys("abc", "other"), preset, 100)
    assert unclear.names == (("a", "b"), ("c",)) and unclear.steps == (84, 16)


def test_best_learns_below_two_bits_and_lands_within_200_bytes(model: Path, cache: Path) -> None:
    """CONFIG has 60,000 weights: 8,500 bytes are 1.1 bits each, 40,000 more than five."""
    low = pack(model, cache, "best")
    assert low.plan is not None and low.plan.roles == ()
    assert 0 <= low.plan.unused <= 200
    request = PackRequest(40_000, "best", calibration=CALIBRATION, cache=cache)
    high = pack_model(load_model(model), request)
    assert high.plan is not None and high.plan.roles


def test_best_of_one_sequence_learns_nothing(model: Path, tmp_path: Path) -> None:
    calibration = Calibration(tokens=CONFIG.seq_len)
    packed = pack_model(load_model(model), PackRequest(LIMIT, "best", calibration=calibration))
    assert packed.plan is not None and packed.plan.unused >= 0


def test_all_matrices_are_one_share_where_only_floats_learn() -> None:
    preset = TARGETS["best"]
    assert isinstance(preset, Tuned)
    shares = Shares.of(dict.fromkeys("abc", "other"), preset, 80)
    assert shares.names == (("a", "b", "c"),) and shares.steps == (80,)


def test_text_is_written_at_the_presets_temperature_unless_one_is_asked_for(
    model: Path, tmp_path: Path
) -> None:
    texts = {}
    for name, preset, temperature in (
        ("tuned", "tuned", 0.0),
        ("asked", "tuned", 1.2),
        ("best", "best", 0.0),
    ):
        settings = replace(CALIBRATION, temperature=temperature)
        request = PackRequest(LIMIT, preset, calibration=settings, cache=tmp_path / name, tune=2)
        pack_model(load_model(model), request)
        with safe_open(tmp_path / name / "text.safetensors", "numpy") as file:
            texts[name] = file.get_tensor("ids")
    assert (texts["asked"] == texts["best"]).all() and (texts["tuned"] != texts["best"]).any()


def test_one_sequence_is_too_little_text() -> None:
    with pytest.raises(BadConfig, match="two sequences"):
        untuned_rows(Sequences(np.zeros((1, 8), np.uint16), "test"))
    assert untuned_rows(Sequences(np.zeros((3, 8), np.uint16), "test")) == 1


def test_too_little_text_is_refused_before_anything_is_fitted(model: Path) -> None:
    recorder = Recorder()
    calibration = Calibration(tokens=CONFIG.seq_len)
    request = PackRequest(LIMIT, "tuned", calibration=calibration, tune=STEPS)
    with pytest.raises(BadConfig, match="two sequences"):
        pack_model(load_model(model), request, recorder)
    assert "fit" not in recorder.names


def test_where_what_learnt_has_no_room_the_file_is_the_first(model: Path, tmp_path: Path) -> None:
    """Of a limit that zeros fill nothing is left for floats that grow."""
    with pytest.raises(OverBudget) as refused:
        pack_to(model, 300, CALIBRATION, tmp_path)
    (least,) = re.findall(r"at least ([0-9,]+) bytes", str(refused.value))
    limit = int(least.replace(",", "")) + 20
    request = PackRequest(limit, "tuned", calibration=CALIBRATION, cache=tmp_path, tune=STEPS)
    packed = pack_model(load_model(model), request)
    assert len(packed.data) <= limit
    assert (
        "what learnt does not fit the limit: the file is the one that it began with" in packed.notes
    )


def test_another_limit_is_no_damage(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(tuning.Finished, "keep", kill)
        with pytest.raises(Killed):
            pack(model, tmp_path)
    request = PackRequest(LIMIT + 500, "tuned", calibration=CALIBRATION, cache=tmp_path, tune=STEPS)
    notes = pack_model(load_model(model), request).notes
    assert not [note for note in notes if "again" in note or "damaged" in note]


def test_a_model_without_floats_learns_nothing_once_all_is_rounded(tmp_path: Path) -> None:
    """One share of a single matrix, of a model that has nothing else."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64, bias=False))
    module[1].weight = module[0].weight
    tokens = np.random.default_rng(0).integers(0, 64, 256)
    for preset, limit in (("best", 900), ("tuned", 2_000)):
        packed = squeeze.pack(module, limit, tokens=tokens, preset=preset, config={"seq_len": 16})
        assert packed.plan is not None and packed.plan.tuning is None
        assert not any("learnt" in note or "tuned" in note for note in packed.notes)


def test_a_model_of_small_tensors_alone_is_packed_without_learning(tmp_path: Path) -> None:
    config = ModelConfig(32, 1, 16, 1, 1, 24, seq_len=16)
    path = tmp_path / "model.safetensors"
    save_file(lively(config).state_dict(), path, {"squeeze.config": config.to_json()})
    request = PackRequest(7_000, "tuned", calibration=Calibration(tokens=64), tune=STEPS)
    packed = pack_model(load_model(path), request)
    assert not packed.exact and len(packed.data) <= 7_000
    assert packed.plan is not None and packed.plan.tuning is None
