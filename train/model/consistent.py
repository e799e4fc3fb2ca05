"""Checks of model configurations: ranges, and values that contradict each other. No torch here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from squeeze.errors import BadConfig
from squeeze.train.fields import check, check_integer

if TYPE_CHECKING:
    from squeeze.train.model.config import ModelConfig


def check_model(config: ModelConfig) -> None:
    """Raise BadConfig for a value out of range, or values that contradict each other."""
    for field in dataclasses.fields(config):
        check(field, getattr(config, field.name))
    if config.model_dim % (2 * config.num_heads):
        raise BadConfig(
            "model_dim must split into heads of even width",
            expected=f"a multiple of 2*num_heads = {2 * config.num_heads}",
            found=config.model_dim,
        )
    if config.num_heads % config.num_kv_heads:
        raise BadConfig(
            "query heads must share key/value heads evenly",
            expected=f"num_kv_heads that divides num_heads = {config.num_heads}",
            found=config.num_kv_heads,
        )
    if config.rope_dims % 2 or config.rope_dims > config.head_dim:
        raise BadConfig(
            "rope_dims",
            expected=f"an even number up to the head width {config.head_dim}",
            found=config.rope_dims,
        )
    _check_input(config)
    _check_layers(config)
    _check_lanes(config)


def _check_input(config: ModelConfig) -> None:
    windowed = config.attention_gate != "none" or config.smear_gate == "token"
    if windowed and config.gate_window > config.model_dim:
        raise BadConfig(
            "gate_window", expected=f"≤ model_dim = {config.model_dim}", found=config.gate_window
        )
    if config.skip_gates and not config.skips:
        raise BadConfig("skip_gates", expected="skips to gate", found="no skips")
    for name in ("bigram_rows", "trigram_rows"):
        if getattr(config, name) == 1:
            raise BadConfig(name, expected="0 or at least 2", found=1)


def _check_layers(config: ModelConfig) -> None:
    last = config.num_layers - 1
    if config.by_depth and not config.untied_scalars:
        raise BadConfig("by_depth", expected="untied_scalars", found="scalars of blocks")
    deepest = len(config.depth) - 1 if config.by_depth else last
    for name in ("layer_schedule", "value_layers", "no_attention", "untied_mlps"):
        for layer in getattr(config, name):
            by_depth = name in ("value_layers", "no_attention")
            check_integer(f"{name} entry", layer, 0, deepest if by_depth else last)
    for name in ("value_layers", "no_attention", "untied_mlps"):
        if list(getattr(config, name)) != sorted(set(getattr(config, name))):
            raise BadConfig(name, expected="rising numbers", found=getattr(config, name))
    unused = set(range(config.num_layers)) - set(config.layer_schedule)
    if config.layer_schedule and unused:
        raise BadConfig(
            "layer_schedule", expected="every block at least once", found=f"unused {unused}"
        )
    once = [block for block in config.untied_mlps if config.passes(block) < 2]
    if once:
        raise BadConfig(
            "untied_mlps", expected="blocks that layer_schedule repeats", found=f"{once}"
        )


def _check_lanes(config: ModelConfig) -> None:
    if config.parallel != "none":
        check_integer("parallel_from", config.parallel_from, 0, config.num_layers - 1)
    if not config.has_lanes:
        return
    for depth in (config.depth, tuple(range(config.num_layers))):
        split = [block >= config.parallel_from for block in depth]
        if split != sorted(split) or split.index(True) < len(depth) // 2:
            raise BadConfig(
                "lanes must begin in the second half of the layers and stay",
                expected="parallel_from above every block of the first half",
                found=f"parallel_from {config.parallel_from} with layers {depth}",
            )
