"""Spend bits where they lower the loss most, and land just under the byte limit.

`squeeze.calib.allocation.allocate` finds the scale whose *encoded file* fits;
`squeeze.packing.quantizer` quantizes a model at any scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from squeeze.artifact.streams import Tensor
from squeeze.calib.allocation.allocate import allocate, common_scale
from squeeze.errors import OverBudget
from squeeze.packing.quantizer import QUANTIZED, Quantizer, StoredMatrix
from squeeze.reporter import SILENT, Reporter
from squeeze.tensors.quantized import RawTensor

# At one scale 8 and 256 states give files that differ by a thousandth, in a tenth of the time
# (docs/log.md): so the scale is looked for with the former.
SCOUT_STATES = 8


@dataclass(frozen=True)
class Fitted:
    """A file that fits: its matrices as they are stored, its bytes, and the search for it.

    scales: by the name of a matrix
    trials: whole quantizations of the search; 0 when the scales were known already
    """

    tensors: dict[str, Tensor]
    data: bytes
    scales: dict[str, float]
    trials: int

    @classmethod
    def of(
        cls,
        quantizer: Quantizer,
        matrices: Mapping[str, StoredMatrix],
        scales: dict[str, float],
        trials: int = 0,
    ) -> Fitted:
        """Return the file of quantized matrices."""
        tensors = {name: matrix.tensor for name, matrix in matrices.items()}
        return cls(tensors, quantizer.encode(matrices), scales, trials)


def fit(quantizer: Quantizer, limit: int, reporter: Reporter = SILENT) -> Fitted:
    """Return the model packed into at most `limit` bytes, and as few fewer as can be had.

    reporter: shown every trial of the search

    Raises OverBudget with the smallest possible size when even the coarsest file does not fit.
    """
    start = None
    if quantizer.n_states > SCOUT_STATES:
        start = common_scale(quantizer.with_states(SCOUT_STATES), limit, reporter)
    allocation = allocate(quantizer, limit, start=start, reporter=reporter)
    return Fitted.of(quantizer, allocation.tensors, allocation.scales, allocation.trials)


def fit_or_explain(quantizer: Quantizer, limit: int, reporter: Reporter = SILENT) -> Fitted:
    """Return what `fit` does; where nothing fits, its error says what floats take."""
    try:
        return fit(quantizer, limit, reporter)
    except OverBudget as error:
        raise OverBudget(f"{error}{_floats_of(quantizer)}") from None


def _floats_of(quantizer: Quantizer) -> str:
    """Return a sentence on the floats that no scale makes smaller; nothing where they are small."""
    floats = {n: t for n, t in quantizer.contents.others.items() if isinstance(t, RawTensor)}
    largest = max(floats, key=lambda name: floats[name].bits.nbytes, default="")
    if not largest or floats[largest].bits.size < QUANTIZED:
        return ""
    size = floats[largest].bits.nbytes
    total = sum(tensor.bits.nbytes for tensor in floats.values())
    return f" Floats take {total:,} bytes before they are coded, {largest} {size:,} of them."


def at_scales(quantizer: Quantizer, scales: Mapping[str, float]) -> Fitted:
    """Return the model packed at known scales."""
    return Fitted.of(quantizer, quantizer.quantize(scales), dict(scales))
