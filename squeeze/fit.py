"""Spend bits where the loss feels them, and land just under the byte limit.

One number decides everything: `scale`, the loss a step may cost (`squeeze.calib.waterfill`). A larger
scale means coarser steps in every tensor alike and a smaller file; `squeeze.calib.allocate` finds the
scale whose *encoded file* fits. This module says what a model is at any scale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from squeeze.artifact import Artifact, CodeStreams, Tensor, encode
from squeeze.calib.allocate import COARSEST, LOSSLESS, Allocation, allocate
from squeeze.calib.curvature import factorize
from squeeze.calib.fisher import OutputGradients
from squeeze.calib.floats import Float32, to_bits
from squeeze.calib.hessian import Hessians
from squeeze.calib.quantized import QuantizedTensor, RawTensor
from squeeze.calib.row_feedback import row_feedback
from squeeze.calib.trellis_gptq import trellis_gptq
from squeeze.calib.waterfill import STEP_FORMAT, Steps, expected_bits, expected_loss, waterfill
from squeeze.errors import BadData

OnTrial = Callable[[float, int], None]

# Matrices are coded on all cores by artifact.encode; codes of a lossless trial only need a bound,
# and byte planes give one 20 times as fast as the word contexts.
QUICK = ("range-planes",)


@dataclass(frozen=True)
class Model:
    """What is packed: float32 matrices to quantize, other tensors as they will be stored.

    order: every tensor name, in the order of the file. config: of the artifact.
    """

    matrices: Mapping[str, Float32]
    others: Mapping[str, Tensor]
    order: tuple[str, ...]
    config: dict[str, object]

    def artifact(self, quantized: Mapping[str, Tensor]) -> Artifact:
        """The artifact with these matrices."""
        every = {**self.others, **quantized}
        return Artifact(self.config, {name: every[name] for name in self.order})


@dataclass(frozen=True)
class Fitted:
    """The packed model, its file, and how it came about.

    losses: expected nats per token that each matrix's quantization adds.
    """

    artifact: Artifact
    data: bytes
    allocation: Allocation[Tensor]
    losses: dict[str, float]


class Quantizer:
    """Quantizes a model's matrices at any scale; what does not depend on it is computed once."""

    def __init__(
        self, model: Model, hessians: Hessians, gradients: OutputGradients, n_states: int
    ) -> None:
        self.model, self.n_states = model, n_states
        self.hessians = {name: hessians.matrices[name] for name in model.matrices}
        self.gradients = {name: gradients.best(name) for name in model.matrices}
        feedback = _on_all_cores(row_feedback, self.gradients.values())
        self.rows = dict(zip(self.gradients, feedback, strict=True))
        # queries, keys and values read one input: their Hessians are one array, factored once
        shared = {id(hessian): hessian for hessian in self.hessians.values()}
        factors = dict(zip(shared, _on_all_cores(factorize, shared.values()), strict=True))
        self.factors = {name: factors[id(h)] for name, h in self.hessians.items()}
        self._codes: dict[int, tuple[Tensor, tuple[int, bytes]]] = {}

    def quantize(self, scales: Mapping[str, float]) -> dict[str, Tensor]:
        """Matrices at their scales, on all cores; LOSSLESS and COARSEST as `allocate` means them."""
        # the largest first, so that no core is left with it at the end
        names = sorted(scales, key=lambda name: -self.model.matrices[name].size)
        return dict(
            zip(names, _on_all_cores(lambda n: self._tensor(n, scales[n]), names), strict=True)
        )

    def _tensor(self, name: str, scale: float) -> Tensor:
        weights = self.model.matrices[name]
        if scale == LOSSLESS:
            return RawTensor(to_bits(weights, "fp32"), "fp32")
        steps = self._steps(name, 1.0 if scale == COARSEST else scale)
        if scale == COARSEST:
            weights = np.zeros_like(weights)
        try:
            return trellis_gptq(
                weights, self.factors[name], steps.rows, steps.columns,
                rows=self.rows[name], n_states=self.n_states, step_format=STEP_FORMAT,
            ).tensor  # fmt: skip
        except BadData:  # more steps than codes count: floats are the finer and smaller choice
            if np.isfinite(weights).all():
                return RawTensor(to_bits(weights, "fp32"), "fp32")
            raise

    def _steps(self, name: str, scale: float) -> Steps:
        importance = self.rows[name].importance
        return waterfill(self.model.matrices[name], self.factors[name], importance, scale)

    def measure(self, tensors: Mapping[str, Tensor]) -> int:
        """Bytes of the file with these matrices."""
        if not any(isinstance(tensor, QuantizedTensor) for tensor in tensors.values()):
            return len(encode(self.model.artifact(tensors), candidates=QUICK))
        return len(self.encode(tensors))

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """The file with these matrices; codes of tensors seen last time are not coded again."""
        known: CodeStreams = {
            name: kept[1]
            for name, tensor in tensors.items()
            if (kept := self._codes.get(id(tensor))) is not None
        }
        data = encode(self.model.artifact(tensors), streams_=known)
        # the tensor is kept, too, so that its id cannot come to mean another
        self._codes = {id(t): (t, known[n]) for n, t in tensors.items() if n in known}
        return data

    def estimate(self, scale: float) -> float:
        """Roughly the bytes of all codes at a scale."""
        weights = self.model.matrices
        return sum(expected_bits(w, self._steps(name, scale)) for name, w in weights.items()) / 8

    def loss(self, name: str, tensor: Tensor) -> float:
        """Expected nats per token that a matrix's quantization adds."""
        delta = tensor.dequantize() - self.model.matrices[name]
        matrix = delta.reshape(len(delta), -1)
        return expected_loss(matrix, self.hessians[name], self.gradients[name])


def fit(quantizer: Quantizer, limit: int, on_trial: OnTrial = lambda scale, size: None) -> Fitted:
    """The model packed into at most `limit` bytes, and as few fewer as can be had.

    Raises OverBudget with the smallest possible size when even the coarsest file does not fit.
    """
    sizes = {name: weights.size for name, weights in quantizer.model.matrices.items()}
    allocation = allocate(
        sizes, quantizer.quantize, quantizer.measure, quantizer.estimate, limit, on_trial=on_trial
    )
    artifact = quantizer.model.artifact(allocation.tensors)
    data = quantizer.encode(allocation.tensors)
    losses = {name: quantizer.loss(name, t) for name, t in allocation.tensors.items()}
    return Fitted(artifact, data, allocation, losses)


def _on_all_cores(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))
