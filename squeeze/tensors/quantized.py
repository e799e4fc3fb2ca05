"""The weights unit: what a quantizer returns, the packer stores and the evaluator decodes.

`dequantize` is exact: one float32 multiplication per factor in a fixed order, then one rounding to
the logical format, so the packer, the evaluator and a standalone decoder get the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.tensors.floats import Bits, Float32, from_bits, round_to

Codes = npt.NDArray[np.signedinteger[Any]]

# 2^(i/8) rounded to float32: column steps are eighths of an octave. Square roots and products are
# rounded alike everywhere (IEEE 754), so no library of powers is asked.
EIGHTHS = np.cumprod([1.0, *[np.sqrt(np.sqrt(np.sqrt(2.0)))] * 7]).astype(np.float32)


@dataclass(frozen=True)
class RawTensor:
    """A tensor stored without loss: bit patterns of `stored` floats, any shape.

    bits: uint16 or uint32, shape of the tensor. logical: the format the checkpoint gave it.
    """

    bits: Bits
    stored: str
    logical: str = "fp32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.bits.shape

    def dequantize(self) -> Float32:
        """Return the values in float32, exact, shape of the tensor."""
        return from_bits(self.bits, self.stored).reshape(self.shape)


@dataclass(frozen=True)
class QuantizedTensor:
    """Integer codes and the steps that turn them into weights.

    codes: int8 or int16 [rows, cols]: the tensor's first dimension × all others.
    steps: bit patterns of one positive `step_format` float per row, [rows].
    quantizer: "uniform" (weight = code · step) or "trellis" (code is an index whose reconstruction
    depends on the state that the column's earlier parities lead to; `states` of them).
    columns: int8 [cols] or None; column j's step is multiplied by 2^(columns[j]/8).
    shape, logical: shape and float format of the tensor the codes stand for.
    """

    codes: Codes
    steps: Bits
    shape: tuple[int, ...]
    quantizer: str = "uniform"
    step_format: str = "fp16"
    logical: str = "fp32"
    states: int = 0
    columns: npt.NDArray[np.int8] | None = None

    def dequantize(self) -> Float32:
        """Return the weights in float32, of `shape`, rounded to the logical format."""
        if self.quantizer == "trellis":
            # compiled, so only when needed
            from squeeze.codecs.trellis.quantize import dequantize_trellis

            weights = dequantize_trellis(self.codes, self.states).astype(np.float32)
        else:
            weights = self.codes.astype(np.float32)
        weights *= from_bits(self.steps, self.step_format)[:, None]
        if self.columns is not None:
            weights *= column_factors(self.columns)[None, :]
        return round_to(weights.reshape(self.shape), self.logical)


def column_factors(exponents: npt.NDArray[np.int8]) -> Float32:
    """Return 2^(e/8) for each exponent, float32, exact by table and power of two.

    >>> column_factors(np.array([0, 8, -8, 1], dtype=np.int8)).tolist()
    [1.0, 2.0, 0.5, 1.0905077457427979]
    """
    exponents = exponents.astype(np.int32)
    factors: Float32 = np.ldexp(EIGHTHS[exponents & 7], exponents >> 3).astype(np.float32)
    return factors
