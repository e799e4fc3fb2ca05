"""What learns in a tuned pack, and by how much at most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from squeeze.calib.tuning.distil import Course, Learnt, Trained
from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.target import contents_of
from squeeze.packing.tune.student import Student
from squeeze.reporter import SILENT
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.config import ModelConfig
from tests.packs import write_trained


def rates(path: Path, bits: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the largest step of each tensor as a share of its root mean square, by name."""
    piece = Workpiece.of(load_model(path))
    calibrated = calibrate(piece, Calibration(tokens=256), path.with_suffix(".cache"))
    student = Student(piece, calibrated, contents_of(piece, calibrated.layout, "fp16"), "fp16")
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


def test_steps_of_matrices_shrink_with_the_width_and_all_with_the_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {}
    for width in (64, 128, 256):
        config = ModelConfig(256, 1, width, 2, 1, width, seq_len=32)
        shares[width] = write_trained(config, tmp_path / f"{width}.safetensors")
    smallest, narrow, wide = (rates(path, 1.5, monkeypatch) for path in shares.values())
    for part in ("attn.c_q", "mlp.fc", "mlp.proj"):
        name = f"blocks.0.{part}.weight"
        assert smallest[name] == pytest.approx(narrow[name]) == pytest.approx(2 * wide[name])
    assert narrow["blocks.0.attn_scale"] == pytest.approx(wide["blocks.0.attn_scale"])
    finer = rates(shares[128], 3.5, monkeypatch)
    assert {round(narrow[name] / finer[name], 3) for name in finer} == {8.0}
