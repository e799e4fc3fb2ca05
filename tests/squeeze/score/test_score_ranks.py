"""Two processes share a scoring, and get the number of one; their group has no backend for the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from squeeze.score.modes import MODES

ROOT = Path(__file__).parents[3]
WORKER = [sys.executable, "-m", "tests.squeeze.score.eval_ranks_worker"]


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def scores(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict]:  # type: ignore[type-arg]
    """What one process found, and what each of two did."""
    folder = tmp_path_factory.mktemp("ranks")
    runs = [(0, 1), (0, 2), (1, 2)]
    started = [
        subprocess.Popen([*WORKER, folder, str(rank), str(world), request.param], cwd=ROOT)
        for rank, world in runs
    ]
    assert [process.wait(600) for process in started] == [0, 0, 0]
    return [json.loads((folder / f"{rank}-of-{world}.json").read_text()) for rank, world in runs]


@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_find_the_score_of_one(scores: list[dict], mode: str) -> None:  # type: ignore[type-arg]
    alone, *ranks = (facts[mode] for facts in scores)
    for rank in ranks:
        for key in ("nats", "end_nats", "bpb"):
            assert rank[key] == pytest.approx(alone[key], rel=1e-9)
        for key in ("tokens", "bytes", "ends", "order"):
            assert rank[key] == alone[key]


@pytest.mark.parametrize("mode", ["window", "sliding", "documents", "ttt-lora", "ttt-phased"])
def test_the_work_is_shared_and_not_repeated(scores: list[dict], mode: str) -> None:  # type: ignore[type-arg]
    alone, first, second = (facts[mode]["work"] for facts in scores)
    assert first + second == alone and min(first, second) > 0
