"""The stages of gpu_check.py: each returns its figures, and limits for some of them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from squeeze.calib.text.generate import generate
from squeeze.subject.precision import computing_in
from squeeze.train.data.shards import Tokens
from squeeze.train.model import attention
from squeeze.train.model import operations as plain
from squeeze.train.model.attention import (
    Reach,
    Rule,
    attention_within,
    plain_attention,
    reach_of,
)
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.presets import PRESETS, Preset

Figures = tuple[dict[str, Any], dict[str, float]]
DOCUMENT = 600  # mean tokens of a document
NARROW = {
    "vocab_size": 64,
    "model_dim": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "mlp_hidden": 48,
    "seq_len": 32,
    "value_dim": 8,
    "bigram_dim": 8,
}


@dataclass(frozen=True)
class Setting:
    """Device and sizes of the stages: full presets, or narrow ones for a rehearsal."""

    device: torch.device
    rehearsal: bool

    @property
    def half(self) -> torch.dtype:
        """Dtype of a forward in training."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def preset(self, name: str, tokens: int = 0) -> Preset:
        """Return a preset with batches of so many tokens; 0: its share of eight GPUs."""
        preset = PRESETS[name]
        share = tokens or preset.recipe.batch_tokens // 8
        if self.rehearsal:
            rope = min(preset.model.rope_dims, 4)
            share = 128
            preset = replace(preset, model=replace(preset.model, **NARROW, rope_dims=rope))
        rows = min(preset.recipe.packed_rows, 1)
        recipe = replace(preset.recipe, batch_tokens=share, packed_rows=rows)
        return replace(preset, recipe=recipe)

    def wait(self) -> float:
        """Return the seconds of a clock once the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def tokens_of(config: ModelConfig, count: int) -> Tokens:
    """Return uniform tokens uint16 [count] with document starts at random places."""
    random = np.random.default_rng(0)
    tokens = random.integers(2, config.vocab_size, count).astype(np.uint16)
    tokens[random.random(count) < 1 / DOCUMENT] = config.bos_id
    return tokens


def lively(config: ModelConfig, device: torch.device) -> GPT:
    """Return a model whose matrices that begin at zero are small noise."""
    model, generator = GPT(config), torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith("proj.weight"):
            weight.data.normal_(std=0.02, generator=generator)
    return model.to(device).eval()


def versions(setting: Setting) -> Figures:
    """Report what is installed, and which attention runs where."""
    ids = torch.ones(1, 512, dtype=torch.int64, device=setting.device)
    kernels = {}
    for dtype in (torch.bfloat16, torch.float32):
        for name, rule in RULES.items():
            reach = Reach() if rule is None else reach_of(rule, ids, dtype)
            chosen = attention_within(reach, rule.window if rule else 0, ids, dtype)
            function = chosen.func if isinstance(chosen, partial) else chosen
            kernels[f"{name}, {dtype}"] = function.__name__
    gpu = setting.device.type == "cuda"
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "flash_attention_3": attention.flash is not None,
        "attention": kernels,
    }, {}


RULES = {
    "all": None,
    "documents": Rule(1, documents=True),
    "cut documents": Rule(1, documents=True, cut=100),
    "window": Rule(1, documents=False, window=96),
    "documents and window": Rule(1, documents=True, window=96),
}


def kernels(setting: Setting) -> Figures:
    """Compare every attention with the definition, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 60, (2, 384), generator=generator)
    ids[:, ::130] = 1
    ids = ids.to(setting.device)
    figures, limits = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        shapes = [(2, heads, 384, 64) for heads in (8, 4, 4, 8)]
        q, k, v, out = (torch.randn(s, generator=generator).to(setting.device) for s in shapes)
        for name, rule in RULES.items():
            seen = reach_of(rule or Rule(1, documents=False, window=384), ids.cpu(), torch.float32)
            mask = torch.ones(1, 384, 384).tril() > 0 if seen.mask is None else seen.mask
            mask = mask.to(setting.device)
            reach = Reach() if rule is None else reach_of(rule, ids, dtype)
            attend = attention_within(reach, rule.window if rule else 0, ids, dtype)
            results = []
            for function in (attend, partial(plain_attention, mask=mask)):
                kind = dtype if function is attend else torch.float32
                leaves = [x.to(kind, copy=True).requires_grad_() for x in (q, k, v)]
                mixed = function(*leaves)
                mixed.backward(out.to(mixed.dtype))
                results.append([mixed.detach(), *(leaf.grad for leaf in leaves)])
            key = f"{name}, {dtype}"
            figures[key] = max(
                float((ours.float() - plain.float()).norm() / plain.float().norm())
                for ours, plain in zip(*results, strict=True)
            )
            limits[key] = 1e-4 if dtype == torch.float32 else 2e-2
    return figures, limits


def cache(setting: Setting) -> Figures:
    """Compare token by token through captured steps with the whole forward."""
    figures, limits = {}, {}
    for name in ("baseline", "record-1855"):
        model = lively(setting.preset(name).model, setting.device)
        length = 32 if setting.rehearsal else 320  # more than one bucket of captured steps
        ids = torch.from_numpy(tokens_of(model.config, 2 * length).astype(np.int64))
        ids = ids.view(2, length).to(setting.device)
        for precision, limit in (("fp32", 1e-4), ("bf16", 3e-2)):
            with torch.inference_mode(), computing_in(precision, setting.device):
                steps_of, whole = Cache(model, 2, length, buckets=True), model(ids)
                found = torch.cat([steps_of.step(ids[:, [at]]) for at in range(length)], 1)
            key = f"{name}, {precision}"
            figures[key], limits[key] = float((found - whole).norm() / whole.norm()), limit
    return figures, limits


def text(setting: Setting) -> Figures:
    """Let a model write the text that calibration reads: 64 sequences of 2,048 tokens."""
    model = lively(setting.preset("record-1493").model, setting.device)
    count, length = (2, 16) if setting.rehearsal else (64, 2048)
    began = setting.wait()
    ids = generate(partial(Cache, model), model.config.vocab_size, count, length, seed=0)
    return {"tokens": ids.size, "write_seconds": round(setting.wait() - began, 2)}, {
        "write_seconds": 60.0
    }


def operations(setting: Setting) -> Figures:
    """Compare the kernels of logits' rows and of squares with plain PyTorch, and their time."""
    if setting.device.type != "cuda":
        return {"kernels": "Triton's, which need a GPU here"}, {}
    kernels = importlib.import_module("squeeze.train.model.kernels")
    logits = 8.0 * torch.randn(4096, 8192, device=setting.device)
    targets = torch.randint(8192, (4096,), device=setting.device)
    scale = torch.tensor(1.0, device=setting.device)
    figures: dict[str, Any] = {}
    limits = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows, results = logits.to(dtype), []
        for name, module in (("plain", plain), ("kernel", kernels)):
            for _ in range(2):  # the first one compiles
                began = setting.wait()
                nats, sums = module.row_losses(rows, targets, 30.0)
                slopes = module.row_slopes(rows, targets, sums, scale, 30.0)
                figures[f"{name}_ms, {dtype}"] = round(1e3 * (setting.wait() - began), 3)
            x = rows.clone().requires_grad_()
            squares = kernels.squared(x, 0.5) if module is kernels else plain.powered(x, 0.5, 2)
            squares.backward(rows)
            results.append((nats, slopes, squares.detach(), x.grad))
        names = ("losses", "slopes", "squares", "slopes of squares")
        for name, theirs, ours in zip(names, *results, strict=True):
            key = f"{name}, {dtype}"
            figures[key] = float((ours.float() - theirs.float()).norm() / theirs.float().norm())
            limits[key] = 1e-5 if dtype == torch.float32 else 1e-2
    return figures, limits


STAGES: dict[str, Callable[[Setting], Figures]] = {
    "versions": versions,
    "kernels": kernels,
    "cache": cache,
    "text": text,
    "operations": operations,
}
