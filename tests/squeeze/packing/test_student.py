"""By how much the tensors of a tuned pack may learn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from squeeze.calib.tuning.answers import Answers
from squeeze.calib.tuning.distil import Course, Learnt, Trained
from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.presets import LOW
from squeeze.packing.recipe import contents_of
from squeeze.packing.tune.student import LABELS, Student
from squeeze.reporter import SILENT
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.config import ModelConfig
from tests.packs import write_trained

CONFIG = ModelConfig(256, 2, 128, 2, 1, 512, seq_len=32)
PROJ, SCALE = "blocks.0.mlp.proj.weight", "blocks.0.attn_scale"


@pytest.fixture
def student(tmp_path: Path) -> Student:
    path = write_trained(CONFIG, tmp_path / "model.safetensors")
    piece = Workpiece.of(load_model(path))
    calibrated = calibrate(piece, Calibration(tokens=256), tmp_path)
    return Student(piece, calibrated, contents_of(piece, calibrated.layout, "fp16"), "fp16")


def shares(student: Student, bits: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the largest step of each tensor that learns, of its root mean square, by name."""
    asked: list[Trained] = []

    def distil(answers: Any, forward: Any, trained: Any, *others: Any) -> Learnt:
        asked.extend(trained)
        return Learnt()

    monkeypatch.setattr("squeeze.packing.tune.student.distil_", distil)
    student.learn_(Course(1), bits, SILENT)
    names = {id(parameter): name for name, parameter in student.parameters.items()}
    return {
        names[id(each.parameter)]: each.rate / float(each.parameter.detach().square().mean().sqrt())
        for each in asked
    }


def test_steps_shrink_with_the_bits(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse, fine = (shares(student, bits, monkeypatch) for bits in (1.5, 3.5))
    assert coarse.keys() == fine.keys() == student.inside.keys()
    assert {round(coarse[name] / fine[name], 3) for name in fine} == {8.0}


def test_steps_of_matrices_grow_as_fewer_weights_learn(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shares(student, 1.5, monkeypatch)
    matrices = {name: student.parameters[name].numel() for name, m in student.inside.items() if m}
    into = {name: n for name, n in matrices.items() if name.endswith("mlp.fc.weight")}
    zeros = {n: RawTensor(np.zeros(student.parameters[n].shape, np.uint32), "fp32") for n in into}
    student.round_(zeros)
    after = shares(student, 1.5, monkeypatch)
    assert before.keys() - after.keys() == into.keys()
    ratio = sum(matrices.values()) / (sum(matrices.values()) - sum(into.values()))
    assert after[PROJ] == pytest.approx(before[PROJ] * math.sqrt(ratio)) and ratio > 1.4
    assert after[SCALE] == pytest.approx(before[SCALE])


def test_next_tokens_of_real_text_have_a_share_in_the_loss_at_few_bits(student: Student) -> None:
    assert student.label_share(1.3) == 0  # the model wrote this text
    student.answers.text = replace(student.answers.text, source="shards")
    assert student.label_share(1.3) == LABELS and student.label_share(LOW) == 0


def test_a_model_that_does_not_foretell_the_next_token_learns_answers_alone(
    student: Student,
) -> None:
    """As one of masked tokens, which says what stands where it looks."""
    text = replace(student.answers.text, source="shards")
    itself = Answers(lambda ids: 10 * F.one_hot(ids, CONFIG.vocab_size).float(), text)
    student.answers = itself
    assert student.label_share(1.3) == 0
