"""Tensors of torch files and of the challenge's own exports: read as data, nothing is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.artifact.header import MAX_ELEMENTS
from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.entries import QUANTIZED, TOP, chosen, is_tensor, weight_sets
from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside import torch_old, torch_zip
from squeeze.outside.inflate import bound
from squeeze.outside.pickles import Call, TensorView
from squeeze.outside.pieces import SIZES, check_extent
from squeeze.outside.torch_zip import TorchFile, foreign
from squeeze.outside.zip_archive import content
from squeeze.tensors.floats import WORDS
from squeeze.tensors.integers import is_derived, note_on
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

INT8_PER_ROW = "int8_clean_per_row_v1"
NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Weights:
    """Tensors by the names the file gives them.

    format: of the file. entry: the part of the file that they are, "" when it has no parts.
    """

    tensors: dict[str, Tensor]
    format: str
    notes: list[str] = field(default_factory=list)
    entry: str = ""


def read_torch(data: memoryview, name: str, entry: str | None = None) -> Weights:
    """Return the weights of a `torch.save` file that holds a state dict, possibly wrapped, or an export.

    entry: names one of several sets of weights. Raises BadCheckpoint (objects other than tensors, no
    weights, several sets of them), CorruptData, UnsupportedFormat.
    """
    file = (torch_old if torch_old.looks(data) else torch_zip).opened(data, name)
    objects = foreign(file.root)
    if objects:
        raise BadCheckpoint(
            f"{name} holds objects other than tensors; nothing in it was executed",
            expected="a plain state dict",
            found=objects,
            fix="Save it again with torch.save(model.state_dict(), path).",
        )
    weights = chosen(weight_sets(file.root), entry, name)
    notes = []
    if weights.entry != TOP:
        notes.append(f"weights taken from the file's {weights.entry!r} entry")
    numbers = Numbers(data, file, name, bound(len(data)))
    if QUANTIZED in weights.values:
        tensors = read_int8_per_row(weights.values, numbers, name)
        return Weights(tensors, INT8_PER_ROW, notes, weights.entry)
    views = {key: value for key, value in weights.values.items() if is_tensor(value)}
    others = [key for key, value in weights.values.items() if not is_tensor(value)]
    if others:
        listed = ", ".join(str(key)[:40] for key in others[:4])
        notes.append(f"left out, being no tensors: {listed}")
    numbers.check_size(views.values())
    derived = [key for key, view in views.items() if numbers.is_derived(view, f"{name}: {key}")]
    notes += note_on([str(key)[:40] for key in derived])
    for key in derived:
        del views[key]
    tensors = {str(key): numbers.raw(view, f"{name}: {key}") for key, view in views.items()}
    return Weights(tensors, "torch", notes, weights.entry)


def read_int8_per_row(export: Mapping[str, Any], numbers: Numbers, name: str) -> dict[str, Tensor]:
    """Return the tensors of an `int8_clean_per_row_v1` dictionary: int8 codes × a scale for each row (or
    one for all), and passthroughs."""
    if export[QUANTIZED] != INT8_PER_ROW:
        label = export[QUANTIZED] if isinstance(export[QUANTIZED], str) else "no text"
        raise UnsupportedFormat(
            f"{name}: unknown quantization format", expected=INT8_PER_ROW, found=repr(label[:80])
        )
    parts = {
        key: export.get(key, {})
        for key in ("quantized", "scales", "dtypes", "passthrough", "passthrough_orig_dtypes")
    }
    for key, part in parts.items():
        if not isinstance(part, Mapping):
            raise BadCheckpoint(
                f"{name}: entry {key}", expected="a dict", found=type(part).__name__
            )
    numbers.check_size(value for part in parts.values() for value in part.values())
    tensors: dict[str, Tensor] = {}
    for key, codes in parts["quantized"].items():
        scale, logical = parts["scales"].get(key), _format_of(parts["dtypes"].get(key))
        tensors[str(key)] = numbers.int8(codes, scale, logical, f"{name}: {key}")
    for key, value in parts["passthrough"].items():
        raw = numbers.raw(value, f"{name}: {key}")
        original = _format_of(parts["passthrough_orig_dtypes"].get(key)) or raw.logical
        tensors[str(key)] = RawTensor(raw.bits, raw.stored, original)
    return tensors


def _format_of(dtype: Any) -> str | None:
    return NAMES.get(dtype) if isinstance(dtype, str) else None


class Numbers:
    """Numbers of a torch file's tensors, each storage decoded once.

    limit: bytes that all tensors together, written out densely, may take.
    """

    def __init__(self, data: memoryview, file: TorchFile, name: str, limit: int) -> None:
        self._data, self._file, self._name, self._limit = data, file, name, limit
        self._plain: dict[str, memoryview] = {}

    def check_size(self, values: Iterable[Any]) -> None:
        """Raise unless the tensors among the values may be written out.

        A view may claim any shape over a tiny storage, with steps of nothing, and a storage may inflate.
        """
        views = [value for value in values if isinstance(value, TensorView)]
        elements = sum(prod(view.shape) for view in views)
        dense = sum(prod(view.shape) * _size(view) for view in views)
        if elements > MAX_ELEMENTS:
            raise BadCheckpoint(
                f"{self._name} is too large",
                expected=f"≤ {MAX_ELEMENTS} elements",
                found=elements,
            )
        if dense > self._limit:
            raise BadCheckpoint(
                f"{self._name}: tensors are too large for such a file",
                expected=f"≤ {self._limit} bytes",
                found=dense,
            )
        storages = [self._file.storages.get(key) for key in {view.storage.key for view in views}]
        inflated = sum(entry.inflated for entry in storages if entry is not None)
        if inflated > self._limit:
            raise CorruptData(
                f"{self._name} inflates too far",
                expected=f"≤ {self._limit} bytes",
                found=inflated,
            )

    def is_derived(self, value: Any, where: str) -> bool:
        """Return whether a tensor holds integers that a model makes itself."""
        return isinstance(value, TensorView) and is_derived(
            _number(value), value.shape, lambda dtype: self._array(value, dtype, where)
        )

    def raw(self, value: Any, where: str) -> RawTensor:
        """Return the bits of a float tensor. Raises BadCheckpoint for any other value."""
        number = _number(value)
        if number not in WORDS:
            raise BadCheckpoint(
                f"{where} is not a supported tensor",
                expected="float32, float16 or bfloat16",
                found=_kind(value),
                fix="Convert or drop it before packing.",
            )
        return RawTensor(self._array(value, WORDS[number], where), number, number)

    def int8(self, codes: Any, scale: Any, logical: str | None, where: str) -> QuantizedTensor:
        """Return codes with a scale for each row, or one for all. Raises BadCheckpoint."""
        if _number(codes) != "int8" or not codes.shape:
            raise BadCheckpoint(
                f"{where}: bad codes", expected="an int8 tensor", found=_kind(codes)
            )
        step_format = _number(scale)
        if step_format not in WORDS:
            raise BadCheckpoint(
                f"{where}: bad scale", expected="a float tensor", found=_kind(scale)
            )
        if logical is None:
            raise BadCheckpoint(f"{where}: unknown original dtype", expected=", ".join(NAMES))
        rows, scales = codes.shape[0], prod(scale.shape)
        if scales not in (1, rows):
            raise BadCheckpoint(
                f"{where}: wrong number of scales", expected=f"1 or {rows}", found=scales
            )
        bits = self._array(scale, WORDS[step_format], where).reshape(-1)
        steps = np.ascontiguousarray(np.broadcast_to(bits, (rows,)))
        matrix = self._array(codes, np.dtype(np.int8), where).reshape(rows, prod(codes.shape[1:]))
        return QuantizedTensor(matrix, steps, codes.shape, "uniform", step_format, logical)

    def _array(self, view: TensorView, dtype: np.dtype[Any], where: str) -> npt.NDArray[Any]:
        """Return a view's numbers as a dense array of its shape."""
        check_extent(view.shape, where)
        if not prod(view.shape):
            return np.zeros(view.shape, dtype)
        _, held = torch_zip.checked(view, (where,), self._name)
        plain = self._storage(view.storage.key)
        if len(plain) < held * dtype.itemsize:
            raise CorruptData(
                f"{where}: its storage is too short",
                expected=f"{held * dtype.itemsize} bytes",
                found=len(plain),
            )
        flat = np.frombuffer(plain, dtype.newbyteorder("<"), held)[view.offset :]
        strides = tuple(step * dtype.itemsize for step in view.strides)
        strided = np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)
        return np.ascontiguousarray(strided, dtype).reshape(view.shape)

    def _storage(self, key: str) -> memoryview:
        if key not in self._plain:
            entry = self._file.storages.get(key)
            if entry is None:
                raise BadCheckpoint(f"{self._name}: storages are missing", found=key[:40])
            self._plain[key] = content(self._data, entry, self._limit, self._name)
        return self._plain[key]


def _number(value: Any) -> str:
    """Return what a tensor's values are, "" for anything else."""
    if not isinstance(value, TensorView):
        return ""
    return torch_zip.NUMBERS.get(value.dtype or value.storage.kind, "")


def _size(view: TensorView) -> int:
    return SIZES.get(_number(view), 1)


def _kind(value: Any) -> str:
    if isinstance(value, TensorView):
        kind = value.dtype or value.storage.kind
        return f"{kind} tensor of shape {value.shape}"
    if isinstance(value, Call):
        return value.name.replace(" ", ".")[:80]
    return type(value).__name__
