"""Frozen presets: the challenge's baseline, three records, and a model for a few CPU minutes.

A record's preset is its architecture and its training hyperparameters; figures come from the pull
request of openai/parameter-golf that it is named after (script and logs). `published` is the number of
parameters its log prints, `differs` why ours is another. No torch here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from squeeze.train.fields import changes, parsed, refuse_unknown, settings
from squeeze.train.idle import refuse_idle
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

Config = TypeVar("Config", ModelConfig, Recipe)


@dataclass(frozen=True)
class Preset:
    """A model, and the recipe that trains it.

    source: where its figures come from
    published: number of parameters that the source reports, 0 where it reports none
    differs: why ours is another
    """

    model: ModelConfig
    recipe: Recipe
    source: str
    published: int = 0
    differs: str = ""

    def with_settings(self, texts: Iterable[str]) -> Preset:
        """Return the preset with `name=value` settings of model or recipe; all is validated again.

        Values are written as on the command line: `layer_schedule=0-5,3-5,6-10`, `qk_norm=off`. Raises
        BadConfig for what is no setting, an unknown name (with the nearest known ones), a bad value, or
        a change without effect beside the other settings.

        >>> PRESETS["baseline"].with_settings(["num_layers=4", "grad_clip=0.5"]).model.num_layers
        4
        """
        changed = settings(texts)
        refuse_unknown("--set", changed, _names(self.model) | _names(self.recipe))
        model, recipe = _overridden(self.model, changed), _overridden(self.recipe, changed)
        preset = dataclasses.replace(self, model=model, recipe=recipe)
        refuse_idle(model, recipe, self.changes(preset))
        return preset

    def changes(self, other: Preset) -> dict[str, tuple[Any, Any]]:
        """Return the settings in which another preset differs: name → (this, other)."""
        return changes(self.model, other.model) | changes(self.recipe, other.recipe)


def _names(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def _overridden(config: Config, changed: dict[str, str]) -> Config:
    """Return a configuration with those of the settings that are its own."""
    own = {name: value for name, value in changed.items() if name in _names(config)}
    return dataclasses.replace(config, **parsed(config, own))


def find_preset(name: str) -> Preset:
    """Return the preset of this name; raises BadConfig with the nearest names."""
    refuse_unknown("presets", [name], PRESETS)
    return PRESETS[name]


BASELINE = Preset(
    ModelConfig(
        vocab_size=1024,
        num_layers=9,
        model_dim=512,
        num_heads=8,
        num_kv_heads=4,
        mlp_hidden=1024,
        seq_len=1024,
    ),
    Recipe(
        budget_seconds=600,
        batch_tokens=524_288,
        matrix_lr=0.04,
        momentum=0.95,
        momentum_start=0.85,
        momentum_warmup=500,
        table_lr=0.05,
        head_lr=0.008,
        small_lr=0.04,
        warmup=0.0,  # the script's twenty warm-up steps compile and are undone
        warmdown=0.087,  # 1,200 of 13,780 steps
        grad_clip=0.0,
        matrix_start="uniform",
        table_precision="bf16",
    ),
    "the challenge's naive baseline, train_gpt.py",
    published=17_059_912,
    differs="The rates fall over a fraction of the time, not over 1,200 steps of the mean duration; "
    "windows come in another order; Muon's momentum is a mean, not a sum, while it rises.",
)

# What #1204 and its successors share.
_ELEVEN = {
    "num_layers": 11,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
    "seq_len": 2048,
    "mlp_slope": 0.5,
    "rope_dims": 16,
    "norm_scale": True,
    "xsa_layers": 11,
    "skip_gates": True,
}
_COMMON = {
    "budget_seconds": 600,
    "batch_tokens": 786_432,
    "momentum_start": 0.92,
    "momentum_warmup": 1500,
    "warmup": 0.0,
    "grad_clip": 0.3,
    "average": "ema",
    "table_precision": "bf16",
}
# What their training does otherwise than ours, whatever the preset
_ALWAYS = (
    "windows come in another order; averages begin with a shorter memory; Muon keeps its momentum, "
    "a mean and not a sum, in float32 (the record: bfloat16)."
)


def _eleven_layers(**fields: Any) -> ModelConfig:
    """Return a model of the successors of #1204."""
    return ModelConfig.from_fields(_ELEVEN | fields)


def _recipe(**fields: Any) -> Recipe:
    """Return a recipe of the successors of #1204."""
    return Recipe.from_fields(_COMMON | fields)


RECORD_1204 = Preset(
    _eleven_layers(
        vocab_size=1024,
        mlp_hidden=1536,
        layer_schedule=[0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 10],
        untied_mlps=[4, 5],
        untied_scalars=True,
        by_depth=True,
        no_attention=[0],
        rope_length=1024,
        inputs_cross_documents=True,
        parallel="lanes-in-turn",
        parallel_from=7,
        value_layers=[9, 10],
        smear_gate="channels",
        bigram_rows=2816,
        bigram_dim=160,
    ),
    _recipe(
        matrix_lr=0.025,  # the record has 0.03 in the second half of the layers
        matrix_decay=0.04,
        momentum=0.99,
        table_lr=0.035,
        small_lr=0.025,
        table_decay=0.04,
        small_decay=0.04,
        warmdown=0.56,  # 3,500 of about 6,240 steps
        ema_decay=0.997,
        recurrence_step=3000,
        clip_locally=True,
        exchange="bf16",
    ),
    "openai/parameter-golf #1204; architecture options from its ancestors #65, #265, #315, #374, #686",
    published=30_352_046,
    differs="42 fewer: lane weights of the seven blocks that run before the lanes begin are left "
    "out. The count is met by hashed pairs of width 160 (#1179), not the 112 of its summary. The "
    "record's Muon has rate 0.03 from block 5 on and its Adam the projections of pairs and value "
    "embeddings; it rounds its weights softly (late QAT) where the rate is below 0.15, lets the "
    "rates fall over 3,500 steps of the mean duration, and starts from random weights in the first "
    "block's attention, which nothing reads; " + _ALWAYS,
)

RECORD_1493 = Preset(
    _eleven_layers(
        vocab_size=8192,
        mlp_hidden=2048,
        layer_schedule=[0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10],
        parallel="sum",
        parallel_from=7,
        q_gain_init=5.25,
    ),
    _recipe(
        reserve_seconds=12.0,
        matrix_lr=0.022,
        matrix_decay=0.095,
        momentum=0.99,
        row_normalize=True,
        table_lr=0.03,
        small_lr=0.02,
        table_decay=0.085,
        small_decay=0.02,
        warmdown=0.72,
        ema_decay=0.9965,
        recurrence_start=0.35,
    ),
    "openai/parameter-golf #1493",
    published=35_944_536,
    differs="Shards are dealt to the ranks in the record, windows here; " + _ALWAYS,
)

RECORD_1855 = Preset(
    dataclasses.replace(
        RECORD_1493.model,
        parallel="lanes",
        parallel_from=8,
        q_gain_init=5.0,
        document_attention=True,
        smear_gate="token",
        attention_gate="sparse",
        attention_gate_scale=0.5,
    ),
    dataclasses.replace(
        RECORD_1493.recipe,
        reserve_seconds=0.5,
        matrix_lr=0.026,
        momentum=0.97,
        orthogonalizer="polar-express",
        beta2=0.99,
        warmdown=0.85,
        final_rate=0.1,
        packed_rows=8,
        clip_locally=True,
        exchange="bf16",
    ),
    "openai/parameter-golf #1855, on the stack of #1787",
    published=35_945_671,
    differs="48 fewer: lane weights of the eight blocks that run before the lanes begin are left out. "
    "A batch is eight rows on any number of ranks, the record's is one a rank, read from its shards "
    "in their order, and its text has capitals spelt out (CaseOps), with a tokenizer of its own; "
    "clipping by rank then depends on the number of ranks; the orthogonalizer's "
    "polynomials are the paper's, with a margin of 2 %, the record's are others of that kind; "
    + _ALWAYS,
)

# Five minutes of two CPU cores see a few million tokens: little for matrices, enough for tables of
# hashed pairs and triples, which cost no multiplications. Figures in docs/log.md.
TINY = Preset(
    ModelConfig(
        vocab_size=1024,
        num_layers=4,
        model_dim=192,
        num_heads=2,
        num_kv_heads=2,
        mlp_hidden=384,
        seq_len=256,
        bigram_rows=32768,
        bigram_dim=64,
        trigram_rows=65536,
        trigram_dim=32,
    ),
    Recipe(
        budget_seconds=300,
        batch_tokens=2048,
        precision="native",
        matrix_lr=0.01,
        orthogonalizer="polar-express",
        table_lr=0.006,
        small_lr=0.003,
    ),
    "this project",
)

PRESETS = {
    "tiny": TINY,
    "baseline": BASELINE,
    "record-1204": RECORD_1204,
    "record-1493": RECORD_1493,
    "record-1855": RECORD_1855,
}
