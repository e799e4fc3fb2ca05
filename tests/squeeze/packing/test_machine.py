"""The kind of machine that a plan names."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from squeeze.errors import SqueezeError
from squeeze.packing.machine import processor, this_machine
from squeeze.packing.plan import Plan

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9R14

processor\t: 1
vendor_id\t: Another
"""
PLAN = Plan("key", "0" * 64, 177, 900, 2, 0.01, 0.02, 2.3, ())


def test_a_processor_is_named_by_vendor_family_and_model(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert processor(tmp_path / "cpuinfo") == "AuthenticAMD family 25 model 17"


def test_a_processor_without_a_list_has_python_s_name(tmp_path: Path) -> None:
    assert processor(tmp_path / "nothing")


def test_a_machine_is_the_same_twice_and_other_with_other_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MKL_ENABLE_INSTRUCTIONS", raising=False)
    machine = this_machine()
    assert machine == this_machine()
    assert [name for name, value in asdict(machine).items() if not value] == ["gpu"]
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    limited = machine.instructions + " MKL_ENABLE_INSTRUCTIONS=AVX2"
    assert this_machine() == replace(machine, instructions=limited)


def test_a_machine_that_multiplies_bfloat16_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    instructions = []
    for known in (False, True):
        monkeypatch.setattr(
            "squeeze.train.model.native.has_bf16", lambda device, known=known: known
        )
        instructions.append(this_machine().instructions.split())
    without, with_bf16 = instructions
    assert [*without[:1], "BF16", *without[1:]] == with_bf16


def test_a_machine_whose_gpu_ran_the_model_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    gpu = this_machine("cuda:1")
    assert gpu == replace(this_machine(), gpu="a GPU, cuda:1")


def test_a_plan_keeps_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = replace(PLAN, machine=this_machine())
    plan.save(path)
    assert Plan.load(path) == plan


@pytest.mark.parametrize("machine", ["Xeon", {"processor": 6}, {"cores": "2"}, None])
def test_a_machine_that_is_none_is_refused(machine: object, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN.as_json(), "machine": machine}))
    with pytest.raises(SqueezeError, match="not a plan"):
        Plan.load(path)
