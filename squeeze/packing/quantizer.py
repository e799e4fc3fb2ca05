"""A model at any scale: every matrix quantized, the size of the file measured or estimated.

One number decides everything: `scale`, the loss a step may cost
(`squeeze.calib.allocation.waterfill`). A larger scale means coarser steps in every tensor alike and
a smaller file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from squeeze.artifact.streams import Artifact, Coded, CodeStreams, Tensor, in_order
from squeeze.calib.allocation.allocate import COARSEST
from squeeze.calib.allocation.waterfill import STEP_FORMAT, expected_bits
from squeeze.calib.quantizers.mantissa import MANTISSA, round_mantissas
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.errors import BadData
from squeeze.packing.curvature import Curvature, Prepared
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

QUANTIZED = 1024  # matrices of fewer weights stay floats: they cost little
FLOATS_FROM = 11.0  # bits a weight; the loss is beyond measuring, and floats need no search


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix as the file will hold it.

    coded: codec id and bytes of its codes; None for floats, which share a stream with others
    """

    tensor: Tensor
    coded: Coded | None = None


class Coder(Protocol):
    """Coder of quantized matrices; it may keep what it coded (`squeeze.packing.kept`)."""

    def find(self, name: str, scale: float, states: int) -> StoredMatrix | None:
        """Return the kept matrix of this name, scale and number of states, or None."""

    def code(self, name: str, scale: float, states: int, tensor: QuantizedTensor) -> StoredMatrix:
        """Return a matrix of the same values with its codes coded, and keep both."""

    def file(self, artifact: Artifact, codes: CodeStreams, floats: bool) -> bytes:
        """Return the whole file.

        codes: code streams by tensor name, which are not coded again
        floats: true when any matrix is stored as floats
        """


@dataclass(frozen=True)
class Contents:
    """Contents of a file: matrices that are still to be quantized, and the other tensors as stored.

    matrices: weights float32 [R, C] by name
    order: every tensor name, in the order of the file
    config: configuration in the file's header
    logical: float formats of the matrices in the model, by name; others are float32
    """

    matrices: Mapping[str, Float32]
    others: Mapping[str, Tensor]
    order: tuple[str, ...]
    config: dict[str, object]
    logical: Mapping[str, str] = field(default_factory=dict)

    def artifact(self, quantized: Mapping[str, Tensor]) -> Artifact:
        """Return the artifact with these tensors in place of the matrices."""
        formatted = {name: self._in_format(name, tensor) for name, tensor in quantized.items()}
        every = {**self.others, **formatted}
        return Artifact(self.config, {name: every[name] for name in self.order})

    def _in_format(self, name: str, tensor: Tensor) -> Tensor:
        """Return codes that decode to the model's own float format; floats stay as they are."""
        if name not in self.logical or not isinstance(tensor, QuantizedTensor):
            return tensor
        return replace(tensor, logical=self.logical[name])

    def with_fixed(self, tensors: Mapping[str, Tensor]) -> Contents:
        """Return contents that store `tensors` verbatim and leave only the rest to be quantized."""
        matrices = {name: w for name, w in self.matrices.items() if name not in tensors}
        return replace(self, matrices=matrices, others={**self.others, **tensors})

    def only(self, names: Iterable[str]) -> Contents:
        """Return contents that are the named matrices and nothing else, of a file that says no more."""
        matrices = {name: self.matrices[name] for name in names}
        order = tuple(name for name in self.order if name in matrices)
        return replace(self, matrices=matrices, others={}, order=order, config={})


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Quantizer of a model's matrices at any scale; copies share what does not depend on it."""

    contents: Contents
    curvature: Curvature
    n_states: int
    coder: Coder

    def with_states(self, n_states: int) -> Quantizer:
        """Return a copy that quantizes with a trellis of `n_states` states."""
        return replace(self, n_states=n_states)

    def with_fixed(self, tensors: Mapping[str, Tensor]) -> Quantizer:
        """Return a copy that stores `tensors` verbatim and quantizes only the rest."""
        return replace(self, contents=self.contents.with_fixed(tensors))

    def only(self, names: Iterable[str]) -> Quantizer:
        """Return a copy that quantizes the named matrices, whose file holds nothing else."""
        return replace(self, contents=self.contents.only(names))

    def with_contents(self, contents: Contents) -> Quantizer:
        """Return a copy that quantizes other values of the same matrices, with the same curvature."""
        curvature = self.curvature.with_matrices(contents.matrices)
        return replace(self, contents=contents, curvature=curvature)

    def with_hessians(self, hessians: Mapping[str, Float32]) -> Quantizer:
        """Return a copy for other inputs of some matrices (`Curvature.with_hessians`)."""
        return replace(self, curvature=self.curvature.with_hessians(hessians))

    @property
    def weight_counts(self) -> dict[str, int]:
        """Number of weights of each matrix."""
        return {name: weights.size for name, weights in self.contents.matrices.items()}

    def quantize(self, scales: Mapping[str, float]) -> dict[str, StoredMatrix]:
        """Return matrices at their scales, on all cores; COARSEST (∞) stands for zeros."""
        # the largest first, so that no core is left with it at the end
        names = sorted(scales, key=lambda name: -self.contents.matrices[name].size)
        kept_matrices = in_order(
            lambda name: self.coder.find(name, scales[name], self.n_states), names
        )
        matrices = dict(zip(names, kept_matrices, strict=True))
        missing = [name for name, matrix in matrices.items() if matrix is None]
        if missing:
            # computed here, before the threads share it
            prepared = self.curvature.prepared
            stored = in_order(lambda name: self._quantized(name, scales[name], prepared), missing)
            matrices.update(zip(missing, stored, strict=True))
        return matrices

    def _quantized(self, name: str, scale: float, prepared: Prepared) -> StoredMatrix:
        weights = self.contents.matrices[name]
        if scale == COARSEST:
            return self.coder.code(name, scale, self.n_states, _zeros(weights.shape))
        steps = prepared.steps(name, weights, scale)
        bits = expected_bits(weights, steps) / max(weights.size, 1)
        if bits <= FLOATS_FROM:
            try:
                options = TrellisOptions(
                    prepared.rows[name], self.n_states, step_format=STEP_FORMAT
                )
                trellis = trellis_gptq(
                    weights, prepared.factors[name], steps.rows, steps.columns, options
                )
                return self.coder.code(name, scale, self.n_states, trellis.tensor)
            except BadData:
                # a weight of more steps than codes count is stored as a float, one that is not finite
                # is an error
                if not np.isfinite(weights).all():
                    raise
        mantissa = min(max(bits - prepared.heads[name], 0.0), float(MANTISSA))
        return StoredMatrix(RawTensor(to_bits(round_mantissas(weights, mantissa), "fp32"), "fp32"))

    def measure(self, matrices: Mapping[str, StoredMatrix]) -> int:
        """Return the bytes of the file with these matrices."""
        return len(self.encode(matrices))

    def encode(self, matrices: Mapping[str, StoredMatrix]) -> bytes:
        """Return the file with these matrices; codes are not coded again."""
        codes: CodeStreams = {
            name: matrix.coded for name, matrix in matrices.items() if matrix.coded is not None
        }
        tensors = {name: matrix.tensor for name, matrix in matrices.items()}
        floats = any(isinstance(tensor, RawTensor) for tensor in tensors.values())
        return self.coder.file(self.contents.artifact(tensors), codes, floats)

    def estimate(self, scale: float, names: Iterable[str] | None = None) -> float:
        """Return roughly the bytes of the named matrices at a scale; of all where none are named."""
        named = self.contents.matrices if names is None else names
        return sum(self._expected_bits(name, scale) for name in named) / 8

    def _expected_bits(self, name: str, scale: float) -> float:
        weights, prepared = self.contents.matrices[name], self.curvature.prepared
        most = (MANTISSA + prepared.heads[name]) * weights.size
        return min(expected_bits(weights, prepared.steps(name, weights, scale)), most)


def _zeros(shape: tuple[int, ...]) -> QuantizedTensor:
    """Return a matrix of zeros: the fewest bytes that a matrix can have."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    ones = to_bits(np.ones(rows, np.float32), STEP_FORMAT)
    return QuantizedTensor(np.zeros((rows, columns), np.int8), ones, shape, step_format=STEP_FORMAT)
