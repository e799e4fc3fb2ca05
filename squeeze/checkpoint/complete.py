"""A configuration for weights whose file carries none: from tensors, and from what the user says.

Tensors tell sizes and every option with weights of its own. The rest (the power of the activation,
rotary angles, the order of repeated blocks, …) changes what the model computes, so it is never guessed
in silence: it comes from flags, from the settings of the training script, from a named layout, or, with
`assume`, from the defaults, which are then written down wherever the model goes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from squeeze.artifact.facts import assumed_notes, listed
from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.forward import FORWARD, HARMLESS, has_lanes
from squeeze.checkpoint.infer import check_names, check_shapes, fields_from_shapes, value_layers_of
from squeeze.checkpoint.known import LAYOUTS, Layout, fields_like
from squeeze.checkpoint.layouts import as_ours, layers_of
from squeeze.checkpoint.settings import ScriptSettings, read_settings
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.train.fields import refuse_unknown
from squeeze.train.model.config import ModelConfig

Named = dict[str, Tensor]
Fields = Mapping[str, Any]
Config = ModelConfig | Mapping[str, Any]  # a configuration, or some fields of one


@dataclass(frozen=True)
class Completion:
    """Statements of a user about a checkpoint.

    fields: fields of ModelConfig
    like: name of a layout in `squeeze.checkpoint.known`
    settings: path of a script's settings
    assume: take defaults for what is still open
    """

    fields: Fields = field(default_factory=dict)
    like: str | None = None
    settings: str | os.PathLike[str] | None = None
    assume: bool = False

    @classmethod
    def of(cls, statements: Fields) -> Completion:
        """Return the statements in a dictionary of fields that may hold the other three, too.

        None stands for what is not stated. Raises BadConfig for a name that is no field.
        """
        own: dict[str, Any] = {"like": None, "settings": None, "assume": False}
        fields = {n: value for n, value in statements.items() if n not in own and value is not None}
        refuse_unknown("configuration", fields, ModelConfig.__dataclass_fields__)
        own |= {name: statements[name] for name in own if statements.get(name) is not None}
        return cls(fields, own["like"], own["settings"], bool(own["assume"]))


@dataclass(frozen=True)
class Completed:
    """Weights with their whole configuration.

    tensors: under the names of `squeeze.train.model`
    notes: sentences for the user
    assumed: fields whose values nobody said
    """

    config: ModelConfig
    tensors: Named
    notes: list[str]
    assumed: dict[str, Any]


def config_fields(config: Config | None) -> dict[str, Any]:
    """Return the fields of a configuration that is given whole, in part or not at all.

    Raises BadConfig for anything else.
    """
    if isinstance(config, ModelConfig):
        return {name: getattr(config, name) for name in ModelConfig.__dataclass_fields__}
    fields = {} if config is None else config
    if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
        raise BadConfig(
            "configuration",
            expected="a ModelConfig, or a mapping of its fields by name",
            found=repr(config)[:40],
        )
    return dict(fields)


def complete(
    tensors: Named,
    stored: ModelConfig | None,
    completion: Completion,
    assumed: Fields | None = None,
) -> Completed:
    """Return the weights of a checkpoint with their configuration: the stored one, or a completed one.

    assumed: fields of the stored configuration that an earlier reader assumed

    Raises BadCheckpoint when something that changes the forward is not known, or the tensors are not
    those of the configuration, naming the first that differs.
    """
    if stored is not None:
        config = ModelConfig.from_fields(config_fields(stored) | dict(completion.fields))
        check_shapes(_shapes(tensors), config)
        left = {n: v for n, v in (assumed or {}).items() if n not in completion.fields}
        return Completed(config, tensors, assumed_notes(left), left)
    notes: list[str] = []
    settings = ScriptSettings()
    if completion.settings is not None:
        settings = read_settings(completion.settings)
        _check_unknown(settings, completion, notes)
    told = _told(tensors, settings, completion)
    tensors, facts = as_ours(tensors, told | dict(completion.fields), settings, notes)
    shapes = _shapes(tensors)
    check_names(shapes)
    read = fields_from_shapes(shapes, told | dict(completion.fields))
    _check_settings(settings, read)
    fields = told | facts | read | dict(completion.fields)
    deepest = len(fields.get("layer_schedule", ())) if fields.get("by_depth") else 0
    if "xsa_layers" in fields and "xsa_layers" not in completion.fields:
        fields["xsa_layers"] = min(fields["xsa_layers"], max(deepest, read["num_layers"]))
    if "lane_keep" not in "".join(shapes) and has_lanes(fields):
        fields["parallel"] = "none"
    if "layer_schedule" not in fields and _skips_say_once(shapes, read):
        fields["layer_schedule"] = ()
    fields, assumed = _with_defaults(fields, completion, shapes)
    fields["value_layers"] = value_layers_of(shapes, fields)
    if "rope_length" not in completion.fields and _layout(settings, completion).rotary_follows:
        fields["rope_length"] = fields["seq_len"]
    config = ModelConfig.from_fields(fields)
    check_shapes(shapes, config)
    return Completed(config, tensors, notes + assumed_notes(assumed), dict(assumed))


def _shapes(tensors: Named) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _layout(settings: ScriptSettings, completion: Completion) -> Layout:
    """Return the layout that is known of the script, or else the one that is named."""
    if settings.layout.code or completion.like is None:
        return settings.layout
    return LAYOUTS[completion.like]


def _told(tensors: Named, settings: ScriptSettings, completion: Completion) -> dict[str, Any]:
    """Return the fields that a layout, a script's code and its settings say, the last going first."""
    layers = layers_of(_shapes(tensors))
    like = {} if completion.like is None else fields_like(completion.like, layers)
    told = like | dict(settings.layout.code) | dict(settings.fields)
    return told


def _with_defaults(
    fields: dict[str, Any], completion: Completion, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all fields, and of these the assumed ones; fields that do not matter have their defaults.

    Raises BadCheckpoint where a field of the forward is open and nothing may be assumed.
    """
    assumed: dict[str, Any] = {}
    for name, matters in FORWARD.items():
        if not matters(fields):
            if name not in completion.fields and name not in HARMLESS:
                fields.pop(name, None)
        elif name not in fields:
            fields[name] = assumed[name] = _guess(name, fields, shapes)
    if assumed and not completion.assume:
        raise BadCheckpoint(
            f"the file does not say {', '.join(assumed)}",
            expected="all that changes what the model computes",
            found=f"{len(assumed)} options that leave no tensors",
            fix=f"Name a layout with --like ({', '.join(LAYOUTS)}), the script's settings with"
            f" --settings FILE.json, single options with --set NAME=VALUE, or take the defaults with"
            f" --assume: {listed(assumed)}.",
        )
    for name in HARMLESS:
        if name not in fields:
            fields[name] = assumed[name] = _default(name)
    return fields, assumed


def _guess(name: str, fields: Fields, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Return the value that is assumed for a field: the default where tensors do not rule it out."""
    if name == "attention_gate":
        return "sparse"
    if name == "parallel" and "parallel_from" in fields and any("lane_keep" in n for n in shapes):
        return "lanes"
    if name == "layer_schedule":
        return _guessed_schedule(shapes, fields["num_layers"])
    return _default(name)


def _default(name: str) -> Any:
    declared = ModelConfig.__dataclass_fields__[name]
    assert declared.default is not MISSING
    return declared.default


def _skips_say_once(shapes: Mapping[str, tuple[int, ...]], read: Fields) -> bool:
    """Return whether the skips have as many rows as blocks that each run once."""
    layers: int = read["num_layers"]
    return layers == 1 or shapes.get("skip_weights", (-1,))[0] == layers // 2


def _guessed_schedule(shapes: Mapping[str, tuple[int, ...]], layers: int) -> tuple[int, ...]:
    """Return blocks that repeat in turn to the depth that the skips say."""
    skips = shapes.get("skip_weights", (layers // 2,))[0]
    if skips == layers // 2:
        return ()
    depth = 2 * skips if (2 * skips) % layers == 0 else 2 * skips + 1
    return tuple(level % layers for level in range(depth))


def _check_settings(settings: ScriptSettings, read: Fields) -> None:
    """Raise BadCheckpoint where settings contradict the tensors."""
    for name, value in settings.fields.items():
        if name in read and name != "parallel_from" and read[name] != value:
            raise BadCheckpoint(
                "the settings are not those of these weights",
                expected=f"{name} {read[name]}",
                found=value,
            )


def _check_unknown(settings: ScriptSettings, completion: Completion, notes: list[str]) -> None:
    """Name the settings that are not known here. Raises BadConfig unless they may be ignored."""
    if not settings.unknown:
        return
    listed = ", ".join(settings.unknown[:8])
    if not completion.assume:
        raise BadConfig(
            "settings that are not known here may change what the model computes",
            found=listed[:200],
            fix="Name the script's own class with --model FILE.py:NAME, drop them from the file if they"
            " are of training only, or ignore them with --assume.",
        )
    notes.append(f"settings that are not known here were ignored: {listed}")
