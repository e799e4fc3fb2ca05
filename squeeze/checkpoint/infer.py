"""A model's configuration from tensor names and shapes, for checkpoints that carry none.

What shapes cannot tell (heads without `q_gain`, activation power, window length, the order of repeated
blocks, options without weights) comes from flags, and every value that is a guess is reported as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from squeeze.errors import BadCheckpoint
from squeeze.train.model.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]
Config = ModelConfig | Mapping[str, Any]  # a configuration, or some fields of one
FIRST = "blocks.0."

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


def config_fields(config: Config | None) -> dict[str, Any]:
    """Return the fields of a configuration that is given whole, in part or not at all."""
    return _fields_of(config) if isinstance(config, ModelConfig) else dict(config or {})


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
    options = _options(shapes, given, notes)
    return options | {
        "vocab_size": vocab_size,
        "num_layers": layers,
        "model_dim": model_dim,
        "num_heads": heads,
        "num_kv_heads": kv_dim // (model_dim // heads),
        "mlp_hidden": mlp_hidden,
        "tie_embeddings": "lm_head.weight" not in shapes,
        "layer_schedule": _schedule(shapes, layers, given, notes),
    }


def _options(shapes: Shapes, given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Architecture options that leave tensors behind; a note on those that do not, if there are any."""
    layers_with = {
        ending: sorted(
            {int(m[1]) for name in shapes if (m := re.match(rf"blocks\.(\d+)\.{ending}", name))}
        )
        for ending in ("lane_keep$", r"attn\.value_scale$", r"repeats\.\d+\.mlp\.fc\.")
    }
    lanes, values, untied = layers_with.values()
    found: dict[str, Any] = {}
    if lanes:
        found |= {"parallel": "lanes", "parallel_from": lanes[0]}
    if values:
        found |= {"value_layers": tuple(values)}
        found["value_dim"] = _matrix(shapes, "value_embed.table.weight")[1]
    if untied:
        found["untied_mlps"] = tuple(untied)
    if any(re.search(r"repeats\.\d+\.attn_scale$", name) for name in shapes):
        found["untied_scalars"] = True
    if "skip_gates" in shapes:
        found["skip_gates"] = True
    for kind in ("bigram", "trigram"):
        if f"{kind}.table.weight" in shapes:
            rows, width = _matrix(shapes, f"{kind}.table.weight")
            found |= {f"{kind}_rows": rows, f"{kind}_dim": width}
    if "smear.gate" in shapes:
        found["smear_gate"] = "channels"
    if "smear.gate.weight" in shapes:
        found |= {"smear_gate": "token", "gate_window": _matrix(shapes, "smear.gate.weight")[1]}
    gate = f"{FIRST}attn.gate.linear.weight"
    if gate in shapes:
        found |= {"attention_gate": "sparse", "gate_window": _matrix(shapes, gate)[1]}
    if found:
        shown = ", ".join(f"{name} {value}" for name, value in found.items())
        notes.append(f"found by its tensors: {shown}; other options assumed off (--set to change)")
    if f"{FIRST}resid_mix" not in shapes:
        found["residual_mix"] = False
    if "skip_weights" not in shapes and f"{FIRST[:-2]}1.attn_scale" in shapes:
        found["skips"] = False
    return found


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
    skips = shapes.get("skip_weights", (layers // 2,))[0]
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
