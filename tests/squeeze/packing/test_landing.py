"""Landing: any limit is met to a thousand bytes, never exceeded, and with the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeeze.artifact.file import decode
from squeeze.checkpoint.read import load_model
from squeeze.errors import OverBudget
from squeeze.packing.calibrate import Calibration
from squeeze.packing.packed import Packed
from squeeze.tensors.quantized import RawTensor
from tests.packs import pack_to

CALIBRATION = Calibration(tokens=1024, length=256)
NOLANVILD = ("nolanvild_0.48M_fp32.pt", {"like": "baseline", "mlp_power": 3, "seq_len": 256})
SAMTRUSS = ("samtruss_7.6M_65176d11.int8.ptz", {"like": "baseline", "seq_len": 512})
REFERENCE = ("reference_8.7M_fp32.safetensors", {"like": "baseline", "seq_len": 512})
LIMITS = (100_000, 300_000, 1_000_000, 2_500_000, 4_000_000, 8_000_000, 12_000_000, 16_000_000)

TOO_LITTLE = {(name, 100_000) for name, _ in (SAMTRUSS, REFERENCE)}  # more than 64 weights a byte


def pack(path: Path, fields: dict[str, Any], limit: int, folder: Path) -> Packed:
    return pack_to(path, limit, CALIBRATION, folder, **fields)


def check(packed: Packed, limit: int) -> None:
    assert len(packed.data) <= limit
    if packed.plan is not None:  # else everything fitted without loss
        assert packed.plan.unused == limit - len(packed.data) < 1000
    decode(packed.data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_small_model_lands_at_a_low_rate(materials: Path, folder: Path) -> None:
    name, fields = NOLANVILD
    packed = pack(materials / "checkpoints" / name, fields, 100_000, folder)
    check(packed, 100_000)
    assert packed.plan is not None


def test_beyond_eleven_bits_a_weight_it_lands_with_floats_of_fewer_bits(
    materials: Path, folder: Path
) -> None:
    name, fields = NOLANVILD
    path = materials / "checkpoints" / name
    packed = pack(path, fields, 1_000_000, folder)
    check(packed, 1_000_000)
    tensors, exact = decode(packed.data).tensors, load_model(path, **fields).tensors
    assert packed.plan is not None
    for matrix in packed.plan.scales:
        assert isinstance(tensors[matrix], RawTensor)
        error = np.abs(tensors[matrix].dequantize() - exact[matrix])
        assert (error <= 2.0**-8 * np.abs(exact[matrix])).all()


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("name", "fields"), [NOLANVILD, SAMTRUSS, REFERENCE])
def test_every_checkpoint_lands_on_every_limit(
    materials: Path, tmp_path_factory: pytest.TempPathFactory, name: str,
    fields: dict[str, Any], limit: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.getbasetemp() / f"cache-{name}"  # one calibration for all limits
    path = materials / "checkpoints" / name
    if (name, limit) in TOO_LITTLE:
        with pytest.raises(
            OverBudget, match=r"at least 1\d\d,\d{3} bytes: a file holds 64 weights"
        ):
            pack(path, fields, limit, folder)
        return
    packed = pack(path, fields, limit, folder)
    check(packed, limit)
    again = pack(path, fields, limit, folder / "again")
    assert again.data == packed.data
