"""Roles of matrices from the place of their products in a forward; names only break ties.

Queries, keys and values are what attention is called with, whether in one function or as
softmax(q kᵀ) v; `out` reads its result. The head makes the logits. A product that a sigmoid follows is
a gate; one that feeds nothing but another product goes `up`, and that one `down`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from squeeze.calib.taps import forms

Sources = frozenset[str]
ROLES = ("q", "k", "v", "qkv", "out", "up", "down", "table", "head", "gate", "other")
MOST_SOURCES = 3  # products that feed a `down`: a gated MLP has two
# endings of names that are common in the field, for matrices whose place says nothing
NAMES = {
    "q": r"(c_q|q_proj|to_q|wq|query)",
    "k": r"(c_k|k_proj|to_k|wk|key)",
    "v": r"(c_v|v_proj|to_v|wv|value)",
    "qkv": r"(c_attn|qkv|qkv_proj|in_proj_weight|query_key_value)",
    "out": r"(o_proj|out_proj|wo|c_o)",
    "up": r"(up_proj|gate_proj|fc|c_fc|fc1|w1|w3|intermediate\.dense)",
    "down": r"(down_proj|fc2|w2)",
    "table": r"(wte|wpe|embed|emb|embed_tokens|tok_emb|table)",
    "head": r"(lm_head|head|unembed)",
    "gate": r"(gate)",
}


@dataclass(frozen=True)
class Event:
    """A call of a forward.

    kind: "product", "lookup" or the name of a function of activations
    result: name under which later events refer to its result
    sources: of each argument that is an activation
    """

    kind: str
    result: str
    sources: tuple[Sources, ...]


@dataclass
class _Reading:
    """Roles found so far, and the results of attention."""

    roles: dict[str, set[str]] = field(default_factory=dict)
    attended: set[str] = field(default_factory=set)

    def give_(self, role: str, sources: Iterable[str]) -> None:
        for source in sources:
            if source.startswith("product "):
                self.roles.setdefault(source, set()).add(role)


def roles_of(events: Sequence[Event], logits: Sources) -> dict[str, str]:
    """Return the role of each product and lookup by the name of its result.

    logits: sources of what the forward returned
    """
    reading = _Reading()
    _read_attention_(events, reading)
    for event in events:
        if event.kind == "sigmoid" and len(event.sources[0]) == 1:
            reading.give_("gate", event.sources[0] - reading.roles.keys())
    made = [event for event in events if event.kind == "product"]
    for event in made:
        (sources,) = event.sources
        gates = {s for s in sources if s.startswith("sigmoid ")}
        if sources - gates and sources - gates <= reading.attended:
            reading.give_("out", [event.result])
    if len(logits) == 1:
        reading.give_("head", logits - reading.roles.keys())
    for event in made:
        (sources,) = event.sources
        plain = all(s.startswith("product ") and s not in reading.roles for s in sources)
        if event.result not in reading.roles and plain and 0 < len(sources) <= MOST_SOURCES:
            reading.give_("up", sources)
            reading.give_("down", [event.result])
    roles = {name: _one(found) for name, found in reading.roles.items()}
    return roles | {event.result: "table" for event in events if event.kind == "lookup"}


def _read_attention_(events: Sequence[Event], reading: _Reading) -> None:
    scores: dict[str, tuple[Sources, ...]] = {}
    shares: set[str] = set()
    for event in events:
        if event.kind == forms.SDPA and len(event.sources) >= 3:
            for role, sources in zip("qkv", event.sources, strict=False):
                reading.give_(role, sources)
            reading.attended.add(event.result)
        elif event.kind == "softmax":
            for source in event.sources[0] & scores.keys():
                reading.give_("q", scores[source][0])
                reading.give_("k", scores[source][1])
            shares.add(event.result)
        elif event.kind in forms.MATMULS or event.kind == forms.EINSUM:
            first, second = event.sources[:2]
            if first & shares or second & shares:
                reading.give_("v", second if first & shares else first)
                reading.attended.add(event.result)
            else:
                scores[event.result] = (first, second)


def _one(roles: set[str]) -> str:
    """Return one role for a product that has several: a fused one, or the first of the list."""
    if len(roles & set("qkv")) > 1:
        return "qkv"
    return min(roles, key=ROLES.index)


def by_name(name: str) -> str:
    """Return the role that a parameter's name suggests, "other" for none.

    >>> by_name("layers.3.self_attn.q_proj.weight"), by_name("scale")
    ('q', 'other')
    """
    stem = name.removesuffix(".weight")
    matches = (role for role, ending in NAMES.items() if re.search(rf"(^|\.){ending}$", stem))
    return next(matches, "other")


def role_of_uses(roles: Mapping[str, str], uses: Iterable[str], name: str) -> str:
    """Return the role of a matrix from those of its products and lookups; by its name for none."""
    found = {roles[use] for use in uses if use in roles}
    return _one(found) if found else by_name(name)
