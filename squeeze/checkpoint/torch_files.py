"""Torch files and the challenge's own exports, read with `weights_only=True`: no code in them runs."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch

from squeeze.artifact.header import MAX_ELEMENTS
from squeeze.artifact.streams import Tensor
from squeeze.errors import BadCheckpoint, CorruptData, SqueezeError, UnsupportedFormat
from squeeze.outside.inflate import bound, inflate
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

FORMATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
WRAPPERS = ("model", "state_dict", "model_state_dict")  # where trainers put the state dict
PREFIXES = ("_orig_mod.", "module.")  # torch.compile and DDP


def read_torch(data: bytes, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a `torch.save` zip holding a state dict, possibly wrapped; and notes."""
    limit = bound(len(data))
    loaded = _load(data, name, limit)
    notes = []
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            notes.append(f"weights taken from the file's {key!r} entry")
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise BadCheckpoint(
            f"{name}: no state dict", expected="a dict of tensors", found=type(loaded).__name__
        )
    if "__quant_format__" in loaded:
        return read_int8_per_row(loaded, name, limit), notes
    _bound(loaded.values(), name, limit)
    tensors: dict[str, Tensor] = {}
    for key, value in loaded.items():
        clean = str(key)
        for prefix in PREFIXES:
            clean = clean.removeprefix(prefix)
        if clean in tensors:
            raise BadCheckpoint(f"{name}: two tensors are called {clean} once prefixes are removed")
        tensors[clean] = _raw(value, f"{name}: {key}")
    _check_size(tensors, name)
    return tensors, notes


def read_int8_zlib(data: bytes, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of the baseline's `final_model.int8.ptz`: a zlib stream of a torch.save."""
    limit = bound(len(data))
    loaded = _load(inflate(data, "zlib", name, limit), name, limit)
    if not isinstance(loaded, Mapping):
        raise BadCheckpoint(f"{name}: no dict inside", found=type(loaded).__name__)
    return read_int8_per_row(loaded, name, limit), []


def read_int8_per_row(loaded: Mapping[str, Any], name: str, limit: int) -> dict[str, Tensor]:
    """The `int8_clean_per_row_v1` dictionary: int8 codes × per-row (or one) scale, and passthroughs.

    limit: bytes of all tensors together.
    """
    if loaded.get("__quant_format__") != "int8_clean_per_row_v1":
        raise UnsupportedFormat(
            f"{name}: unknown quantization format",
            expected="int8_clean_per_row_v1",
            found=repr(loaded.get("__quant_format__"))[:80],
        )
    parts = {
        key: loaded.get(key, {})
        for key in ("quantized", "scales", "dtypes", "passthrough", "passthrough_orig_dtypes")
    }
    for key, part in parts.items():
        if not isinstance(part, Mapping):
            raise BadCheckpoint(
                f"{name}: entry {key}", expected="a dict", found=type(part).__name__
            )
    _bound([value for part in parts.values() for value in part.values()], name, limit)
    tensors: dict[str, Tensor] = {}
    for key, codes in parts["quantized"].items():
        where = f"{name}: {key}"
        scale, logical = parts["scales"].get(key), NAMES.get(parts["dtypes"].get(key))
        tensors[key] = _int8(codes, scale, logical, where)
    for key, value in parts["passthrough"].items():
        raw = _raw(value, f"{name}: {key}")
        original = NAMES.get(parts["passthrough_orig_dtypes"].get(key, ""), raw.logical)
        tensors[key] = RawTensor(raw.bits, raw.stored, original)
    _check_size(tensors, name)
    return tensors


def _int8(codes: Any, scale: Any, logical: str | None, where: str) -> QuantizedTensor:
    if not (_is_dense(codes) and codes.dtype == torch.int8 and codes.ndim >= 1):
        raise BadCheckpoint(f"{where}: bad codes", expected="an int8 tensor", found=_kind(codes))
    if not (_is_dense(scale) and scale.dtype in FORMATS):
        raise BadCheckpoint(f"{where}: bad scale", expected="a float tensor", found=_kind(scale))
    if logical is None:
        raise BadCheckpoint(f"{where}: unknown original dtype", expected=", ".join(NAMES))
    rows = codes.shape[0]
    if scale.numel() not in (1, rows):
        raise BadCheckpoint(
            f"{where}: wrong number of scales", expected=f"1 or {rows}", found=scale.numel()
        )
    steps = _bits(scale.reshape(-1).expand(rows))
    matrix = codes.contiguous().numpy().reshape(rows, -1)
    return QuantizedTensor(
        matrix, steps, tuple(codes.shape), "uniform", FORMATS[scale.dtype], logical
    )


def _raw(value: Any, where: str) -> RawTensor:
    if not (_is_dense(value) and value.dtype in FORMATS):
        raise BadCheckpoint(
            f"{where} is not a supported tensor",
            expected="float32, float16 or bfloat16",
            found=_kind(value),
            fix="Convert or drop it before packing.",
        )
    number = FORMATS[value.dtype]
    return RawTensor(_bits(value), number, number)


def _bits(value: torch.Tensor) -> Any:
    """Bit patterns of a float tensor as uint32 or uint16."""
    dense = value.detach().contiguous()
    if dense.dtype == torch.float32:
        return dense.numpy().view(np.uint32)
    return dense.view(torch.int16).numpy().view(np.uint16)


def _is_dense(value: Any) -> bool:
    """Whether numpy can have a tensor: neither sparse nor without data."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _bound(values: Iterable[Any], name: str, limit: int) -> None:
    # a tensor may claim any shape over a tiny storage with stride 0: check before making any dense
    total = sum(prod(v.shape) * v.element_size() for v in values if isinstance(v, torch.Tensor))
    if total > limit:
        raise BadCheckpoint(
            f"{name}: tensors are too large for such a file",
            expected=f"≤ {limit} bytes",
            found=total,
        )


def _check_size(tensors: Mapping[str, Tensor], name: str) -> None:
    total = sum(prod(tensor.shape) for tensor in tensors.values())
    if total > MAX_ELEMENTS:
        raise BadCheckpoint(
            f"{name} is too large", expected=f"≤ {MAX_ELEMENTS} elements", found=total
        )


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        layout = "" if _is_dense(value) else f" {value.layout}, {value.device}"
        number = str(value.dtype).removeprefix("torch.")
        return f"{number} tensor of shape {tuple(value.shape)}{layout}"
    return type(value).__name__


def _load(data: bytes | bytearray, name: str, limit: int) -> Any:
    """What a torch file holds; limit: bytes that its entries may inflate to."""
    if (
        data[:4] != b"PK\x03\x04"
    ):  # torch would take it for its old format, which zipfile cannot bound
        raise BadCheckpoint(
            f"{name}: not a torch zip file", found=bytes(data[:8]).hex() or "nothing"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inflated = sum(info.file_size for info in archive.infolist())
        if inflated > limit:
            raise CorruptData(
                f"{name} inflates too far", expected=f"≤ {limit} bytes", found=inflated
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; damage is an error below
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise BadCheckpoint(
            f"{name} holds objects other than tensors; nothing in it was executed",
            expected="a plain state dict",
            fix="Save it again with torch.save(model.state_dict(), path).",
        ) from None
    except SqueezeError:
        raise
    except Exception as error:  # torch's unpickler has no error of its own for damaged files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadCheckpoint(f"{name}: torch cannot read it: {reason}") from None
