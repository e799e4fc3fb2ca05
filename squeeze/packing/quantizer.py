"""A model at any scale: every matrix quantized, the file measured, the cost foreseen.

One number decides everything: `scale`, the loss a step may cost
(`squeeze.calib.allocation.waterfill`). A larger scale means coarser steps in every tensor alike and
a smaller file.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from squeeze.artifact.streams import Artifact, Coded, CodeStreams, Tensor, in_order
from squeeze.calib.allocation.allocate import COARSEST
from squeeze.calib.allocation.waterfill import (
    STEP_FORMAT,
    Steps,
    expected_bits,
    expected_loss,
    waterfill,
)
from squeeze.calib.quantizers.mantissa import MANTISSA, head_bits, round_mantissas
from squeeze.calib.quantizers.row_feedback import RowFeedback, row_feedback
from squeeze.calib.quantizers.trellis_gptq import trellis_gptq
from squeeze.calib.statistics.curvature import Factor, factorize
from squeeze.calib.statistics.fisher import OutputGradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.errors import BadData
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

QUANTIZED = 1024  # matrices of fewer weights stay floats: they cost little
FLOATS_FROM = 11.0  # bits a weight; the loss is beyond measuring, and floats need no search


class Coder(Protocol):
    """Codes what is quantized (see `squeeze.packing.kept`), and may keep it."""

    def find(self, name: str, scale: float, states: int) -> tuple[QuantizedTensor, Coded] | None:
        """What was kept, with its coded codes, or None."""

    def code(
        self, name: str, scale: float, states: int, tensor: QuantizedTensor
    ) -> tuple[QuantizedTensor, Coded]:
        """Code the codes of a tensor."""

    def file(self, artifact: Artifact, known: CodeStreams, floats: bool) -> bytes:
        """The whole file; `known` codes are not coded again. floats: whether a matrix is not coded."""


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


class Quantizer:
    """Quantizes a model's matrices at any scale; what does not depend on it is computed once.

    coder: makes bytes of what is quantized, and looks for what was made before.
    """

    def __init__(
        self,
        model: Model,
        hessians: Hessians,
        gradients: OutputGradients,
        n_states: int,
        coder: Coder,
    ) -> None:
        self.model, self.n_states, self.coder = model, n_states, coder
        self.hessians = {name: hessians.matrices[name] for name in model.matrices}
        self.gradients = {name: gradients.best(name) for name in model.matrices}
        self._codes: dict[int, tuple[QuantizedTensor, tuple[int, bytes]]] = {}

    def with_states(self, n_states: int) -> Quantizer:
        """The same model with another trellis; what both need is computed once."""
        _ = self.factors, self.rows, self._heads
        other = copy(self)
        other.n_states, other._codes = n_states, {}
        return other

    def keeping(self, tensors: Mapping[str, Tensor]) -> Quantizer:
        """The same model with some matrices stored as these tensors; the others are still quantized."""
        other, model = copy(self), self.model
        matrices = {n: weights for n, weights in model.matrices.items() if n not in tensors}
        other.model = Model(matrices, {**model.others, **tensors}, model.order, model.config)
        other._codes = {}
        return other

    @cached_property
    def rows(self) -> dict[str, RowFeedback]:
        """Feedback between the rows of each matrix."""
        feedback = in_order(row_feedback, list(self.gradients.values()))
        return dict(zip(self.gradients, feedback, strict=True))

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """The factor of each matrix's Hessian."""
        # queries, keys and values read one input: their Hessians are one array, factored once
        shared = {id(hessian): hessian for hessian in self.hessians.values()}
        factors = dict(zip(shared, in_order(factorize, list(shared.values())), strict=True))
        return {name: factors[id(hessian)] for name, hessian in self.hessians.items()}

    @cached_property
    def _heads(self) -> dict[str, float]:
        return {name: head_bits(weights) for name, weights in self.model.matrices.items()}

    def quantize(self, scales: Mapping[str, float]) -> dict[str, Tensor]:
        """Matrices at their scales, on all cores; COARSEST (∞) stands for zeros."""
        # the largest first, so that no core is left with it at the end
        names = sorted(scales, key=lambda name: -self.model.matrices[name].size)
        found = in_order(lambda n: self.coder.find(n, scales[n], self.n_states), names)
        if any(coded is None for coded in found):
            _ = self.factors, self.rows, self._heads  # once, before the threads ask for them
        missing = [name for name, coded in zip(names, found, strict=True) if coded is None]
        made = dict(
            zip(missing, in_order(lambda n: self._made(n, scales[n]), missing), strict=True)
        )
        tensors: dict[str, Tensor] = {}
        for name, coded in zip(names, found, strict=True):
            result = coded or made[name]
            if isinstance(result, tuple):
                tensors[name] = result[0]
                # the tensor is kept, too, so that its id cannot come to mean another
                self._codes[id(result[0])] = result
            else:
                tensors[name] = result
        return tensors

    def _made(self, name: str, scale: float) -> RawTensor | tuple[QuantizedTensor, Any]:
        weights = self.model.matrices[name]
        if scale == COARSEST:
            return self.coder.code(name, scale, self.n_states, _zeros(weights.shape))
        steps = self._steps(name, scale)
        bits = expected_bits(weights, steps) / max(weights.size, 1)
        if bits <= FLOATS_FROM:
            try:
                found = trellis_gptq(
                    weights, self.factors[name], steps.rows, steps.columns,
                    rows=self.rows[name], n_states=self.n_states, step_format=STEP_FORMAT,
                )  # fmt: skip
                return self.coder.code(name, scale, self.n_states, found.tensor)
            except BadData:  # a weight of more steps than codes count, or one that is not finite
                if not np.isfinite(weights).all():
                    raise
        mantissa = min(max(bits - self._heads[name], 0.0), float(MANTISSA))
        return RawTensor(to_bits(round_mantissas(weights, mantissa), "fp32"), "fp32")

    def _steps(self, name: str, scale: float) -> Steps:
        importance = self.rows[name].importance
        return waterfill(self.model.matrices[name], self.factors[name], importance, scale)

    def measure(self, tensors: Mapping[str, Tensor]) -> int:
        """Bytes of the file with these matrices."""
        return len(self.encode(tensors))

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """The file with these matrices; codes are not coded again, those of other tensors forgotten."""
        self._codes = {id(t): self._codes[id(t)] for t in tensors.values() if id(t) in self._codes}
        known: CodeStreams = {
            name: self._codes[id(t)][1] for name, t in tensors.items() if id(t) in self._codes
        }
        floats = any(isinstance(tensor, RawTensor) for tensor in tensors.values())
        return self.coder.file(self.model.artifact(tensors), known, floats)

    def estimate(self, scale: float) -> float:
        """Roughly the bytes of all matrices at a scale."""
        return sum(self._expected(name, scale) for name in self.model.matrices) / 8

    def _expected(self, name: str, scale: float) -> float:
        weights = self.model.matrices[name]
        most = (MANTISSA + self._heads[name]) * weights.size
        return min(expected_bits(weights, self._steps(name, scale)), most)

    def loss(self, name: str, tensor: Tensor) -> float:
        """Expected nats per token that a matrix's quantization adds."""
        delta = tensor.dequantize() - self.model.matrices[name]
        matrix = delta.reshape(len(delta), -1)
        return expected_loss(matrix, self.hessians[name], self.gradients[name])


def _zeros(shape: tuple[int, ...]) -> QuantizedTensor:
    """A matrix of zeros: the fewest bytes that a matrix can have."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    ones = to_bits(np.ones(rows, np.float32), STEP_FORMAT)
    return QuantizedTensor(np.zeros((rows, columns), np.int8), ones, shape, step_format=STEP_FORMAT)
