"""Kind of the machine that a plan was made on: all but the threads that can change the last bits."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # of Linux; elsewhere Python's name for the processor is taken
# Environment variables that choose which instructions a library computes with.
CHOICES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES")


@dataclass(frozen=True)
class Machine:
    """Kind of machine whose arithmetic decided a plan; one kind gives the same bits on any threads.

    processor: vendor, family and model
    instructions: instruction set of torch, BF16 where the processor multiplies it, and environment
        variables that choose others
    torch, numpy, numba: releases
    gpu: name of what ran the model, "" for the processor; two runs on a GPU need not give the same bits
    """

    processor: str = ""
    instructions: str = ""
    torch: str = ""
    numpy: str = ""
    numba: str = ""
    gpu: str = ""


def this_machine(device: str = "cpu") -> Machine:
    """Return the kind of the machine that this process runs on.

    device: what the model ran on, such as "cpu" or "cuda:0"
    """
    import torch  # plans are read where there is no torch

    from squeeze.train.model.native import has_bf16

    known = [torch.backends.cpu.get_cpu_capability()]
    known += ["BF16"] if has_bf16(torch.device("cpu")) else []
    choices = [f"{name}={os.environ[name]}" for name in CHOICES if name in os.environ]
    return Machine(
        processor=processor(CPUINFO),
        instructions=" ".join([*known, *choices]),
        torch=str(torch.__version__),
        numpy=version("numpy"),
        numba=version("numba"),
        gpu=torch.cuda.get_device_name(device) if device != "cpu" else "",
    )


def processor(path: Path) -> str:
    """Return vendor, family and model of the first processor in a file like Linux's cpuinfo.

    Where there is no such file or it has no vendor, it is Python's name of the processor or
    architecture.
    """
    facts: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(errors="replace").partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    if "vendor_id" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['vendor_id']} family {facts.get('cpu family')} model {facts.get('model')}"
