"""docs/training.md has every key of a run's log; the logger of others gets the scalars of a step."""

from __future__ import annotations

import re
import types
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from squeeze.errors import MissingPackage
from squeeze.train.run.course import StepRecord
from squeeze.train.run.log import WandB

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_has_every_key_of_a_step() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| key of a step |")[1].split("\n\n")[0]
    keys = [
        key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert keys == [field.name for field in fields(StepRecord)]


def test_weights_and_biases_gets_each_step_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    run = types.SimpleNamespace(
        log=lambda scalars, step: calls.append((step, scalars)),
        finish=lambda exit_code: calls.append(exit_code),
    )
    module = types.ModuleType("wandb")
    module.init = lambda project, config: calls.append((project, config)) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "wandb", module)
    with WandB("nine", {"seed": 1}) as logger:
        logger.write_step(StepRecord(1, 2.5, 100.0, 0.5, 1.0, 1.0, 0.1, 0.3, 1.0))
    assert calls[0] == ("nine", {"seed": 1})
    assert calls[1][0] == 1 and calls[1][1]["train/loss"] == 2.5
    assert calls[2] == 0


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(MissingPackage, match=r"pip install '\.\[wandb\]'"):
        WandB("nine", {})
