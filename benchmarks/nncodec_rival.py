"""NNCodec (ISO/IEC 15938-17), dependent quantization on: quantizer and coder in one.

Its package imports image data sets and model zoos on the way to the codec; those imports are
stubbed, so that only its own compiled core, numpy, torch, pandas and tqdm are needed.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import io
import sys
import tempfile
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from rivals import Missing

STUBBED = ("torchvision", "cv2", "ptflops", "torchmetrics", "sklearn", "h5py", "wandb")

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    bitstream: bytes
    decoded: list[Matrix]
    encode_seconds: float  # with quantization: the package does not part them
    decode_seconds: float


class _AnythingType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _Anything(metaclass=_AnythingType):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


class _Stub(types.ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        stubbed = name.split(".")[0] in STUBBED
        return importlib.machinery.ModuleSpec(name, self) if stubbed else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


def _load() -> Any:
    stubs = _Stubs()
    sys.meta_path.insert(0, stubs)
    try:
        from nncodec import nnc

        return nnc
    except ImportError as error:
        raise Missing(f"package nncodec does not import: {error}") from None
    finally:
        sys.meta_path.remove(stubs)


def code(matrices: list[Matrix], qp: int = -14) -> Result:
    """Encode and decode at quantization parameter `qp`; four steps of it double the step size."""
    nnc = _load()
    tensors = {f"matrix{i}.weight": matrix for i, matrix in enumerate(matrices)}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "weights.nnc"
        start = time.perf_counter()
        nnc.compress(tensors, bitstream_path=str(path), qp=qp, use_dq=True)
        middle = time.perf_counter()
        decoded = nnc.decompress(str(path))
        end = time.perf_counter()
        bitstream = path.read_bytes()
    ordered = [np.asarray(decoded[name], np.float32) for name in tensors]
    return Result(bitstream, ordered, middle - start, end - middle)


def code_at(matrices: list[Matrix], error: float, rounds: int = 4) -> tuple[Result, float]:
    """(result, mean squared error) nearest to `error`, by scaling all matrices by one factor."""
    factor, best = 1.0, None
    for _ in range(rounds):
        scaled = [np.float32(factor) * matrix for matrix in matrices]
        result = code(scaled)
        got = mean_squared_error(matrices, result.decoded, factor)
        if best is None or abs(np.log(got / error)) < abs(np.log(best[1] / error)):
            best = (result, got)
        if abs(got / error - 1) < 1e-3:
            break
        factor *= (got / error) ** 0.5
    assert best is not None
    return best


def mean_squared_error(matrices: list[Matrix], decoded: list[Matrix], factor: float) -> float:
    total = sum(
        float(((a.astype(float) - b.astype(float) / factor) ** 2).sum())
        for a, b in zip(matrices, decoded, strict=True)
    )
    return total / sum(matrix.size for matrix in matrices)
