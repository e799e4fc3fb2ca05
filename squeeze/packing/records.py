"""How record entries quantize: what this project's packing is measured against.

Figures are those of the pull requests of openai/parameter-golf. `coarser` multiplies every step, which
is how an entry would land at another size: by tuning k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from squeeze.calib.quantizers.gptq import gptq
from squeeze.calib.quantizers.gptq_lite import lite_steps
from squeeze.calib.quantizers.round_to_nearest import row_steps
from squeeze.calib.statistics.curvature import factorize
from squeeze.errors import BadConfig
from squeeze.tensors.floats import Float32
from squeeze.tensors.quantized import QuantizedTensor


@dataclass(frozen=True)
class Record:
    """bits, k: by kind of matrix, "embed", "attn" or "mlp"; clip at k standard deviations of a row.

    k of None clips where `lite_steps` finds it best, or, without Hessian, at a percentile. hessian:
    full GPTQ instead of rounding to nearest. coders: names of the codecs an entry chose from. Two bits
    are ternary codes of one step a row, its mean magnitude.
    """

    bits: dict[str, int]
    k: dict[str, float | None]
    hessian: bool
    coders: tuple[str, ...]


BROTLI = ("brotli", "brotli-planes", "brotli-transposed")
LZMA = ("lzma", "lzma-planes", "lzma-transposed")
ZSTD = ("zstd", "zstd-planes", "zstd-transposed")
INT6, INT8 = {"embed": 8, "attn": 6, "mlp": 6}, {"embed": 8, "attn": 8, "mlp": 8}
CLIP_PERCENTILE = 0.9999984  # of the baseline's int8 export
SMALLEST = 1e-6  # step of a row of zeros
DAMPING = 0.01  # of the mean diagonal, #1060
UNTUNED: dict[str, float | None] = {"embed": None, "attn": None, "mlp": None}

RECORDS = {
    "baseline-int8-zlib": Record(INT8, UNTUNED, False, ("zlib",)),
    "record-374": Record(INT6, UNTUNED, False, ZSTD),
    "ternary": Record({"embed": 8, "attn": 2, "mlp": 2}, UNTUNED, False, LZMA),
    "record-1394": Record(INT6, {"embed": 20.0, "attn": 12.85, "mlp": 12.85}, True, BROTLI),
    # without its low-rank correction of three tensors, see squeeze.calib.quantizers.low_rank
    "record-1855": Record(
        {"embed": 7, "attn": 6, "mlp": 6}, {"embed": 14.0, "attn": 13.0, "mlp": 11.5}, True, BROTLI
    ),
}


def kind_of(name: str) -> str:
    """ "embed", "attn" or "mlp", from a tensor's name in the baseline's naming."""
    for kind in ("attn", "mlp"):
        if f".{kind}." in name:
            return kind
    return "embed"


def quantize_record(
    name: str, weights: Float32, hessian: Float32, record: Record, coarser: float = 1.0
) -> QuantizedTensor:
    """A matrix as an entry would store it.

    weights: float32 [R, C]. hessian: float32 [C, C] of the inputs. Raises BadConfig for `coarser`
    not above 0, BadData for a Hessian that is none.
    """
    if not (np.isfinite(coarser) and coarser > 0):
        raise BadConfig("coarser", expected="finite and above 0", found=coarser)
    kind = kind_of(name)
    bits, k = record.bits[kind], record.k[kind]
    if k is not None:
        steps = row_steps(weights, bits, k)
    elif bits == 2:  # BitNet b1.58, arXiv 2402.17764
        steps = np.maximum(np.abs(weights).mean(1), SMALLEST).astype(np.float32)
    elif bits == 8 and not record.hessian and record.coders == ("zlib",):
        clip = np.quantile(np.abs(weights), CLIP_PERCENTILE, axis=1)
        steps = np.maximum(clip / 127, SMALLEST).astype(np.float32)
    else:
        steps = lite_steps(weights, bits)
    steps = (steps * coarser).astype(np.float32)
    # with the identity as Hessian nothing is fed forward: GPTQ is rounding to nearest
    curvature = hessian if record.hessian else np.eye(weights.shape[1], dtype=np.float32)
    return gptq(weights, factorize(curvature, DAMPING), bits, steps)
