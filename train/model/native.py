"""Which arithmetic a device has instructions for."""

from __future__ import annotations

import platform

import torch


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 by instructions of its own.

    Without them a CPU may take forty times as long as in float32 (docs/log.md); a GPU emulates them.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine().lower() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported()
