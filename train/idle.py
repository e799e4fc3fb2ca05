"""Settings that change nothing unless another one is on. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

from squeeze.errors import BadConfig
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

Needs = dict[str, tuple[str, Callable[[ModelConfig, Recipe], bool]]]

_RECURRENCE = (
    "layer_schedule with a block more than once",
    lambda model, recipe: len(model.depth) > model.num_layers,
)
_QAT = "qat_start below 1", lambda model, recipe: recipe.qat_start < 1.0

# name → what it needs, in words and as a test
NEEDS: Needs = {
    "parallel_from": ("parallel", lambda model, recipe: model.parallel != "none"),
    "lane_output": ("parallel=lanes", lambda model, recipe: model.has_lanes),
    "value_dim": ("value_layers", lambda model, recipe: bool(model.value_layers)),
    "bigram_dim": ("bigram_rows", lambda model, recipe: model.bigram_rows > 0),
    "trigram_dim": ("trigram_rows", lambda model, recipe: model.trigram_rows > 0),
    "attention_gate_scale": (
        "attention_gate",
        lambda model, recipe: model.attention_gate != "none",
    ),
    "gate_window": (
        "attention_gate or smear_gate=token",
        lambda model, recipe: model.attention_gate != "none" or model.smear_gate == "token",
    ),
    "inputs_cross_documents": (
        "smear_gate, bigram_rows or trigram_rows",
        lambda model, recipe: (
            model.smear_gate != "none" or model.bigram_rows > 0 or model.trigram_rows > 0
        ),
    ),
    "untied_scalars": _RECURRENCE,
    "recurrence_start": _RECURRENCE,
    "recurrence_step": _RECURRENCE,
    "head_lr": ("tie_embeddings=off", lambda model, recipe: not model.tie_embeddings),
    "momentum_start": ("momentum_warmup", lambda model, recipe: recipe.momentum_warmup > 0),
    "momentum_warmup": ("momentum_start", lambda model, recipe: recipe.momentum_start > 0),
    "final_rate": ("warmdown", lambda model, recipe: recipe.warmdown > 0),
    "clip_locally": ("grad_clip", lambda model, recipe: recipe.grad_clip > 0),
    "average_start": ("average", lambda model, recipe: recipe.average != "none"),
    "ema_decay": ("average=ema", lambda model, recipe: recipe.average == "ema"),
    "swa_every": ("average=swa", lambda model, recipe: recipe.average == "swa"),
    "qat_bits": _QAT,
    "qat_k": _QAT,
    "qat_table_bits": _QAT,
    "qat_table_k": _QAT,
    "qat_rate": _QAT,
}


def refuse_idle(model: ModelConfig, recipe: Recipe, changed: Iterable[str]) -> None:
    """Raise BadConfig for the first of the changed settings that changes nothing in this training.

    One that is back at its default is none.
    """
    values = vars(model) | vars(recipe)
    defaults = {field.name: field.default for kind in (model, recipe) for field in fields(kind)}
    for name in changed:
        if name not in NEEDS or values[name] == defaults[name]:
            continue
        words, is_met = NEEDS[name]
        if not is_met(model, recipe):
            raise BadConfig(
                f"--set {name} changes nothing here",
                expected=f"{words} beside it",
                found=values[name],
            )
