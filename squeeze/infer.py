"""A model's configuration from tensor names and shapes, for checkpoints that carry none.

What shapes cannot tell (heads without `q_gain`, activation power, window length, the order of repeated
blocks) comes from flags, and every value that is a guess is reported as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from squeeze.errors import BadCheckpoint
from squeeze.train.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]

# what no shape tells, with the command-line flag that does
UNTOLD = {
    "mlp_power": "--mlp-power",
    "seq_len": "--seq-len",
    "rope_base": "--rope-base",
    "logit_softcap": "--softcap",
}


def complete_config(
    shapes: Shapes, stored: ModelConfig | None, **overrides: Any
) -> tuple[ModelConfig, list[str]]:
    """The stored configuration, or an inferred one, with the user's overrides; and notes on guesses.

    overrides: ModelConfig fields; None means not given. Raises BadCheckpoint when the tensors are not
    those of the configuration, naming the first tensor that differs.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    notes: list[str] = []
    if stored is not None:
        fields = _fields_of(stored) | given
    else:
        fields = _fields_from_shapes(shapes, given, notes) | given
        for field, flag in UNTOLD.items():
            if field not in given:
                default = ModelConfig.__dataclass_fields__[field].default
                notes.append(f"{field} is not in the file: {default} assumed ({flag} to change)")
    config = ModelConfig.from_fields(fields)
    check_shapes(shapes, config)
    return config, notes


def check_shapes(shapes: Shapes, config: ModelConfig) -> None:
    """Raise BadCheckpoint unless the tensors are exactly those of the configuration."""
    expected = config.parameter_shapes()
    for name, shape in expected.items():
        if name not in shapes:
            raise BadCheckpoint(f"tensor {name} is missing", expected=f"shape {shape}")
        if tuple(shapes[name]) != shape:
            raise BadCheckpoint(
                f"tensor {name} has another shape", expected=shape, found=tuple(shapes[name])
            )
    extra = sorted(set(shapes) - set(expected))
    if extra:
        raise BadCheckpoint(
            f"{len(extra)} tensors are not part of this architecture",
            expected="the challenge baseline's names",
            found=", ".join(extra[:4]),
        )


def _fields_of(config: ModelConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ModelConfig.__dataclass_fields__}


def _fields_from_shapes(
    shapes: Shapes, given: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    vocab_size, model_dim = _matrix(shapes, "tok_emb.weight")
    numbers = {int(m[1]) for name in shapes if (m := re.match(r"blocks\.(\d{1,4})\.", name))}
    if not numbers or numbers != set(range(len(numbers))):
        raise BadCheckpoint(
            "blocks are not numbered 0…n−1", expected="blocks.0, blocks.1, …", found=sorted(numbers)
        )
    kv_dim, _ = _matrix(shapes, "blocks.0.attn.c_k.weight")
    mlp_hidden, _ = _matrix(shapes, "blocks.0.mlp.fc.weight")
    heads = given.get("num_heads") or _heads(shapes, model_dim, notes)
    if model_dim % heads or kv_dim % (model_dim // heads):
        raise BadCheckpoint(
            "head width does not divide the key projection",
            expected=f"{model_dim} / heads dividing {kv_dim}",
            found=f"{heads} heads",
            fix="Set --heads.",
        )
    layers = len(numbers)
    return {
        "vocab_size": vocab_size,
        "num_layers": layers,
        "model_dim": model_dim,
        "num_heads": heads,
        "num_kv_heads": kv_dim // (model_dim // heads),
        "mlp_hidden": mlp_hidden,
        "tie_embeddings": "lm_head.weight" not in shapes,
        "layer_schedule": _schedule(shapes, layers, given, notes),
    }


def _heads(shapes: Shapes, model_dim: int, notes: list[str]) -> int:
    gain = shapes.get("blocks.0.attn.q_gain")
    if gain is not None and len(gain) == 1 and gain[0] > 0:
        return gain[0]
    heads = max(1, model_dim // 64)
    notes.append(f"number of heads is not in the file: {heads} assumed (--heads to change)")
    return heads


def _schedule(
    shapes: Shapes, layers: int, given: Mapping[str, Any], notes: list[str]
) -> tuple[int, ...]:
    """Empty when each block runs once; otherwise a guess at how they repeat.

    `skip_weights` has a row for every skip, half the effective depth: more rows than layers // 2 mean
    that blocks are run more than once.
    """
    skips = shapes.get("skip_weights", (0,))[0]
    if skips == layers // 2 or given.get("layer_schedule"):
        return ()
    depth = 2 * skips if (2 * skips) % layers == 0 else 2 * skips + 1
    notes.append(
        f"skip_weights has {skips} rows, so {2 * skips} or {2 * skips + 1} layers run, from {layers} "
        f"blocks: {depth} layers repeating blocks in turn assumed (--layer-schedule to change)"
    )
    return tuple(level % layers for level in range(depth))


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    shape = tuple(shapes.get(name, ()))
    if len(shape) != 2:
        raise BadCheckpoint(
            f"cannot infer the architecture from tensor {name}",
            expected="a matrix",
            found=f"shape {shape}" if shape else "no such tensor",
        )
    return shape[0], shape[1]
