"""The stages of gpu_check.py that train, and the group of processes that training sends through."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before a group exists: see squeeze.ranks.group
from gpu_stages import Figures, Setting, tokens_of

from squeeze.ranks.connect import resolve_device
from squeeze.ranks.group import Ranks
from squeeze.ranks.result import result_of_first
from squeeze.train.run.flops import flops_per_token, peak_flops
from squeeze.train.run.trainer import Trainer, compilations

SENT = (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.uint8)


def group(setting: Setting) -> Figures:
    """Send tensors of every dtype through the calls of ranks, in a group of one: NCCL's on a GPU."""
    start: dict[str, Any] = {"backend": "gloo"}
    if setting.device.type == "cuda":
        start = {"backend": "cpu:gloo,cuda:nccl", "device_id": resolve_device()}
    changed = []
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            rank=0, world_size=1, init_method=f"file://{folder}/meeting", **start
        )
        ranks = Ranks(0, 2, setting.device)  # a run of one would send nothing
        for device in (setting.device, torch.device("cpu")):
            for dtype in SENT:
                plain = torch.arange(6, device=device).view(2, 3).to(dtype)
                whole, share = torch.zeros_like(plain), torch.zeros_like(plain)
                ranks.gather(whole, plain)()
                ranks.sum_shares(plain.clone(), share)()
                sent = (whole, share, ranks.summed_(plain.clone()), ranks.exchanged(plain))
                if not all(torch.equal(tensor, plain) for tensor in sent):
                    changed.append(f"{dtype} on {device}")
        kept = ranks.from_first(7.5) == 7.5 and result_of_first(ranks, lambda: "kept") == "kept"
        dist.destroy_process_group()
    return {"changed": len(changed), "which": changed, "lost": int(not kept)}, {
        "changed": 0,
        "lost": 0,
    }


def compiled(setting: Setting) -> Figures:
    """Compare `baseline` compiled, eager and on the CPU: loss and gradients of one batch."""
    preset = setting.preset("baseline", 4096)
    recipe = replace(preset.recipe, precision="fp32", table_precision="fp32")
    shards = [tokens_of(preset.model, 1 << 16)]
    losses, norms = {}, {}
    runs = ("eager",) if setting.rehearsal else ("eager", "compiled")
    for name in ("cpu", *runs):
        device = torch.device("cpu") if name == "cpu" else setting.device
        trainer = Trainer(preset.model, shards, recipe, 0, Ranks(device=device))
        if name == "compiled":
            trainer.compile_()
        for _ in range(3):
            loss, norm = trainer.step(0.1)
        losses[name], norms[name] = float(loss), float(norm)
    away = {f"{name} from cpu": abs(losses[name] - losses["cpu"]) for name in runs}
    return {"losses": losses, "norms": norms, **away}, dict.fromkeys(away, 2e-3)


def steps(setting: Setting, name: str) -> Figures:
    """Measure steps of a preset, repetition off and on, after a warm-up."""
    preset, gpu = setting.preset(name), setting.device.type == "cuda"
    looped = bool(preset.model.layer_schedule)
    shards = [tokens_of(preset.model, 1 << (14 if setting.rehearsal else 24))]
    recipe = replace(preset.recipe, recurrence_start=0.5 if looped else 0.0, recurrence_step=0)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(preset.model, shards, recipe, 0, Ranks(device=setting.device))
    began = setting.wait()
    if gpu:
        trainer.compile_()
    trainer.warm_up()
    ready, made = setting.wait(), compilations()
    figures: dict[str, Any] = {"warm_up_seconds": round(ready - began, 1), "rows": trainer.rows}
    for progress in (0.3, 0.6) if looped else (0.3,):
        trainer.step(progress)
        count, began = 3 if setting.rehearsal else 20, setting.wait()
        for _ in range(count):
            trainer.step(progress)
        each = (setting.wait() - began) / count
        peak = peak_flops(setting.device)
        used = flops_per_token(preset.model, progress > 0.5) * trainer.tokens / each
        figures["recurrent" if progress > 0.5 else "once"] = {
            "ms_per_step": round(1e3 * each, 2),
            "tokens_per_second": round(trainer.tokens / each),
            "mfu": None if peak is None else round(used / peak, 4),
        }
    figures["recompilations"] = compilations() - made
    if gpu:
        figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return figures, {"recompilations": 0}


STEPS: dict[str, Callable[[Setting], Figures]] = {
    "group": group,
    "compiled": compiled,
    **{
        f"steps of {name}": partial(steps, name=name)
        for name in ("baseline", "record-1493", "record-1855")
    },
}
