"""Fields that change what a model computes although no tensor tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Any]
Test = Callable[[Fields], bool]


def _always(_: Fields) -> bool:
    return True


def _has_inputs(fields: Fields) -> bool:
    hashed = fields.get("bigram_rows", 0) or fields.get("trigram_rows", 0)
    return bool(hashed) or fields.get("smear_gate", "none") != "none"


def _knows_documents(fields: Fields) -> bool:
    within = _has_inputs(fields) and not fields.get("inputs_cross_documents")
    return bool(within or fields.get("document_attention"))


def has_lanes(fields: Fields) -> bool:
    return str(fields.get("parallel")).startswith("lanes")


def _is_parallel(fields: Fields) -> bool:
    return fields.get("parallel", "none") != "none"


def _repeats(fields: Fields) -> bool:
    return bool(fields.get("untied_scalars") and fields.get("layer_schedule"))


# Fields that no tensor tells and that change what the model computes, each with the test whether it
# matters beside the others; in an order in which every test finds its fields.
FORWARD: dict[str, Test] = {
    "mlp_power": _always,
    "mlp_slope": _always,
    "rope_dims": _always,
    "rope_base": _always,
    "rope_length": _always,
    "logit_softcap": _always,
    "qk_norm": _always,
    "norm_scale": _always,
    "xsa_layers": _always,
    "attention_window": _always,
    "document_attention": _always,
    "no_attention": _always,
    "layer_schedule": _always,
    "by_depth": _repeats,
    "parallel": _always,
    "parallel_from": _is_parallel,
    "lane_output": has_lanes,
    "attention_gate": _always,
    "attention_gate_scale": lambda fields: fields.get("attention_gate") == "sparse",
    "inputs_cross_documents": _has_inputs,
    "bos_id": _knows_documents,
}
# a guess at these is told, but changes no logit: windows, and where documents begin in a score
HARMLESS = ("seq_len", "bos_id")
