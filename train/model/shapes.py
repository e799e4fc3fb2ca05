"""Names and shapes of a model's tensors, from its configuration alone. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squeeze.train.model.depth import value_homes

if TYPE_CHECKING:
    from squeeze.train.model.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]

# endings of `.weight` names that are small or read row by row: no matrices of the blocks' kind
TABLES = (
    "tok_emb.weight",
    "lm_head.weight",
    "bigram.table.weight",
    "trigram.table.weight",
    "value_embed.table.weight",
)
GATES = ("attn.gate.linear.weight", "smear.gate.weight")


def group_of(name: str) -> str:
    """Return the optimizer group of a tensor: "matrix", "table" or "small".

    >>> group_of("blocks.0.mlp.fc.weight"), group_of("tok_emb.weight"), group_of("smear.gate.weight")
    ('matrix', 'table', 'small')
    """
    if name in TABLES:
        return "table"
    return "matrix" if name.endswith(".weight") and not name.endswith(GATES) else "small"


def parameter_shapes(config: ModelConfig) -> Shapes:
    """Return the name and shape of every tensor, matrices [out, in], in the order of the modules.

    A tensor whose option is off does not exist; a model of one layer has no skips.
    """
    dim = config.model_dim
    shapes: Shapes = {"tok_emb.weight": (config.vocab_size, dim)}
    if config.num_skips:
        shapes["skip_weights"] = (config.num_skips, dim)
        if config.skip_gates:
            shapes["skip_gates"] = (config.num_skips, dim)
    if config.bigram_rows:
        shapes["bigram.table.weight"] = (config.bigram_rows, config.bigram_dim)
        shapes["bigram.proj.weight"] = (dim, config.bigram_dim)
        shapes["bigram.scale"] = (1,)
    if config.trigram_rows:
        shapes["trigram.table.weight"] = (config.trigram_rows, config.trigram_dim)
        shapes["trigram.proj.weight"] = (dim, config.trigram_dim)
        shapes["trigram.scale"] = (1,)
    if config.smear_gate == "channels":
        shapes["smear.gate"] = (dim,)
    if config.smear_gate == "token":
        shapes["smear.gate.weight"] = (1, config.gate_window)
        shapes["smear.scale"] = (1,)
    if config.value_layers:
        shapes["value_embed.table.weight"] = (config.vocab_size, config.value_dim)
        shapes["value_embed.proj.weight"] = (config.kv_dim, config.value_dim)
        shapes["value_embed.scale"] = (1,)
    for layer in range(config.num_layers):
        block = (
            _attention(config, layer) | _mlp(config) | _scalars(config) | _repeats(config, layer)
        )
        if config.has_lanes and layer >= config.parallel_from:
            block |= {"lane_keep": (2,), "lane_write": (2, 2)}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, dim)
    return shapes


def _attention(config: ModelConfig, layer: int) -> Shapes:
    dim, kv_dim = config.model_dim, config.kv_dim
    shapes: Shapes = {
        "attn.c_q.weight": (dim, dim),
        "attn.c_k.weight": (kv_dim, dim),
        "attn.c_v.weight": (kv_dim, dim),
        "attn.proj.weight": (dim, dim),
        "attn.q_gain": (config.num_heads,),
    }
    if config.attention_gate != "none":
        shapes["attn.gate.linear.weight"] = (config.num_heads, config.gate_window)
    if (layer, 0) in value_homes(config):
        shapes["attn.value_scale"] = (1,)
    return shapes


def _mlp(config: ModelConfig) -> Shapes:
    return {
        "mlp.fc.weight": (config.mlp_hidden, config.model_dim),
        "mlp.proj.weight": (config.model_dim, config.mlp_hidden),
    }


def _scalars(config: ModelConfig) -> Shapes:
    dim = config.model_dim
    shapes: Shapes = {"attn_scale": (dim,), "mlp_scale": (dim,)}
    return shapes | ({"resid_mix": (2, dim)} if config.residual_mix else {})


def _repeats(config: ModelConfig, layer: int) -> Shapes:
    shapes: Shapes = {}
    for n in range(config.passes(layer) - 1):
        own: Shapes = {}
        if config.untied_scalars:
            own |= {"q_gain": (config.num_heads,)} | _scalars(config)
        if (layer, n + 1) in value_homes(config):
            own["value_scale"] = (1,)
        if layer in config.untied_mlps:
            own |= _mlp(config)
        shapes |= {f"repeats.{n}.{name}": shape for name, shape in own.items()}
    return shapes
