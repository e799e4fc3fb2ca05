"""The matrices of a model: every part of its parameters that is quantized as one.

A probe runs one forward and collects the uses of each parameter; the layout says which slices become
matrices, which of them read the same inputs, and what every other element is stored as.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from squeeze.calib.taps.marks import MARK, TOKENS
from squeeze.calib.taps.observer import Lookup
from squeeze.calib.taps.parts import WIDEST_INPUT, Positions, named, parts_of, pieces, within
from squeeze.calib.taps.products import Product
from squeeze.calib.taps.roles import Event, Sources, by_name, role_of_uses, roles_of
from squeeze.calib.taps.weights import Weight
from squeeze.tensors.matrices import Slice
from squeeze.tensors.roles import common_role, role_by_use

PRODUCT, LOOKUP, BOTH = "product", "lookup", "product+lookup"
SQUARES, UNUSED, FLOAT = "squared gradients", "never used", "float"


@dataclass(frozen=True)
class Matrix:
    """A part of a parameter that is quantized as one.

    name: of the tensor where it is all of it, else with a number: `bank[3]`
    how: PRODUCT, LOOKUP, BOTH or SQUARES: where its importance is from; UNUSED: it has none; FLOAT:
        it is used by nothing, and stays as it is
    owner: name of the first matrix that reads the same inputs, perhaps its own
    """

    name: str
    slice: Slice
    how: str
    role: str
    owner: str


@dataclass(frozen=True)
class Place:
    """Where a slice that a product uses lies in a matrix.

    rows, columns: positions in the matrix; None where the slice is all of it
    """

    matrix: str
    rows: Positions | None = None
    columns: Positions | None = None


@dataclass(frozen=True)
class Layout:
    """The matrices of a model by name, and the rest.

    places: of every slice that a product or lookup uses
    floats: why a tensor keeps floats, by name
    shapes: of every parameter
    head: name of the matrix whose product makes the output, or None
    table_rows: rows of the first table that tokens are looked up in, or None
    hidden: by the name of a matrix whose columns seem to be an mlp's hidden units, the matrices whose
        rows they are
    """

    matrices: Mapping[str, Matrix]
    places: Mapping[Slice, Place]
    floats: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    head: str | None = None
    table_rows: int | None = None
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def roles(self) -> dict[str, str]:
        """Role of each matrix and of each tensor that holds some, by its name or else by its use."""
        roles = {name: role_by_use(name, matrix.role) for name, matrix in self.matrices.items()}
        tensors: dict[str, list[str]] = {}
        for name, matrix in self.matrices.items():
            tensors.setdefault(matrix.slice.tensor, []).append(roles[name])
        return {name: common_role(inside) for name, inside in tensors.items()} | roles

    def of_tensor(self, name: str) -> list[Matrix]:
        """Return the matrices of a parameter."""
        return [matrix for matrix in self.matrices.values() if matrix.slice.tensor == name]

    @property
    def head_rows(self) -> int | None:
        """Rows of the head, of which a model may cut some off its outputs; None where there is none."""
        return None if self.head is None else self.matrices[self.head].slice.shape[0]


@dataclass
class _Uses:
    """Uses of one slice.

    inputs: what it was multiplied with, each time
    results: names of the results of its products and lookups
    """

    inputs: list[object] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    looked_up: bool = False


@dataclass
class Probe:
    """Observer of one forward that collects the uses of every parameter.

    tokens: ids int64 [B, T] of the forward
    others: functions that use a parameter otherwise, by its name, and whether in more than one dimension
    table_rows: rows of the first table that tokens are looked up in; tables of what is derived from
        them, such as hashes of pairs, stand back
    """

    tokens: Tensor | None = None

    slices: dict[Slice, _Uses] = field(default_factory=dict)
    others: dict[str, dict[str, bool]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    table_rows: int | None = None
    by_tokens: bool = False
    # kept, so that no other tensor gets the identity of one that is gone
    activations: list[Tensor] = field(default_factory=list)

    def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
        """Note a product."""
        x, letters = product.activations, product.letters
        self.activations.append(x)
        for group, part in enumerate(product.slices):
            uses = self.slices.setdefault(part, _Uses())
            scaled = tuple(map(id, product.factors)) or None
            uses.inputs.append((id(x), letters.x, letters.w, group, scaled))
            uses.results.append(source)
        self.events.append(Event("product", source, (_sources(x),)))
        return output

    def on_lookup(self, lookup: Lookup, output: Tensor, source: str) -> Tensor:
        """Note a lookup."""
        uses = self.slices.setdefault(lookup.slice, _Uses())
        uses.looked_up = True
        if not self.by_tokens and _sources(lookup.ids) == TOKENS.sources:
            self.by_tokens = self.tokens is not None and _same_ids(lookup.ids, self.tokens)
            if self.by_tokens or self.table_rows is None:
                self.table_rows = lookup.slice.shape[0]
        uses.results.append(source)
        self.events.append(Event("lookup", source, (_sources(lookup.ids),)))
        return output

    def on_other(self, weight: Weight, function: str) -> None:
        """Note another use."""
        wide = sum(size > 1 for size in weight.view.shape) > 1
        functions = self.others.setdefault(weight.tensor, {})
        functions[function] = functions.get(function, False) or wide

    def on_activation(self, function: str, sources: list[frozenset[str]], result: str) -> None:
        """Note a function that tells what its arguments are for."""
        self.events.append(Event(function, result, tuple(sources)))

    def layout(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        logits: Tensor | None,
        idle: Container[str] = (),
    ) -> Layout:
        """Return the layout of the parameters of these shapes.

        logits: the result of the forward
        idle: names of parameters that are known to be in no use; others that nothing uses keep floats
        """
        made_by = frozenset() if logits is None else _sources(logits)
        roles, head = roles_of(self.events, made_by), None
        matrices: dict[str, Matrix] = {}
        places: dict[Slice, Place] = {}
        floats: dict[str, str] = {}
        owners: dict[object, str] = {}
        products: dict[str, list[str]] = {}
        for name, shape in shapes.items():
            parts = parts_of(name, shape, [s for s in self.slices if s.tensor == name])
            others = self.others.get(name, {})
            derived = ", ".join(function for function, wide in others.items() if wide)
            if len(shape) < 2 or min(shape) == 0:
                floats[name] = "of one dimension" if prod(shape) else "empty"
            elif parts is None and not others and name in idle:
                matrices[name] = Matrix(name, Slice.whole(name, shape), UNUSED, by_name(name), name)
            elif parts is None and not others:
                floats[name] = UNUSED
            elif parts is None and not derived:
                floats[name] = "used entry by entry"
            elif parts is None or derived:
                cut = pieces(name, shape)
                if cut[0].shape[1] > WIDEST_INPUT:
                    floats[name] = "too wide"
                    continue
                for part, label in named(name, shape, cut):
                    matrices[label] = Matrix(label, part, SQUARES, by_name(name), label)
            else:
                for part, label in named(name, shape, parts):
                    uses = _merged(self.slices[inner] for inner in parts[part])
                    places.update(_places(label, part, parts[part]))
                    key = tuple(uses.inputs) if len(parts[part]) == 1 and uses.inputs else label
                    how = BOTH if uses.looked_up and uses.inputs else PRODUCT
                    how = LOOKUP if uses.looked_up and not uses.inputs else how
                    # a part that nothing uses, of a tensor of which other parts are used
                    how = how if uses.results else FLOAT
                    role = role_of_uses(roles, uses.results, name)
                    owner = owners.setdefault(key, label)
                    matrices[label] = Matrix(label, part, how, role, owner)
                    if how == PRODUCT and parts[part] == [part]:
                        products[label] = uses.results
                    # alone among the sources, and one matrix: no group of them
                    alone = len(made_by) == 1 and made_by <= set(uses.results)
                    head = label if alone and len(parts) == 1 else head
        hidden = dict(self._hidden(matrices, products))
        return Layout(matrices, places, floats, shapes, head, self.table_rows, hidden)

    def _hidden(
        self, matrices: Mapping[str, Matrix], products: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield matrices that read an mlp's hidden units, with those that make them.

        products: names of the results of each matrix that is multiplied whole
        """
        made_by = {result: name for name, results in products.items() for result in results}
        read = {event.result: event.sources[0] for event in self.events if event.kind == "product"}
        for name, results in products.items():
            makers = {made_by.get(source) for result in results for source in read[result]}
            known = [maker for maker in makers if maker is not None]
            width = matrices[name].slice.shape[1]
            fit = all(matrices[maker].slice.shape[0] == width for maker in known)
            if matrices[name].role == "down" and known and len(known) == len(makers) and fit:
                yield name, tuple(sorted(known))


def plain_layout(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Return the layout of tensors whose use is unknown: their last dimensions are matrices."""
    matrices: dict[str, Matrix] = {}
    floats = {name: "of one dimension" for name, shape in shapes.items() if len(shape) < 2}
    for name, shape in shapes.items():
        if name not in floats and 0 not in shape:
            for part, label in named(name, shape, pieces(name, shape)):
                matrices[label] = Matrix(label, part, SQUARES, by_name(name), label)
    return Layout(matrices, {}, floats, shapes)


def _same_ids(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.flatten().long(), other.flatten().long())


def _sources(tensor: Tensor) -> Sources:
    sources: Sources = getattr(tensor, MARK, TOKENS).sources
    return sources


def _merged(uses: Iterable[_Uses]) -> _Uses:
    every = list(uses)
    return _Uses(
        [key for use in every for key in use.inputs],
        [result for use in every for result in use.results],
        any(use.looked_up for use in every),
    )


def _places(label: str, part: Slice, used: Iterable[Slice]) -> Iterator[tuple[Slice, Place]]:
    for inner in used:
        choice = None if inner == part else within(inner, part)
        yield inner, Place(label) if choice is None else Place(label, *choice)
