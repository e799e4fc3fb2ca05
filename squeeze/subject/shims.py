"""Exact equivalents of kernels that a script imports and this machine lacks.

FlashAttention becomes the softmax attention that it computes, in float32. Of any other missing module
only the import succeeds: calling a kernel of it is an error, never a wrong number.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.errors import BadCheckpoint

FLASH = ("flash_attn_interface", "flash_attn", "flash_attn_3")
Window = tuple[int, int]


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *args: Any,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softmax_scale: float | None = None,
    softcap: float = 0.0,
    **_: Any,
) -> Tensor:
    """Return attention [B, T, H, d]; q [B, T, H, d], k and v [B, S, KV, d], aligned at their ends.

    window_size: keys before and behind a query that it sees, -1 for all

    Raises BadCheckpoint for positional options, whose order differs between releases.
    """
    if args:
        raise BadCheckpoint("flash_attn_func is called with options that have no names")
    rows, columns = q.size(1), k.size(1)
    at = torch.arange(columns - rows, columns, device=q.device)[:, None]
    key = torch.arange(columns, device=q.device)
    mask = visible_keys(at, key, causal, window_size)
    return attend(q, k, v, mask, softmax_scale, softcap)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    *_: Any,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softmax_scale: float | None = None,
    softcap: float = 0.0,
    **__: Any,
) -> Tensor:
    """Return attention [n, H, d] within sequences that lie one after another, cut where told.

    q [n, H, d], k and v [m, KV, d]; cu_seqlens_q, cu_seqlens_k: where they begin, then the end
    """
    rows = torch.arange(q.size(0), device=q.device)
    columns = torch.arange(k.size(0), device=q.device)
    of_row = torch.searchsorted(cu_seqlens_q.long(), rows, right=True) - 1
    of_column = torch.searchsorted(cu_seqlens_k.long(), columns, right=True) - 1
    last = cu_seqlens_q.numel() - 2
    row_end = cu_seqlens_q.long()[of_row.clamp(max=last) + 1]
    column_end = cu_seqlens_k.long()[of_column.clamp(max=last) + 1]
    mask = visible_keys((rows - row_end)[:, None], columns - column_end, causal, window_size)
    mask = mask & (of_row[:, None] == of_column)
    return attend(q[None], k[None], v[None], mask, softmax_scale, softcap)[0]


def visible_keys(at: Tensor, key: Tensor, causal: bool, window: Window) -> Tensor:
    """Return the mask bool [T, S] that is True where a query at `at` [T, 1] sees `key` [S]."""
    before, behind = window
    mask = torch.ones(at.size(0), key.size(0), dtype=torch.bool, device=key.device)
    if causal:
        mask &= key <= at
    if before >= 0:
        mask &= key >= at - before
    if behind >= 0:
        mask &= key <= at + behind
    return mask


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None, softcap: float
) -> Tensor:
    """Return softmax attention in float32, in the dtype of q; heads in the third dimension."""
    queries, keys, values = (x.float().transpose(1, 2) for x in (q, k, v))
    if softcap:
        group = queries.size(1) // keys.size(1)
        keys, values = (x.repeat_interleave(group, 1) for x in (keys, values))
        scores = queries @ keys.mT * (scale or q.size(-1) ** -0.5)
        scores = softcap * torch.tanh(scores / softcap)
        mixed = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values
    else:
        shared = queries.size(1) != keys.size(1)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=shared
        )
    return mixed.transpose(1, 2).to(q.dtype)


class Absent:
    """Anything of a module that is not there: it may be named and decorate, but not compute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *args: Any, **_: Any) -> Any:
        # a decorator, with or without arguments, keeps the name of what it decorates
        if args and isinstance(args[0], Absent):
            return args[0]
        decorated = bool(args) and callable(args[0])
        return Absent(getattr(args[0], "__name__", self._name) if decorated else self._name)

    def __getitem__(self, grid: object) -> Any:
        def launch(*_: Any, **__: Any) -> None:
            raise BadCheckpoint(
                f"the kernel {self._name} has no equivalent here",
                fix="Choose the script's forward without it.",
            )

        return launch

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (object,)


class _Shims(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finder, asked last, of modules that no other has and that a script of this folder imports."""

    def __init__(self, notes: list[str], folder: Path) -> None:
        self.notes, self.folder = notes, folder.resolve()
        installed = (Path(path).resolve() for path in sysconfig.get_paths().values())
        # an environment may lie in the script's folder, and its packages are no scripts
        self.installed = [path for path in installed if self.folder in path.parents]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec of a shim; None for parts of modules that are there.

        Libraries look for others that are optional, and must not find them.
        """
        top = fullname.partition(".")[0]
        there = top in sys.modules and not isinstance(sys.modules[top], _Shim)
        folders = _importer().parents
        if there or self.folder not in folders or any(path in folders for path in self.installed):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the shim and note it."""
        top = spec.name.partition(".")[0]
        if top == spec.name:
            what = "exact softmax attention" if top in FLASH else "nothing: it is only imported"
            self.notes.append(f"--shim: {top} is not installed, replaced by {what}")
        return _Shim(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Fill in the functions of FlashAttention."""
        if module.__name__.partition(".")[0] in FLASH:
            for function in (flash_attn_func, flash_attn_varlen_func):
                setattr(module, function.__name__, function)


def _importer() -> Path:
    """Return the file whose import statement is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        "importlib" in frame.f_code.co_filename or frame.f_globals.get("__name__") == __name__
    ):
        frame = frame.f_back
    name = frame.f_code.co_filename
    if name.startswith("<"):  # a script that unpacks itself runs as text, in its own names
        name = str(frame.f_globals.get("__file__", name))
    return Path(name).resolve()


class _Shim(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")


@contextlib.contextmanager
def shimmed(notes: list[str], folder: Path) -> Iterator[None]:
    """Let the scripts of a folder import what is not installed; `notes` gets a sentence for each."""
    finder = _Shims(notes, folder)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, module in sys.modules.items() if isinstance(module, _Shim)]:
            del sys.modules[name]
