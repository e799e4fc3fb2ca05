"""Layouts of the field: forwards of known scripts, and the settings their records ran with.

A layout is named after the pull request of openai/parameter-golf that brought it. `--like NAME` takes
all of it; a settings file that names its script by SHA-256 takes what the code fixes, and has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.errors import BadConfig
from squeeze.train.fields import refuse_unknown

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """Fields of a model's configuration that tensors cannot tell.

    code: fields that the script fixes, whatever its settings
    record: fields that the record's settings gave
    layers: number of blocks of the record; fields that count layers hold for that number only
    rotary_follows: True where windows longer than those of training stretch the rotary base
    scripts: first twelve digits of the SHA-256 of scripts with this code, as shipped or unpacked
    """

    code: Fields
    record: Fields = field(default_factory=dict)
    layers: int = 0
    rotary_follows: bool = False
    scripts: tuple[str, ...] = ()


# Options that came later; a script from before has none of them.
NONE_OF_LATER = {
    "mlp_power": 2,
    "mlp_slope": 0.0,
    "qk_norm": True,
    "rope_dims": 0,
    "rope_length": 0,
    "norm_scale": False,
    "by_depth": False,
    "xsa_layers": 0,
    "attention_window": 0,
    "document_attention": False,
    "no_attention": (),
    "inputs_cross_documents": True,
    "parallel": "none",
    "layer_schedule": (),
    "bos_id": 1,
}
COMMON = {"logit_softcap": 30.0, "rope_base": 10_000.0}


def _code(*settings: str, **fields: Any) -> Fields:
    """Return what code fixes: none of the later options but these fields; `settings` are left open."""
    fixed = NONE_OF_LATER | fields
    return {name: value for name, value in fixed.items() if name not in settings}


_DEPTH = ("rope_dims", "norm_scale", "xsa_layers")
_LOOPS = (*_DEPTH, "layer_schedule")
_ELEVEN = COMMON | {"rope_dims": 16, "norm_scale": True, "xsa_layers": 11, "seq_len": 2048}
_LOOP_345 = (*range(6), *range(3, 6), *range(3, 11))
_LANES = {"mlp_slope": 0.5, "parallel": "lanes"}
_LANES_RECORD = _ELEVEN | {
    "layer_schedule": _LOOP_345,
    "parallel_from": 8,
    "lane_output": "mean",
    # trained and scored within documents
    "document_attention": True,
}

LAYOUTS = {
    "baseline": Layout(
        _code(),
        COMMON | {"seq_len": 1024},
        9,
        False,
        (
            "e77cf46e4a37",
            "793223f52781",
            "6d7d2c63d1da",
            "70e9585e1290",
            "0bd5db496fdc",
            "0ab3e5344e93",
            "3963ab3357ef",
            "34a7a463f6bd",
            "cf6123df1c5f",
            "cdcc3f52c758",
            "1221d4e9de18",
        ),
    ),
    "record-162": Layout(
        _code(), COMMON | {"seq_len": 2048}, 9, False, ("138aeff57aea", "4fc7d9cf5ef0")
    ),
    "record-374": Layout(
        _code(*_DEPTH, rope_length=1024),
        _ELEVEN | {"xsa_layers": 4, "value_layers": (9, 10)},
        11,
        False,
        ("d610e9fd7a8f", "cfa930551961"),
    ),
    "record-549": Layout(
        _code(*_DEPTH, mlp_slope=0.5, rope_length=1024),
        _ELEVEN | {"xsa_layers": 4, "value_layers": (9, 10)},
        11,
        False,
        ("41beffa45d9c",),
    ),
    "record-1204": Layout(
        _code(
            *_LOOPS,
            "mlp_slope",
            "no_attention",
            parallel="lanes-in-turn",
            rope_length=1024,
            by_depth=True,
        ),
        _ELEVEN
        | {
            "mlp_slope": 0.5,
            "no_attention": (0,),
            "value_layers": (9, 10),
            "layer_schedule": (*range(6), 4, 5, *range(6, 11)),
            "parallel_from": 7,
            "lane_output": "mean",
        },
        11,
        False,
        ("dfbde9229237",),
    ),
    "record-1218": Layout(
        _code(*_DEPTH, mlp_slope=0.5),
        _ELEVEN | {"value_layers": (9, 10)},
        11,
        True,
        ("f10534f2ab37",),
    ),
    "record-1394": Layout(
        _code(*_LOOPS, mlp_slope=0.5),
        _ELEVEN | {"layer_schedule": (*range(6), 4, 5, *range(4, 11))},
        11,
        True,
        ("eee8118acd1e", "cc93751b7ad6", "654fe27bace3"),
    ),
    "record-1493": Layout(
        _code(*_LOOPS, "parallel", mlp_slope=0.5),
        _ELEVEN | {"layer_schedule": _LOOP_345, "parallel": "sum", "parallel_from": 7},
        11,
        True,
        ("958bd4e44b65", "477f432097ce", "599e9d9f0684", "2d5adb135701"),
    ),
    "record-1530": Layout(
        _code(*_LOOPS, **_LANES),
        _LANES_RECORD,
        11,
        False,
        ("e3f52fcb2e1a", "2227fa94f885", "9802de706b5d"),
    ),
    "record-1667": Layout(_code(*_LOOPS, **_LANES), _LANES_RECORD, 11, False, ("00acdbbf8b46",)),
    "record-1787": Layout(
        _code(*_LOOPS, **_LANES),
        _LANES_RECORD | {"attention_gate_scale": 1.0},
        11,
        False,
        ("c1491774ec4b", "8f4ddc473aaa", "4d00db38b9c2", "e3c0a01de62e"),
    ),
    "record-1855": Layout(
        _code(*_LOOPS, **_LANES, inputs_cross_documents=False),
        _LANES_RECORD | {"attention_gate_scale": 0.5},
        11,
        False,
        ("2622aeecd5ee", "8520ea55b64e", "454f710d174b"),
    ),
}
COUNT_LAYERS = ("layer_schedule", "value_layers", "no_attention", "parallel_from", "parallel")


def fields_like(name: str, num_layers: int) -> dict[str, Any]:
    """Return the fields of a layout for a model of so many blocks; raises BadConfig for an unknown name.

    Fields that count layers are left out when the record had another number of blocks. Options that are
    off, or on in every layer, hold for any number.
    """
    refuse_unknown("--like", [name], LAYOUTS)
    layout = LAYOUTS[name]
    fields = dict(layout.code) | dict(layout.record)
    if num_layers == layout.layers:
        return fields
    off = {"layer_schedule": (), "value_layers": (), "no_attention": (), "parallel": "none"}
    fields = {
        key: value
        for key, value in fields.items()
        if key not in COUNT_LAYERS or value == off.get(key)
    }
    if fields["xsa_layers"] == layout.layers:
        fields["xsa_layers"] = num_layers
    elif fields["xsa_layers"]:
        del fields["xsa_layers"]
    return fields


def layout_of_script(digest: str) -> Layout:
    """Return the layout of a script by its SHA-256; one that fixes nothing for an unknown script."""
    for layout in LAYOUTS.values():
        if digest[:12] in layout.scripts:
            return layout
    return Layout({})


def check_digest(digest: object) -> str:
    """Return a SHA-256 in lower case; raises BadConfig for anything else."""
    text = digest.lower() if isinstance(digest, str) else ""
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise BadConfig("script_sha256", expected="64 hexadecimal digits", found=repr(digest)[:80])
    return text
