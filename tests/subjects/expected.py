"""What covers the weights of every small subject, by matrix; vectors and what is small are left out."""

from __future__ import annotations

BLOCK = {
    "c_q.weight": "product q",
    "c_k.weight": "product k",
    "c_v.weight": "product v",
    "proj.weight": "product out",
    "fc.weight": "product up",
    "fc_proj.weight": "product down",
}


def under(front: str, rows: dict[str, str]) -> dict[str, str]:
    """Return rows with a front before their names."""
    return {f"{front}.{name}": how for name, how in rows.items()}


def numbered(name: str, *hows: str) -> dict[str, str]:
    """Return a row for each matrix of a bank."""
    return {f"{name}[{number}]": how for number, how in enumerate(hows)}


TWO_BLOCKS = under("blocks.0", BLOCK) | under("blocks.1", BLOCK)
TIED, TABLE, HEAD = "product+lookup table", "lookup table", "product head"
AROUND = {"emb.weight": TABLE, "lm_head.weight": HEAD}
ENCODER_LAYER = {
    "self_attn.in_proj_weight": "product qkv",
    "self_attn.out_proj.weight": "product out",
    "linear1.weight": "product up",
    "linear2.weight": "product down",
}
SQUARES = "squared gradients other"

EXPECTED = {
    "decoders.py:Baseline": {"tok_emb.weight": TIED} | TWO_BLOCKS,
    "decoders.py:Banks": {"tok_emb.weight": TIED}
    | numbered("qo_bank", *["product q"] * 2, *["product out"] * 2)
    | numbered("kv_bank", *["product k"] * 2, *["product v"] * 2)
    | numbered("up_bank", *["product up"] * 2)
    | numbered("down_bank", *["product down"] * 2),
    "decoders.py:FusedQkv": {
        "wte.weight": TIED,
        "wpe.weight": TABLE,
        "c_attn.weight": "product qkv",
        "c_proj.weight": "product out",
    },
    "decoders.py:Looped": {"tok_emb.weight": TABLE, "lm_head.weight": HEAD} | TWO_BLOCKS,
    "decoders.py:HalfPrecision": {"tok_emb.weight": TABLE, "lm_head.weight": HEAD}
    | under("block", BLOCK),
    "decoders.py:Transposed": {
        "wte.weight": TIED,
        "qkv[0]": "product qkv",
        "out[0]": "product out",
        "up[0]": "product up",
        "down[0]": "product down",
    },
    "decoders.py:Einsums": {
        "table": TABLE,
        "head[0]": HEAD,
        "q[0]": "product q",
        "k[0]": "product k",
        "v[0]": "product v",
        "o[0]": "product out",
    },
    "decoders.py:Grouped": AROUND
    | numbered("groups", *["product up"] * 2)
    | numbered("back", *["product down"] * 2)
    | numbered("shared", *["product other"] * 2),
    "decoders.py:Convolutions": AROUND
    | {"mix.weight[0]": "product other"}
    | numbered("halves.weight", *["product other"] * 2),
    "decoders.py:Tables": {
        "tok_emb.weight": TIED,
        "bigram.weight": TABLE,
        "bigram_proj.weight": "product other",
    }
    | numbered("values", TABLE, TABLE)
    | TWO_BLOCKS,
    "derived.py:FakeQuantized": AROUND | {"first": SQUARES, "second": SQUARES},
    "derived.py:WeightNormed": AROUND | {"inner.parametrizations.weight.original1": SQUARES},
    "derived.py:Merged": AROUND | {"inner.weight": SQUARES, "a": SQUARES, "b": SQUARES},
    "derived.py:Generated": AROUND | {"code": SQUARES},
    "derived.py:Scaled": AROUND | {"inner": "product other"},
    "derived.py:Encoder": {
        "emb.weight": TABLE,
        "pooler.weight": "float other, never used",
    }
    | under("layers.layers.0", ENCODER_LAYER)
    | under("layers.layers.1", ENCODER_LAYER),
}
NAMES = tuple(EXPECTED)
