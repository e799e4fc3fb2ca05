"""A stand-in for CUDA: with this folder in PYTHONPATH, programs that want a GPU run on the CPU.

Every call of torch that names a CUDA device gets the CPU instead, what asks for the hardware gets an
answer, and what only matters there (streams, pinned memory, graphs, compilation) does nothing. Modules
that need the hardware (`flash_attn`, `flash_attn_interface`) are made of torch's own attention. The
sizes are the program's affair: most take them from the environment.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import types
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


def on_cpu(value: Any) -> Any:
    """Return an argument with the CPU in place of a CUDA device."""
    if isinstance(value, torch.device):
        return CPU if value.type == "cuda" else value
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return "cpu"
    return value


class OnCpu(TorchFunctionMode):
    """Calls of torch with their devices replaced."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = {name: on_cpu(value) for name, value in (kwargs or {}).items()}
        named.pop("pin_memory", None)
        if getattr(function, "__name__", "") in ("pin_memory", "cuda", "record_stream"):
            return args[0]
        return function(*map(on_cpu, args), **named)


class Event:
    """An event that has always happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record(self, *args: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        return 0.0


class Stream(Event):
    """A stream on which nothing waits."""

    wait_stream = wait_event = Event.record

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *args: object) -> None:
        pass


def same(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Return a function as it is: compiled by nothing, with or without options."""
    return function if function is not None else lambda decorated: decorated


def nothing() -> Any:
    """Return a function that does nothing; each is another one, as torch tells them apart."""
    return lambda *args, **kwargs: None


def attention(q: Any, k: Any, v: Any, *args: Any, causal: bool = False, **kwargs: Any) -> Any:
    """Return attention of [batch, length, heads, size], keys and values with as many or fewer heads."""
    groups = q.size(2) // k.size(2)
    k, v = (x.repeat_interleave(groups, 2).transpose(1, 2) for x in (k, v))
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k, v, is_causal=causal
    )
    return mixed.transpose(1, 2)


def patch_cuda() -> None:
    """Replace what asks CUDA for anything."""
    cuda: Any = torch.cuda
    properties = types.SimpleNamespace(
        name="stand-in", major=9, minor=0, total_memory=1 << 36, multi_processor_count=1
    )
    answers = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "stand-in",
        "get_device_capability": (9, 0),
        "get_device_properties": properties,
        "max_memory_allocated": 0,
        "max_memory_reserved": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "mem_get_info": (1 << 36, 1 << 36),
        "is_bf16_supported": True,
    }
    for name, answer in answers.items():
        setattr(cuda, name, lambda *args, answer=answer, **kwargs: answer)
    for name in ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "init"):
        setattr(cuda, name, nothing())
    cuda.manual_seed, cuda.manual_seed_all = nothing(), nothing()
    cuda.Event, cuda.Stream = Event, Stream
    cuda.current_stream = cuda.default_stream = Stream
    cuda.stream = lambda stream: contextlib.nullcontext()
    for name in (
        "enable_cudnn_sdp",
        "enable_flash_sdp",
        "enable_math_sdp",
        "enable_mem_efficient_sdp",
    ):
        setattr(torch.backends.cuda, name, nothing())


def patch_torch() -> None:
    """Replace what compiles, casts and connects for CUDA."""
    torch_: Any = torch
    torch_.compile = same
    autocast = torch.autocast

    def cast(device_type: str = "cuda", *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu", *args, **kwargs)

    torch_.autocast = torch_.amp.autocast = cast
    torch_.nn.Module.cuda = lambda self, device=None: self
    begin = torch.distributed.init_process_group

    def connect(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("device_id", None)
        return begin("gloo", *args, **kwargs)

    torch_.distributed.init_process_group = connect


def packed_attention(
    q: Any, k: Any, v: Any, starts_q: Any, starts_k: Any, *args: Any, **kwargs: Any
) -> Any:
    """Return attention of sequences laid end to end, [tokens, heads, size]; starts: int32 [n + 1]."""
    mixed = torch.zeros_like(q)
    spans = zip(starts_q.tolist(), starts_k.tolist(), strict=True)
    for (begin, first), (end, last) in itertools.pairwise(spans):
        if end > begin:
            parts = q[None, begin:end], k[None, first:last], v[None, first:last]
            mixed[begin:end] = attention(*parts, causal=kwargs.get("causal", False))[0]
    return mixed


def add_modules() -> None:
    """Add the modules of attention that exist only where CUDA does, and the tool that lists GPUs."""
    for name in ("flash_attn", "flash_attn_interface"):
        module: Any = types.ModuleType(name)
        module.flash_attn_func = attention
        module.flash_attn_varlen_func = packed_attention
        sys.modules.setdefault(name, module)
    tools = os.path.join(os.path.dirname(__file__), "bin")
    os.environ["PATH"] = os.pathsep.join((tools, os.environ.get("PATH", "")))


patch_cuda()
patch_torch()
add_modules()
OnCpu().__enter__()
