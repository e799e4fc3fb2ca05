"""Curvature of a model's matrices, in the form that quantizing them at any scale starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from squeeze.artifact.streams import Tensor, in_order
from squeeze.calib.allocation.waterfill import (
    Steps,
    expected_loss,
    waterfill,
    waterfill_cheaply,
)
from squeeze.calib.quantizers.mantissa import head_bits
from squeeze.calib.quantizers.row_feedback import RowFeedback, row_feedback
from squeeze.calib.statistics.curvature import DAMPING, Factor, factorize
from squeeze.calib.statistics.fisher import OutputGradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.tensors.floats import Float32


@dataclass(frozen=True)
class Prepared:
    """Derived values of each matrix that do not depend on its scale, by name.

    factors: factorized Hessian of the inputs
    rows: feedback between the rows
    heads: bits a weight of sign and exponent, where the weights stay floats
    """

    factors: Mapping[str, Factor]
    rows: Mapping[str, RowFeedback]
    heads: Mapping[str, float]

    def steps(self, name: str, weights: Float32, scale: float) -> Steps:
        """Return the water-filled steps of a matrix at a scale."""
        return waterfill(weights, self.factors[name], self.rows[name].importance, scale)


@dataclass(frozen=True, eq=False)
class Curvature:
    """Curvature of the loss in each matrix, by name, and the matrices.

    matrices: weights float32 [R, C]
    hessians: mean outer product of the inputs, float32 [C, C]
    gradients: of the R outputs, as `OutputGradients.best` has them
    damping: of the Hessians, a share of their mean diagonal
    """

    matrices: Mapping[str, Float32]
    hessians: Mapping[str, Float32]
    gradients: Mapping[str, Float32]
    damping: float = DAMPING

    @classmethod
    def of(
        cls,
        matrices: Mapping[str, Float32],
        hessians: Hessians,
        gradients: OutputGradients,
        damping: float = DAMPING,
    ) -> Curvature:
        """Return the curvature of these matrices; calibration must have seen all of them."""
        diagonals = {
            name: np.diag(shares).astype(np.float32) for name, shares in gradients.columns.items()
        }
        return cls(
            matrices,
            {name: (diagonals | hessians.matrices)[name] for name in matrices},
            {name: gradients.best(name) for name in matrices},
            damping,
        )

    @cached_property
    def prepared(self) -> Prepared:
        """Derived values, computed on all cores when first asked for: not from several threads."""
        feedback = in_order(row_feedback, list(self.gradients.values()))
        return Prepared(
            factors=self._factors(self.hessians),
            rows=dict(zip(self.gradients, feedback, strict=True)),
            heads={name: head_bits(weights) for name, weights in self.matrices.items()},
        )

    def _factors(self, hessians: Mapping[str, Float32]) -> dict[str, Factor]:
        # Queries, keys and values read one input: their Hessians are one array, factorized once.
        inputs = {id(hessian): hessian for hessian in hessians.values()}
        factors = in_order(lambda each: factorize(each, self.damping), list(inputs.values()))
        shared = dict(zip(inputs, factors, strict=True))
        return {name: shared[id(hessian)] for name, hessian in hessians.items()}

    def with_hessians(self, hessians: Mapping[str, Float32]) -> Curvature:
        """Return the curvature with other Hessians of some matrices, as their inputs have changed."""
        changed = replace(self, hessians={**self.hessians, **hessians})
        factors = {**self.prepared.factors, **self._factors(hessians)}
        changed.__dict__["prepared"] = replace(self.prepared, factors=factors)
        return changed

    def with_matrices(self, matrices: Mapping[str, Float32]) -> Curvature:
        """Return the curvature at other values of the matrices, near which it is about the same.

        The bits of floats, a part of `prepared`, stay those of the first values.
        """
        changed = replace(self, matrices={**self.matrices, **matrices})
        changed.__dict__["prepared"] = self.prepared  # the cache of the property
        return changed

    def loss(self, name: str, tensor: Tensor) -> float:
        """Return the expected nats per token that storing a matrix as `tensor` adds."""
        error = tensor.dequantize() - self.matrices[name]
        return expected_loss(
            error.reshape(len(error), -1), self.hessians[name], self.gradients[name]
        )


class CheapRows(Prepared):
    """The same, with cheap steps of rows; a script that ships the packer does without their code."""

    def steps(self, name: str, weights: Float32, scale: float) -> Steps:
        """Return the water-filled steps of a matrix at a scale, those of short rows in octaves."""
        return waterfill_cheaply(weights, self.factors[name], self.rows[name].importance, scale)


class CheapCurvature(Curvature):
    """The same, prepared for steps of rows that cost few bytes."""

    @cached_property
    def prepared(self) -> Prepared:
        """As `Curvature.prepared`."""
        plain = super().prepared
        return CheapRows(plain.factors, plain.rows, plain.heads)
