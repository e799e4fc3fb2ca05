"""A run on GPUs has a group that cannot carry tensors of the CPU: all that ranks share works there.

Training, calibration, packing and scoring in every mode, on several ranks, give what one process gives.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from squeeze.score.modes import MODES

pytestmark = (
    pytest.mark.slow
)  # parts of it are fast: test_group, test_score_ranks, test_hessian_ranks
ROOT = Path(__file__).parents[3]
WORKER = [sys.executable, "-m", "tests.squeeze.whole.group_worker"]


@pytest.fixture(scope="module", params=[2, 4])
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[Path]:
    """Stems of the files of one process, and of each of several ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [(0, 1), *((rank, request.param) for rank in range(request.param))]
    started = [
        subprocess.Popen([*WORKER, folder, str(rank), str(world)], cwd=ROOT)
        for rank, world in ranks
    ]
    assert [process.wait(300) for process in started] == [0] * len(ranks)
    return [folder / f"{rank}-of-{world}" for rank, world in ranks]


def facts_of(stem: Path) -> dict[str, Any]:
    return json.loads(stem.with_suffix(".json").read_text())


def test_ranks_learn_what_one_process_learns(runs: list[Path]) -> None:
    alone, *ranks = (facts_of(stem)["losses"] for stem in runs)
    weights, *of_ranks = (load_file(stem.with_suffix(".safetensors")) for stem in runs)
    for losses, own in zip(ranks, of_ranks, strict=True):
        assert losses == ranks[0]
        np.testing.assert_allclose(losses, alone, atol=1e-5, rtol=0)
        for name, weight in own.items():
            assert np.array_equal(weight, of_ranks[0][name])
            np.testing.assert_allclose(weight, weights[name], atol=1e-4, rtol=0)


def test_gradients_may_travel_in_16_bits(runs: list[Path]) -> None:
    alone, *ranks = (facts_of(stem)["halves"] for stem in runs)
    for losses in ranks:
        assert losses == ranks[0] != facts_of(runs[1])["losses"]
        np.testing.assert_allclose(losses, alone, atol=0.02, rtol=0)


def test_ranks_collect_the_text_and_the_statistics_of_one_process(runs: list[Path]) -> None:
    folders = [
        runs[0].with_name(f"cache-{stem.name.split('-')[-1]}") for stem in (runs[0], runs[1])
    ]
    for name in ("text", "hessians", "gradients"):
        alone, together = (load_file(folder / f"{name}.safetensors") for folder in folders)
        assert alone.keys() == together.keys()
        for key, array in alone.items():
            assert np.array_equal(together[key], array), (name, key)


def test_ranks_pack_the_file_of_one_process(runs: list[Path]) -> None:
    alone, *ranks = (stem.with_suffix(".sqz").read_bytes() for stem in runs)
    assert all(data == alone for data in ranks)


@pytest.mark.parametrize("mode", MODES)
def test_ranks_find_the_score_of_one_process(runs: list[Path], mode: str) -> None:
    alone, *ranks = (facts_of(stem)["scores"][mode] for stem in runs)
    for rank in ranks:
        for key in ("nats", "end_nats", "bpb"):
            assert rank[key] == pytest.approx(alone[key], rel=1e-9)
        for key in ("tokens", "bytes", "ends", "order"):
            assert rank[key] == alone[key]
    if mode != "ttt-chunk":  # every rank counts all of its targets
        assert sum(rank["work"] for rank in ranks) == alone["work"]
