"""Two processes share generation and collection, and end with what one process gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

WORKER = Path(__file__).with_name("ranks_worker.py")


def test_two_ranks_write_the_text_and_the_hessians_of_one_to_the_bit(tmp_path: Path) -> None:
    runs = [(0, 1), (0, 2), (1, 2)]
    started = [
        subprocess.Popen([sys.executable, WORKER, tmp_path, str(rank), str(world)])
        for rank, world in runs
    ]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    alone, *ranks = (np.load(tmp_path / f"{rank}-of-{world}.npz") for rank, world in runs)
    # two batches of five, on one rank or one each
    assert alone["work"] == 10 * 16
    assert [int(rank["work"]) for rank in ranks] == [5 * 16, 5 * 16]
    assert len(np.unique(alone["text"], axis=0)) == 9
    for rank in ranks:
        assert np.array_equal(rank["text"], alone["text"])
        assert rank["same"] and alone["same"]
        for name in set(alone.files) - {"text", "work", "same"}:
            assert np.array_equal(rank[name], alone[name]), name
    names = {path.name for path in tmp_path.iterdir()} - {"rendezvous"}
    assert names == {"0-of-1.npz", "0-of-2.npz", "1-of-2.npz", "hessians-1", "hessians-2"}
