"""The logits of a module, by whichever of the field's conventions its forward returns them.

In this order: a function of the script, `logits(module, ids)`; a method `forward_logits(ids)`; a forward
of ids alone that returns the logits, also first in a tuple, under `logits` of an object or of a mapping;
and the challenge baseline's `forward(ids, targets)` that returns the mean loss: there the logits are
what the loss was computed from, and both are compared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from squeeze.errors import BadCheckpoint

Forward = Callable[[nn.Module, Tensor], Tensor]
METHOD = "forward_logits"
TOLERANCE = 1e-3  # nats between the loss a forward returned and that of its logits, in 16 bits
FIX = "Write a function logits(module, ids) beside the model that returns them, [B, T, vocabulary]."


def forward_of(module: nn.Module, given: Forward | None = None) -> Forward:
    """Return the function (module, ids [B, T]) → logits [B, T, V] of a module.

    given: a function of the user that does so

    Raises BadCheckpoint when the forward asks for more than ids and targets.
    """
    if given is not None:
        return given
    if callable(getattr(module, METHOD, None)):
        return lambda model, ids: first_tensor(getattr(model, METHOD)(ids))
    asked = _required(module.forward)
    if asked is None or len(asked) == 1:
        return _of_ids
    if len(asked) == 2:
        return _of_loss
    raise BadCheckpoint(
        "the model's forward asks for more than squeeze knows",
        expected="forward(ids) or forward(ids, targets)",
        found=f"forward({', '.join(asked)})",
        fix=FIX,
    )


def first_tensor(returned: Any) -> Tensor:
    """Return the logits in whatever a forward returned. Raises BadCheckpoint when there are none."""
    logits = returned
    if isinstance(returned, Mapping):
        logits = returned.get("logits", next(iter(returned.values()), None))
    elif hasattr(returned, "logits"):
        logits = returned.logits
    elif isinstance(returned, tuple | list):
        logits = returned[0] if returned else None
    if not isinstance(logits, Tensor):
        raise BadCheckpoint(
            "the model's forward returns no logits",
            expected="a tensor, or one first in a tuple",
            found=_kind(returned),
            fix=FIX,
        )
    return logits


def check_logits(logits: Tensor, ids: Tensor) -> Tensor:
    """Return logits in float32. Raises BadCheckpoint unless they are finite [B, T, V] of ids [B, T]."""
    if logits.dim() != 3 or logits.shape[:2] != ids.shape or not logits.is_floating_point():
        raise BadCheckpoint(
            "the model's forward returns no logits",
            expected=f"floats [{ids.size(0)}, {ids.size(1)}, vocabulary]",
            found=f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}",
            fix=FIX,
        )
    if not bool(logits.isfinite().all()):
        raise BadCheckpoint(
            "the model's logits are not numbers", expected="finite logits", found="NaN or infinity"
        )
    return logits.float()


def _of_ids(module: nn.Module, ids: Tensor) -> Tensor:
    logits = first_tensor(module(ids))
    # with targets a forward of nanoGPT's kind returns the logits of all tokens, not of the last alone
    alone = logits.dim() == 3 and logits.size(1) == 1 < ids.size(1)
    return first_tensor(module(ids, ids)) if alone else logits


class _Losses(TorchFunctionMode):
    """Mode that keeps what every cross-entropy was computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function; keep the first argument of a cross-entropy."""
        kwargs = kwargs or {}
        if func is F.cross_entropy:
            self.logits.append(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)


def _of_loss(module: nn.Module, ids: Tensor) -> Tensor:
    with _Losses() as losses:
        loss = module(ids, ids)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or len(losses.logits) != 1:
        raise BadCheckpoint(
            "the model's forward(ids, targets) shows no logits",
            expected="the mean loss, from one cross_entropy",
            found=f"{_kind(loss)}, from {len(losses.logits)} of them",
            fix=FIX,
        )
    (logits,) = losses.logits
    if logits.numel() % ids.numel() or logits.size(-1) * ids.numel() != logits.numel():
        raise BadCheckpoint(
            "the model's loss is not over every token",
            expected=f"logits of {ids.numel()} tokens",
            found=list(logits.shape),
            fix=FIX,
        )
    logits = logits.reshape(*ids.shape, -1)
    with torch.no_grad():
        own = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
        if bool((own - loss).abs() > TOLERANCE * (1 + loss.abs())):
            raise BadCheckpoint(
                "the model's loss is not the cross-entropy of its logits",
                expected=f"{float(own):.5f}",
                found=f"{float(loss):.5f}",
                fix=FIX,
            )
    return logits


def _required(forward: Any) -> list[str] | None:
    """Return the names of the arguments that a forward needs, None when its signature is hidden.

    A forward that can do without any, as transformers' can, still needs its first.
    """
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in parameters if p.kind not in kinds]
    needed = [p.name for p in named if p.default is p.empty] or [p.name for p in named[:1]]
    # a wrapper, as DataParallel or a decorator, takes *args alone
    return needed or None


def _kind(returned: object) -> str:
    if isinstance(returned, tuple | list):
        kinds = ", ".join(_kind(value) for value in returned[:4])
        return (
            f"{type(returned).__name__} of {kinds}" if kinds else f"empty {type(returned).__name__}"
        )
    if isinstance(returned, Tensor):
        return f"tensor {list(returned.shape)}"
    return type(returned).__name__
