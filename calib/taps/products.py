"""Products of weights with activations, all in one form: y[g, n, out] = Σ x[g, n, in] · w[g, out, in].

Every dimension of the three tensors gets a letter, as in an einsum. A letter of w and x alone is an
input, one of w and y alone an output, one of all three a group (each is a matrix of its own), and one
of x and y alone counts applications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

from torch import Tensor

from squeeze.calib.taps.weights import Weight
from squeeze.tensors.matrices import Slice

Reshape = Callable[[Tensor], Tensor]


def as_it_is(tensor: Tensor) -> Tensor:
    """Return the tensor."""
    return tensor


@dataclass(frozen=True)
class Letters:
    """A product as an einsum: the letters of the dimensions of x, w and y.

    x_shape, y_shape: give a tensor the dimensions that have letters
    """

    x: str
    w: str
    y: str
    x_shape: Reshape = as_it_is
    y_shape: Reshape = as_it_is


@dataclass(frozen=True)
class Product:
    """One product of a forward: matrices of a parameter, applied to activations.

    slices: the matrices [out, in], one a group
    activations: the tensor that is multiplied
    letters: of all three tensors, those of w in the order groups, outputs, inputs
    groups: number of letters that are groups
    factors: tensors that multiply the weights, with the dimensions of the letters of w
    """

    slices: tuple[Slice, ...]
    activations: Tensor
    letters: Letters
    groups: int
    factors: tuple[Tensor, ...] = ()

    def inputs(self) -> Tensor:
        """Return the inputs [groups, n, in], each times the factors of its column."""
        x = self.letters.x_shape(self.activations)
        x = _arranged(x, self.letters.x, self._group_letters, self._letters_of("xw"))
        for factor in self.factors:
            if self._constant_along(factor, "wy"):
                x = x * self._vector(factor, "xw").to(x.dtype)
        return x

    def outputs(self, y: Tensor) -> Tensor:
        """Return outputs or their gradients [groups, n, out], each times the factors of its row.

        y: of the shape of the product's result
        """
        y = self.letters.y_shape(y)
        y = _arranged(y, self.letters.y, self._group_letters, self._letters_of("wy"))
        for factor in self.factors:
            if not self._constant_along(factor, "wy"):
                y = y * self._vector(factor, "wy").to(y.dtype)
        return y

    @property
    def separable(self) -> bool:
        """True when every factor is one of rows or one of columns."""
        return all(
            self._constant_along(factor, "wy") or self._constant_along(factor, "xw")
            for factor in self.factors
        )

    @property
    def _group_letters(self) -> str:
        return self.letters.w[: self.groups]

    def _letters_of(self, tensors: str) -> str:
        """Return the letters of the inputs ("xw") or of the outputs ("wy"), in the order of w."""
        other = self.letters.y if tensors == "xw" else self.letters.x
        return "".join(c for c in self.letters.w[self.groups :] if c not in other)

    def _constant_along(self, factor: Tensor, tensors: str) -> bool:
        dims = [self.letters.w.index(letter) for letter in self._letters_of(tensors)]
        return all(factor.size(dim) == 1 or factor.stride(dim) == 0 for dim in dims)

    def _vector(self, factor: Tensor, tensors: str) -> Tensor:
        """Return the factor [groups, 1, in or out] of the columns ("xw") or rows ("wy")."""
        keep = self._group_letters + self._letters_of(tensors)
        at = tuple(slice(None) if letter in keep else 0 for letter in self.letters.w)
        return factor.detach()[at].reshape(len(self.slices), 1, -1)


def product_of(weight: Weight, x: Tensor, y: Tensor, letters: Letters) -> Product | None:
    """Return a product in the common form.

    x, y: the activations and the result of the call
    letters: of x, of the weight's view and of y

    None where w or x is summed without the other, and where weights are scaled entry by entry.
    """
    x_sizes = _sizes(letters.x_shape(x), letters.x)
    y_sizes = _sizes(letters.y_shape(y), letters.y)
    strides = dict(zip(letters.w, weight.view.stride(), strict=True))
    sizes = dict(zip(letters.w, weight.view.shape, strict=True))
    if len(strides) < len(letters.w):
        return None
    # a dimension of one entry has no part in a sum; one that repeats the weights only counts
    used = {c for c in letters.w if sizes[c] > 1 and not (strides[c] == 0 and c in y_sizes)}
    in_x = {c for c, size in x_sizes.items() if size > 1}
    in_y = {c for c, size in y_sizes.items() if size > 1}
    if used - in_x - in_y or in_x - used - in_y:
        return None
    # in the order of the storage, so that equal matrices are equal slices
    order = sorted(used, key=lambda letter: -strides[letter])
    groups = [c for c in order if c in in_x and c in in_y]
    rows = [c for c in order if c not in in_x]
    columns = [c for c in order if c not in in_y]
    written = [*groups, *rows, *columns]
    dims = [letters.w.index(c) for c in written]
    at = [slice(None) if c in used else 0 for c in letters.w]
    kept = [c for c in letters.w if c in used]
    order_of_kept = [kept.index(c) for c in written]
    slices = tuple(
        weight.slice_of(
            dims[len(groups) : len(groups) + len(rows)],
            dims[len(groups) + len(rows) :],
            sum(step * strides[c] for step, c in zip(steps, groups, strict=True)),
        )
        for steps in product(*(range(sizes[c]) for c in groups))
    )
    form = Letters(letters.x, "".join(written), letters.y, letters.x_shape, letters.y_shape)
    factors = tuple(factor[tuple(at)].permute(order_of_kept) for factor in weight.factors)
    made = Product(slices, x, form, len(groups), factors)
    return made if made.separable else None


def _sizes(tensor: Tensor, letters: str) -> dict[str, int]:
    return dict(zip(letters, tensor.shape, strict=True))


def _arranged(tensor: Tensor, letters: str, groups: str, last: str) -> Tensor:
    """Return a tensor [groups, all other dimensions, last].

    groups, last: letters; dimensions of one entry may have any letter
    """
    first = [letters.index(c) for c in groups if c in letters]
    behind = [letters.index(c) for c in last if c in letters]
    middle = [dim for dim in range(len(letters)) if dim not in {*first, *behind}]
    moved = tensor.permute(*first, *middle, *behind)
    sizes = moved.shape
    return moved.reshape(prod(sizes[: len(first)]), -1, prod(sizes[len(first) + len(middle) :]))
