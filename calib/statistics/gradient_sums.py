"""Sums of squared gradients over the backward passes of a text, and the observer that feeds them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.calib.parallel import one_thread
from squeeze.calib.statistics.divergence import Categorical, Divergence
from squeeze.calib.statistics.hessian import Float32
from squeeze.calib.statistics.tapped import TappedModel
from squeeze.calib.taps.layout import BOTH, LOOKUP, PRODUCT, SQUARES, UNUSED, Matrix
from squeeze.calib.taps.observer import Lookup
from squeeze.calib.taps.products import Product
from squeeze.calib.taps.weights import Weight
from squeeze.errors import BadCheckpoint

WIDEST = 1024  # outputs up to which all of G is kept: beyond, rows are hardly correlated
# Share of the mean in sums of squared gradients of weights: a block of text is one draw, and rows that
# the draws do not reach may still be divided by.
SHRINKAGE = 0.25
ELEMENTWISE = 1e-4  # relative error up to which outputs count as functions of one logit each


class GradientSums:
    """Sums by matrix name; the tensors of a kind are there for the matrices that need them.

    outputs: of the gradients at a product's outputs, their outer products [out, out] or squares [out]
    lookups: squares of the gradients at the rows that are looked up, and how often each was [rows, 2]
    energy: Σ |x|² of the inputs of a matrix that is also looked up
    squares: sums of the squared gradients of the weights over columns [rows] and over rows [columns]
    """

    def __init__(self, model: TappedModel) -> None:
        self.model = model
        matrices, device = model.layout.matrices.values(), model.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        self.outputs = {
            m.name: zeros(*(m.slice.shape[0],) * (2 if _keeps_products(m, model) else 1))
            for m in matrices
            if m.how in (PRODUCT, BOTH)
        }
        looked_up = [m for m in matrices if m.how in (LOOKUP, BOTH)]
        self.lookups = {m.name: zeros(m.slice.shape[0], 2) for m in looked_up}
        self.energy = {m.name: zeros() for m in looked_up if m.how == BOTH}
        self.squares = {
            m.name: (zeros(m.slice.shape[0]), zeros(m.slice.shape[1]))
            for m in matrices
            if m.how == SQUARES
        }

    @property
    def trained(self) -> frozenset[str]:
        """Parameters whose own gradients are needed."""
        matrices = self.model.layout.matrices
        return frozenset(matrices[name].slice.tensor for name in self.squares)

    def tensors(self) -> list[Tensor]:
        """Return all sums, in one order."""
        pairs = [tensor for pair in self.squares.values() for tensor in pair]
        return [*self.outputs.values(), *self.lookups.values(), *self.energy.values(), *pairs]

    @torch.enable_grad()
    def add_block_(
        self, replica: nn.Module, ids: Tensor, divergence: Divergence, generator: torch.Generator
    ) -> None:
        """Run a replica forward and backward on ids int64 [B, T], and add the sums of its gradients."""
        hooks = _Hooks(self)
        output = self.model.run(replica, ids, hooks)
        flat = output.flatten(0, -2).float()
        if not flat.requires_grad:
            raise BadCheckpoint(
                "the model's output has no gradient",
                expected="a forward outside torch.no_grad and torch.inference_mode",
            )
        if not bool(flat.isfinite().all()):
            raise not_finite("logits")
        hooks.finish(flat, divergence)
        divergence.backward(flat, generator)
        self._add_squares(replica)

    def _add_squares(self, replica: nn.Module) -> None:
        weights = dict(replica.named_parameters())
        for name, (rows, columns) in self.squares.items():
            part = self.model.layout.matrices[name].slice
            gradient = weights[part.tensor].grad
            if gradient is not None:
                whole = gradient.contiguous()
                view = whole.as_strided(part.sizes, part.strides, part.offset)
                squares = view.float().reshape(part.shape).square()
                rows += squares.sum(1)
                columns += squares.sum(0)
        for weight in weights.values():
            weight.grad = None

    def means(self, tokens: int) -> tuple[dict[str, Float32], dict[str, Float32]]:
        """Return the means per token: of the outputs, and of columns, by matrix name.

        Raises BadCheckpoint for a gradient that is not finite.
        """
        matrices = self.model.layout.matrices
        reduced = {name: total / tokens for name, total in self.outputs.items()}
        energy = {name: total / tokens for name, total in self.energy.items()}
        for name, total in self.lookups.items():
            squares, visits = total.T
            lookups = squares / tokens
            if name in energy:
                reduced[name] = reduced[name] + lookups / energy[name].clamp_min(1e-30)
            else:
                expected = _with_unvisited(lookups, visits)
                reduced[name] = expected / matrices[name].slice.shape[1]
        for name, matrix in matrices.items():
            if matrix.how == UNUSED:
                reduced[name] = torch.zeros(matrix.slice.shape[0])
        columns = {}
        for name, (rows, sums) in self.squares.items():
            # rows · columns is the best product of that form; the mean of the columns is 1
            reduced[name] = _shrunk(rows) / tokens / len(sums)
            share = _shrunk(sums)
            columns[name] = share / share.mean().clamp_min(1e-30)
        for name, values in (*reduced.items(), *columns.items()):
            if not bool(values.isfinite().all()):
                raise not_finite(name)
        return (
            {name: reduced[name].cpu().numpy() for name in matrices if name in reduced},
            {name: values.cpu().numpy() for name, values in columns.items()},
        )


def _shrunk(squares: Tensor) -> Tensor:
    """Return sums of squares of few draws, moved towards their mean."""
    return SHRINKAGE * squares.mean() + (1 - SHRINKAGE) * squares


def _with_unvisited(squares: Tensor, visits: Tensor) -> Tensor:
    """Return sums of squares by row, a share of which goes to the rows that no token has looked up.

    Other text will: by as many of its tokens as rows were visited once in this one (Good and Turing).
    """
    unvisited = visits == 0
    # torch cuts long sums by the number of threads
    with one_thread():
        share = unvisited.any() * (visits == 1).sum() / visits.sum().clamp_min(1)
        mean = share * squares.sum() / unvisited.sum()
    return torch.where(unvisited, mean, (1 - share) * squares)


def _keeps_products(matrix: Matrix, model: TappedModel) -> bool:
    """Return whether all of G is kept: not of the head, whose own is known exactly by rows."""
    wide = matrix.slice.shape[0] > WIDEST or matrix.name == model.layout.head
    return matrix.how == PRODUCT and not wide


class _Hooks:
    """Observer of one forward that hangs hooks on the outputs of its products and lookups.

    last: the latest product of the head's matrix and its output; it may be the one that makes logits
    """

    def __init__(self, sums: GradientSums) -> None:
        self.sums, self.layout = sums, sums.model.layout
        self.last: tuple[Product, Tensor] | None = None

    def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
        """Hang a hook on a product's output."""
        output = _with_gradient(output)
        names = {place.matrix for part in product.slices if (place := self.layout.places.get(part))}
        for name in names & self.sums.energy.keys():
            self.sums.energy[name] += product.inputs().detach().float().square().sum()
        if self.layout.head in names:
            if self.last is not None:
                self._hang(*self.last)
            self.last = product, output
            # the forward may cap its logits in place
            return output.clone()
        elif names:
            self._hang(product, output)
        return output

    def on_lookup(self, lookup: Lookup, output: Tensor, source: str) -> Tensor:
        """Hang a hook on the rows that were looked up."""
        place = self.layout.places.get(lookup.slice)
        if place is None or place.matrix not in self.sums.lookups:
            return output
        total = self.sums.lookups[place.matrix]
        rows = lookup.ids.flatten()
        if place.rows is not None:
            rows = torch.from_numpy(place.rows).to(rows.device)[rows]

        def add(gradient: Tensor) -> None:
            squares = gradient.float().reshape(len(rows), -1).square().sum(-1)
            total.index_add_(0, rows, F.pad(squares[:, None], (0, 1), value=1.0))

        # the weights ask for no gradients: the graph starts here
        output = _with_gradient(output)
        output.register_hook(add)
        return output

    def on_other(self, weight: Weight, function: str) -> None:
        """Pass another use."""

    def on_activation(self, function: str, sources: list[frozenset[str]], result: str) -> None:
        """Pass a function of activations."""

    def _hang(self, product: Product, output: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            self._add(product, gradient)

        output.register_hook(add)

    def _add(self, product: Product, gradient: Tensor) -> None:
        for group, flat in enumerate(product.outputs(gradient).float()):
            place = self.layout.places.get(product.slices[group])
            total = None if place is None else self.sums.outputs.get(place.matrix)
            if total is None or place is None:
                continue
            if place.rows is not None:
                wide = flat.new_zeros(len(flat), len(total))
                flat = wide.index_copy_(1, torch.from_numpy(place.rows).to(flat.device), flat)
            if total.ndim == 2:
                total.addmm_(flat.T, flat)
            else:
                total.add_(flat.square().sum(0))

    def finish(self, output: Tensor, divergence: Divergence) -> None:
        """Add the head's own gradients, before the backward pass; output: [n, V], in the graph.

        Where each logit is a function of one output of the head (a cap, say), E[(δ_yv − p_v)²] over y
        is known exactly: no draw is needed.
        """
        if self.last is None:
            return
        product, logits = self.last
        # The graph holds its hooks, and they this observer: held here, it would never be freed, since
        # Python's collector does not see into it.
        self.last = None
        slope = _slope(output, logits) if isinstance(divergence, Categorical) else None
        if slope is None or self.layout.head is None:
            self._hang(product, logits)
            return
        shares = torch.softmax(output.detach(), -1)
        squares = shares * (1 - shares) * slope.reshape(shares.shape).square()
        total = self.sums.outputs[self.layout.head]
        total += product.outputs(squares.reshape(logits.shape))[0].sum(0)


def _with_gradient(output: Tensor) -> Tensor:
    """Return an output in the graph; a copy of a new leaf, which a forward may change in place."""
    return output if output.requires_grad else output.requires_grad_().clone()


def _slope(output: Tensor, logits: Tensor) -> Tensor | None:
    """Return the derivative of each output by its logit, None where they are no such pairs."""
    if output.numel() != logits.numel():
        return None
    ones = torch.ones_like(output)
    (slope,) = torch.autograd.grad(output, logits, ones, retain_graph=True)
    signs = torch.where(torch.arange(output.size(-1), device=output.device) % 3 == 0, 1.0, -1.0)
    (other,) = torch.autograd.grad(output, logits, ones * signs, retain_graph=True)
    expected = slope.reshape(output.shape) * signs
    error = (other.reshape(output.shape) - expected).abs().max()
    return slope.float() if bool(error <= ELEMENTWISE * slope.abs().max()) else None


def not_finite(name: str) -> BadCheckpoint:
    """Return the error of a gradient that is not a number."""
    return BadCheckpoint(
        f"the gradient of {name} is not a number",
        expected="finite gradients",
        found="NaN or infinity",
        fix="Resume training from an earlier checkpoint, or calibrate on other text.",
    )
