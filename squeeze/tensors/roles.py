"""Roles of tensors in the model, by name or else by use: the unit of recipes and of the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable

# role -> what ends the name, in the challenge baseline's naming; a role's first part is its group
_ENDINGS = {
    "embed.tok": "tok_emb.weight",
    "embed.head": "lm_head.weight",
    "embed.bigram": "bigram.table.weight",
    "embed.bigram-proj": "bigram.proj.weight",
    "embed.trigram": "trigram.table.weight",
    "embed.trigram-proj": "trigram.proj.weight",
    "embed.value": "value_embed.table.weight",
    "embed.value-proj": "value_embed.proj.weight",
    "attn.q": "attn.c_q.weight",
    "attn.k": "attn.c_k.weight",
    "attn.v": "attn.c_v.weight",
    "attn.proj": "attn.proj.weight",
    "attn.gate": "attn.gate.linear.weight",
    "mlp.fc": "mlp.fc.weight",
    "mlp.proj": "mlp.proj.weight",
}
# role of a matrix of another name by what a forward does with it (`squeeze.calib.taps.roles`)
_USES = {
    "table": "embed.table",
    "head": "embed.head",
    "q": "attn.q",
    "k": "attn.k",
    "v": "attn.v",
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "up": "mlp.fc",
    "down": "mlp.proj",
}
ROLES = (*_ENDINGS, "embed.table", "attn.qkv", "other")


def role_of(name: str) -> str:
    """Return the role of a tensor: one of ROLES.

    >>> role_of("blocks.3.attn.c_k.weight"), role_of("blocks.3.attn_scale")
    ('attn.k', 'other')
    """
    return next((role for role, ending in _ENDINGS.items() if name.endswith(ending)), "other")


def role_by_use(name: str, use: str) -> str:
    """Return the role of a matrix: by its name, else by its use.

    >>> role_by_use("blocks.3.attn.c_k.weight", "other"), role_by_use("layers.3.w2.weight", "down")
    ('attn.k', 'mlp.proj')
    """
    named = role_of(name)
    return _USES.get(use, "other") if named == "other" else named


def common_role(roles: Iterable[str]) -> str:
    """Return the role of a tensor with parts of these roles.

    >>> common_role(["attn.q"] * 2), common_role(["attn.q", "attn.v"]), common_role(["attn.q", "other"])
    ('attn.q', 'attn.qkv', 'other')
    """
    distinct = set(roles)
    if len(distinct) == 1:
        return distinct.pop()
    return "attn.qkv" if {role.partition(".")[0] for role in distinct} == {"attn"} else "other"


def layer_of(name: str) -> int | None:
    """Return the number of the block a tensor belongs to, or None.

    >>> layer_of("blocks.3.attn_scale"), layer_of("skip_weights")
    (3, None)
    """
    match = re.match(r"blocks\.(\d+)\.", name)
    return int(match[1]) if match else None


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return the sort key under which blocks.10 follows blocks.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
