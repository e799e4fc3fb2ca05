"""A record-style script that wants a GPU trains, exports, reads back and scores as its bundle does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, verify

STANDIN = Path(__file__).parents[2] / "standin_cuda"
SIZES = {"STEPS": 3, "WIDTH": 16, "LAYERS": 2, "LENGTH": 32, "VOCAB": 64, "OMP_NUM_THREADS": 1}


@pytest.mark.slow
@pytest.mark.parametrize("shrink", [ShrinkOptions(), ShrinkOptions(specialise=True)])
def test_a_record_style_script_does_what_its_bundle_does(
    tmp_path: Path, shrink: ShrinkOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (Path(__file__).parent / "programs" / "record.txt").read_text().partition("\n")[2]
    entry = tmp_path / "train_gpt.py"
    entry.write_text(source)
    np.random.default_rng(0).integers(0, 64, 4000, np.uint16).tofile(tmp_path / "shard_0.bin")
    for name, value in SIZES.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TRAIN", str(tmp_path / "shard_*.bin"))
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    made = bundle(entry, options=BundleOptions(shrink=shrink))
    verdict = verify({"train_gpt.py": entry}, "train_gpt.py", made.shipped.data, Check())
    assert verdict.exit_code == 0
    own = [line for line in verdict.differences if not line.startswith("work/log.txt: line")]
    assert own == []
    assert len(made.shipped.data) < len(source) / 2
