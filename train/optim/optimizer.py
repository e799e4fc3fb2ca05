"""Optimizers: Muon for the blocks' matrices, AdamW for embeddings, head and small parameters.

Matrices of one shape form a bank. Of each bank a rank owns a share: it alone keeps the momentum and
orthogonalises there. A step is: banks and the other gradients on their way to the sums (all at once),
the common norm, then bank by bank orthogonalise and send back while the next is computed; AdamW runs
while the last updates travel. Source: "Parallel Muon" of the record entries (#1060 and later).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from squeeze.ranks.group import Ranks, Wait
from squeeze.train.model.native import has_bf16
from squeeze.train.model.shapes import group_of
from squeeze.train.optim.recipe import Recipe

Named = dict[str, Tensor]
Coefficients = tuple[tuple[float, float, float], ...]

NEWTON_SCHULZ: Coefficients = ((3.4445, -4.7750, 2.0315),)
# optimal polynomials for singular values in [1e-3, 1], in the order they are applied; the last is
# repeated (Amsel et al., "The Polar Express", arXiv 2505.16932, list 1)
_POLAR: Coefficients = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.875, -1.25, 0.375),
)
# divides the input of every step: a singular value that rounding pushes 3 % past the range of a
# polynomial comes out of the next three times as large, and of the one after out of all bounds
POLAR_MARGIN = 1.02
POLAR_EXPRESS: Coefficients = tuple(
    (a / POLAR_MARGIN, b / POLAR_MARGIN**3, c / POLAR_MARGIN**5) for a, b, c in _POLAR
)


def orthogonalize(
    matrices: Tensor,
    coefficients: Coefficients = NEWTON_SCHULZ,
    steps: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Push the singular values of matrices [n, rows, cols] towards 1, keeping their vectors.

    Each step is an odd quintic in the matrix, computed in `dtype`. Five steps of the constant
    Newton–Schulz coefficients leave singular values in about 0.7…1.2, which is all Muon needs (Keller
    Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon); `POLAR_EXPRESS` converges.
    """
    x = matrices.to(dtype)
    wide = x.size(-1) >= x.size(-2)
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Bank:
    """Matrices [rows, cols] of one shape, and this rank's share of Muon's state for them.

    gradients: of all matrices, padded with zeros so that the shares are equal [world·n, rows, cols]
    share: this rank's part of their mean over the ranks [n, rows, cols]
    averages: momentum of the share
    used: numbers of the matrices that have a gradient in this step

    Gradients and directions travel between ranks in the dtype `exchange`.
    """

    def __init__(
        self, matrices: list[Tensor], ranks: Ranks, exchange: torch.dtype = torch.float32
    ) -> None:
        self.matrices, self.ranks = matrices, ranks
        each = -(-len(matrices) // ranks.world)
        rows, cols = matrices[0].shape
        alone = ranks.world == 1
        dtype = matrices[0].dtype if alone else exchange
        # zeros behind the last matrix make the shares equal
        self.gradients = matrices[0].new_zeros(each * ranks.world, rows, cols, dtype=dtype)
        self.share = self.gradients if alone else self.gradients.new_zeros(each, rows, cols)
        self.averages = torch.zeros_like(self.share, dtype=matrices[0].dtype)  # momentum
        self.used: list[int] = []  # matrices with a gradient in this step
        self.scale = max(1.0, rows / cols) ** 0.5  # as in the challenge's baseline

    def reduce(self) -> Wait:
        """Take the matrices' gradients and begin averaging them over the ranks, into `share`."""
        self.used = [row for row, matrix in enumerate(self.matrices) if matrix.grad is not None]
        gradients = [
            torch.zeros_like(matrix) if matrix.grad is None else matrix.grad
            for matrix in self.matrices
        ]
        own = self.gradients[: len(gradients)]
        if own.dtype == gradients[0].dtype:
            torch.stack(gradients, out=own)
        else:
            torch._foreach_copy_(list(own.unbind()), gradients)
        for matrix in self.matrices:
            matrix.grad = None
        if self.ranks.world > 1:
            self.gradients.div_(self.ranks.world)
        return self.ranks.sum_shares(self.gradients, self.share)

    def update(self, momentum: float, recipe: Recipe, dtype: torch.dtype) -> tuple[Tensor, Wait]:
        """Return the orthogonalised Nesterov direction of all matrices [n, rows, cols], and its `Wait`.

        dtype: what the orthogonalisation is computed in
        """
        mean = self.share.to(self.averages.dtype)
        self.averages.lerp_(mean, 1.0 - momentum)
        ahead = mean.lerp(self.averages, momentum)
        if recipe.row_normalize:
            ahead.div_(ahead.norm(dim=-1, keepdim=True).add_(1e-7))
        coefficients = NEWTON_SCHULZ
        if recipe.orthogonalizer == "polar-express":
            coefficients = POLAR_EXPRESS
        share = orthogonalize(ahead, coefficients, recipe.orthogonalizer_steps, dtype)
        if self.ranks.world == 1:
            return share, lambda: None
        whole = torch.empty_like(self.gradients)
        return whole, self.ranks.gather(whole, share.to(whole.dtype))

    def apply(self, update: Tensor, lr: float, decay: float) -> None:
        """Apply decoupled weight decay, then the step; matrices that the forward did not use stay."""
        if not self.used:
            return
        matrices = [self.matrices[row] for row in self.used]
        if decay:
            torch._foreach_mul_(matrices, 1.0 - lr * decay)
        steps = [update[row].to(matrices[0].dtype) for row in self.used]
        torch._foreach_add_(matrices, steps, alpha=-lr * self.scale)


class Optimizer:
    """Muon and AdamW over all parameters of a model, for one rank of many.

    `step` expects the gradients of this rank's share of the batch; afterwards all ranks hold the same
    weights. The recipe has the `peaks` of the rates, each step brings the factor of the schedule.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, Tensor]],
        recipe: Recipe,
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
    ) -> None:
        self.recipe, self.ranks = recipe, ranks
        matrices, tables, head, small = split_parameters(named)
        by_shape: dict[torch.Size, list[str]] = defaultdict(list)
        for name, matrix in matrices.items():
            by_shape[matrix.shape].append(name)
        self.bank_names = sorted(by_shape.values(), key=lambda names: -matrices[names[0]].numel())
        exchange = torch.bfloat16 if recipe.exchange == "bf16" else torch.float32
        self.banks = [
            Bank([matrices[name] for name in names], ranks, exchange) for names in self.bank_names
        ]
        groups = [
            (tables, recipe.table_lr, recipe.table_decay),
            (head, recipe.head_lr or recipe.table_lr, recipe.table_decay),
            (small, recipe.small_lr, recipe.small_decay),
        ]
        groups = [group for group in groups if group[0]]
        self.rest = {name: weight for group, _, _ in groups for name, weight in group.items()}
        self.peaks = [lr for _, lr, _ in groups]
        self.adam = torch.optim.AdamW(
            [{"params": list(g.values()), "lr": lr, "weight_decay": wd} for g, lr, wd in groups],
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.epsilon,
            fused=True,
        )
        device = next(iter(self.rest.values())).device
        half = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
        half = half or (recipe.precision == "native" and has_bf16(device))
        self.dtype = torch.bfloat16 if half else torch.float32

    @torch.no_grad()
    def step(self, rate: float, momentum: float) -> Tensor:
        """Update every weight, drop the gradients, and return their norm before clipping, float32 [].

        With `clip_locally` it is the norm of this rank's own gradients.
        """
        recipe, ranks = self.recipe, self.ranks
        own_norm = self._clip_own() if recipe.grad_clip and recipe.clip_locally else None
        waits = [bank.reduce() for bank in self.banks]
        rest = [weight for weight in self.rest.values() if weight.grad is not None]
        gradients = [weight.grad for weight in rest if weight.grad is not None]
        wait_rest = self._reduce_rest(gradients)
        squares = torch.zeros((), device=self.adam.param_groups[0]["params"][0].device)
        for bank, wait in zip(self.banks, waits, strict=True):
            wait()
            squares += bank.share.float().square().sum()
        ranks.sum_(squares)()
        wait_rest()
        if gradients:
            squares += (
                torch.stack(torch._foreach_norm([g.float() for g in gradients])).square().sum()
            )
        norm = squares.sqrt() if own_norm is None else own_norm
        if recipe.grad_clip and own_norm is None:
            factor = (recipe.grad_clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([*gradients, *(bank.share for bank in self.banks)], factor)
        updates = [bank.update(momentum, recipe, self.dtype) for bank in self.banks]
        for group, peak in zip(self.adam.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate
        self.adam.step()
        self.adam.zero_grad()
        for bank, (update, wait) in zip(self.banks, updates, strict=True):
            wait()
            bank.apply(update, recipe.matrix_lr * rate, recipe.matrix_decay)
        return norm

    def _clip_own(self) -> Tensor:
        """Clip the gradients of this rank; return their norm before, float32 []."""
        weights = [
            *self.rest.values(),
            *(matrix for bank in self.banks for matrix in bank.matrices),
        ]
        return torch.nn.utils.clip_grad_norm_(weights, self.recipe.grad_clip)

    def _reduce_rest(self, gradients: list[Tensor]) -> Wait:
        """Begin averaging the gradients that every rank holds whole, in one message for all."""
        if self.ranks.world == 1 or not gradients:
            return lambda: None
        flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(self.ranks.world)
        wait = self.ranks.sum_(flat)

        def finish() -> None:
            wait()
            parts = flat.split([gradient.numel() for gradient in gradients])
            views = [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
            torch._foreach_copy_(gradients, views)

        return finish

    def snapshot(self) -> dict[str, Tensor]:
        """Return all that the next step depends on besides weights, whole on every rank, by name."""
        tensors: dict[str, Tensor] = {}
        for names, bank in zip(self.bank_names, self.banks, strict=True):
            averages = self.ranks.gathered(bank.averages)
            tensors |= {f"muon.{name}": averages[i] for i, name in enumerate(names)}
        for name, weight in self.rest.items():
            for key, value in self.adam.state[weight].items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def load_state_(self, state: dict[str, Tensor]) -> None:
        """Continue from `snapshot()` on any number of ranks; raises KeyError when it is incomplete."""
        for names, bank in zip(self.bank_names, self.banks, strict=True):
            bank.averages.zero_()
            start = self.ranks.rank * len(bank.averages)
            for row, name in enumerate(names[start : start + len(bank.averages)]):
                bank.averages[row].copy_(state[f"muon.{name}"])
        self.adam.state.clear()
        for name, weight in self.rest.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"adam.step.{name}" in state:  # a weight that had no gradient yet has no state
                self.adam.state[weight] = {
                    key: state[f"adam.{key}.{name}"].to(weight.device, copy=True) for key in keys
                }


def split_parameters(named: Iterable[tuple[str, Tensor]]) -> tuple[Named, Named, Named, Named]:
    """Return (matrices of blocks, embeddings, untied head, everything smaller), each by name."""
    parts: dict[str, Named] = {"matrix": {}, "table": {}, "head": {}, "small": {}}
    for name, weight in named:
        parts["head" if name == "lm_head.weight" else group_of(name)][name] = weight
    return parts["matrix"], parts["table"], parts["head"], parts["small"]
