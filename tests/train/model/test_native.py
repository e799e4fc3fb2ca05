"""Products are in bfloat16 where a device has instructions for them, and nowhere else by itself."""

from __future__ import annotations

import platform

import pytest
import torch

from squeeze.train.model.gpt import GPT
from squeeze.train.model.native import has_bf16
from squeeze.train.optim import optimizer
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import PRESETS
from tests.tiny_models import NARROW

CPU = torch.device("cpu")


@pytest.mark.parametrize("known", [False, True])
def test_a_processor_of_intel_or_amd_is_asked_for_its_instructions(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: known)
    assert has_bf16(CPU) is known


def test_any_processor_gives_an_answer() -> None:
    assert has_bf16(CPU) in (False, True)


def test_an_arm_processor_is_asked_by_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: pytest.fail("of x86"))
    assert has_bf16(CPU) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_a_gpu_that_only_emulates_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # as torch answers on a T4
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not has_bf16(torch.device("cuda"))


@pytest.mark.parametrize(
    ("precision", "known", "dtype"),
    [
        ("native", True, torch.bfloat16),
        ("native", False, torch.float32),
        ("bf16", False, torch.bfloat16),  # what is asked for by name is given
        ("fp32", True, torch.float32),
        ("auto", True, torch.float32),
    ],
)
def test_a_recipe_computes_as_it_asks(
    precision: str, known: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "has_bf16", lambda device: known)
    model = GPT(next(iter(NARROW.values())))
    recipe = Recipe(precision=precision, steps=1)
    assert optimizer.Optimizer(model.named_parameters(), recipe).dtype == dtype


def test_the_preset_for_a_cpu_asks_for_what_the_cpu_has() -> None:
    assert PRESETS["tiny"].recipe.precision == "native"
