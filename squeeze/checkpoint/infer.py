"""Fields of a model's configuration that the names and shapes of its tensors say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from squeeze.errors import BadCheckpoint
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import passes

Shapes = Mapping[str, tuple[int, ...]]
FIRST = "blocks.0."


OURS = re.compile(
    r"(tok_emb|lm_head)\.weight|skip_(weights|gates)|(bigram|trigram|value_embed)"
    r"\.(table\.weight|proj\.weight|scale)|smear\.(gate|gate\.weight|scale)|blocks\.\d{1,4}\."
    r"(repeats\.\d{1,4}\.)?(attn\.(c_[qkv]|proj|gate\.linear)\.weight|(attn\.)?(q_gain|value_scale)"
    r"|mlp\.(fc|proj)\.weight|attn_scale|mlp_scale|resid_mix|lane_(keep|write))"
)


VALUE_SCALE = re.compile(r"blocks\.(\d{1,4})\.(?:attn|repeats\.(\d{1,4}))\.value_scale")


def check_names(shapes: Shapes) -> None:
    """Raise BadCheckpoint for tensors that no configuration of our model has."""
    strange = sorted(name for name in shapes if not OURS.fullmatch(name))
    if strange:
        raise BadCheckpoint(
            f"{len(strange)} tensors are not part of this architecture",
            expected="names of the challenge's baseline or of a layout in docs/layouts.md",
            found=", ".join(name[:80] for name in strange[:4]),
            fix="Name the model's own class with --model FILE.py:NAME.",
        )


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
            expected="names of the challenge's baseline or of a layout in docs/layouts.md",
            found=", ".join(extra[:4]),
        )


def fields_from_shapes(shapes: Shapes, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that tensors say.

    told: fields known without the tensors, of which the number of heads is read where no tensor says it

    Raises BadCheckpoint for tensors from which no architecture can be read.
    """
    vocab_size, model_dim = _matrix(shapes, "tok_emb.weight")
    numbers = {int(m[1]) for name in shapes if (m := re.match(r"blocks\.(\d{1,4})\.", name))}
    if not numbers or numbers != set(range(len(numbers))):
        raise BadCheckpoint(
            "blocks are not numbered 0…n−1", expected="blocks.0, blocks.1, …", found=sorted(numbers)
        )
    kv_dim, _ = _matrix(shapes, f"{FIRST}attn.c_k.weight")
    mlp_hidden, _ = _matrix(shapes, f"{FIRST}mlp.fc.weight")
    heads = _heads(shapes.get(f"{FIRST}attn.q_gain"), told)
    if model_dim % heads or kv_dim % (model_dim // heads):
        raise BadCheckpoint(
            "head width does not divide the key projection",
            expected=f"{model_dim} / heads dividing {kv_dim}",
            found=f"{heads} heads",
            fix="Set --heads.",
        )
    return _options(shapes) | {
        "vocab_size": vocab_size,
        "num_layers": len(numbers),
        "model_dim": model_dim,
        "num_heads": heads,
        "num_kv_heads": kv_dim // (model_dim // heads),
        "mlp_hidden": mlp_hidden,
        "tie_embeddings": "lm_head.weight" not in shapes,
    }


def value_layers_of(shapes: Shapes, fields: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the layers with a scale of the value embedding.

    fields: of the configuration; with `by_depth` effective layers are counted, as `layer_schedule` runs
    """
    homes = [match for name in shapes if (match := VALUE_SCALE.fullmatch(name))]
    owners = {(int(match[1]), int(match[2]) + 1 if match[2] else 0) for match in homes}
    if not fields.get("by_depth"):
        return tuple(sorted({block for block, _ in owners}))
    runs = passes(tuple(fields["layer_schedule"]))
    return tuple(depth for depth, run in enumerate(runs) if run in owners)


def _options(shapes: Shapes) -> dict[str, Any]:
    """Return the options that leave tensors behind, and those that would and do not."""
    options: dict[str, Any] = {
        "untied_scalars": any(re.search(r"repeats\.\d+\.attn_scale$", name) for name in shapes),
        "untied_mlps": _layers_with(shapes, r"repeats\.\d+\.mlp\.fc\."),
        "residual_mix": f"{FIRST}resid_mix" in shapes,
        "skips": "skip_weights" in shapes or "blocks.1.attn_scale" not in shapes,
        "skip_gates": "skip_gates" in shapes,
        "smear_gate": "none",
    }
    lanes = _layers_with(shapes, "lane_keep$")
    if lanes:
        options["parallel_from"] = lanes[0]
    if "value_embed.table.weight" in shapes:
        options["value_dim"] = _matrix(shapes, "value_embed.table.weight")[1]
    for kind in ("bigram", "trigram"):
        options[f"{kind}_rows"] = 0
        if f"{kind}.table.weight" in shapes:
            rows, width = _matrix(shapes, f"{kind}.table.weight")
            options |= {f"{kind}_rows": rows, f"{kind}_dim": width}
    if "smear.gate" in shapes:
        options["smear_gate"] = "channels"
    if "smear.gate.weight" in shapes:
        width = _matrix(shapes, "smear.gate.weight")[1]
        options |= {"smear_gate": "token", "gate_window": width}
    gate = f"{FIRST}attn.gate.linear.weight"
    if gate in shapes:
        options["gate_window"] = _matrix(shapes, gate)[1]
    else:
        options["attention_gate"] = "none"
    return options


def _layers_with(shapes: Shapes, ending: str) -> tuple[int, ...]:
    """Return the numbers of the blocks that have a tensor of this ending."""
    pattern = re.compile(rf"blocks\.(\d{{1,4}})\.{ending}")
    return tuple(sorted({int(match[1]) for name in shapes if (match := pattern.match(name))}))


def _heads(gain: tuple[int, ...] | None, told: Mapping[str, Any]) -> int:
    heads = told.get("num_heads") or (gain[0] if gain is not None and len(gain) == 1 else 0)
    if not isinstance(heads, int) or heads < 1:
        raise BadCheckpoint(
            "the number of attention heads is not in the file",
            expected="attn.q_gain with a number for each head",
            found="no such tensor" if gain is None else gain,
            fix="Set --heads.",
        )
    return heads


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    shape = tuple(shapes.get(name, ()))
    if len(shape) != 2:
        raise BadCheckpoint(
            f"cannot infer the architecture from tensor {name}",
            expected="a matrix",
            found=f"shape {shape}" if shape else "no such tensor",
        )
    return shape[0], shape[1]
