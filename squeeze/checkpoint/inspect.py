"""Facts about a checkpoint or artifact: format, configuration, how it was trained, every tensor."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from squeeze.artifact.parts import PARTS, TIED, name_of_part
from squeeze.artifact.roles import roles_of_file
from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.complete import Config, config_fields
from squeeze.checkpoint.read import Checkpoint, completed_model, load_checkpoint, load_model
from squeeze.errors import BadCheckpoint
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.tensors.roles import common_role, natural_key, role_of
from squeeze.train.fields import changes
from squeeze.train.metadata import RECIPE_KEY, read_metadata
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class TensorFacts:
    """Facts about one tensor.

    storage: format of its floats, or its quantizer
    codes: smallest and largest code of a quantized tensor
    rms, max: root mean square and largest magnitude of the weights
    """

    tensor: str
    role: str
    shape: tuple[int, ...]
    storage: str
    codes: tuple[int, int] | None
    rms: float
    max: float

    @classmethod
    def of(cls, name: str, tensor: Tensor, role: str) -> TensorFacts:
        """Return the facts about a tensor of a role."""
        values = tensor.dequantize()
        storage, codes = tensor.stored if isinstance(tensor, RawTensor) else tensor.quantizer, None
        if isinstance(tensor, QuantizedTensor) and values.size:
            codes = int(tensor.codes.min()), int(tensor.codes.max())
        return cls(
            tensor=name,
            role=role,
            shape=tensor.shape,
            storage=storage,
            codes=codes,
            rms=float((values.astype("f8") ** 2).sum() / max(values.size, 1)) ** 0.5,
            max=float(abs(values).max(initial=0.0)),
        )


@dataclass(frozen=True)
class Inspection:
    """Facts about a checkpoint or artifact.

    config: None for weights of another model than ours
    recipe: that of its training, None where the file does not say
    assumed: fields of the configuration that the file does not say, with their defaults
    notes: sentences on how the file was read, and what was assumed
    """

    path: str
    format: str
    bytes: int
    sha256: str
    parameters: int
    config: ModelConfig | None
    recipe: Recipe | None
    assumed: dict[str, Any]
    notes: tuple[str, ...]
    tensors: tuple[TensorFacts, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that `squeeze inspect --json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Settings in which two models differ.

    differ: values before and after, by the name of the setting
    without_recipe: paths of models that do not say how they were trained; with any, only the settings
        of the models are compared
    assumed: of each model, fields of the configuration that its file does not say, with their defaults
    """

    paths: tuple[str, str]
    differ: dict[str, tuple[Any, Any]]
    without_recipe: tuple[str, ...]
    assumed: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    def as_json(self) -> dict[str, Any]:
        """Return the object that `squeeze inspect --json` prints for two models."""
        return asdict(self)


def inspect_model(path: Path, config: Config | None = None, **statements: Any) -> Inspection:
    """Return the facts about a checkpoint or artifact; raises as `load_model` does.

    config: fields of the configuration that the file does not tell
    statements: those fields, or `entry`, as keywords

    What nobody says is shown with its default, and named in `assumed`: nothing is computed with it.
    """
    stated = {**config_fields(config), **_stated(statements)}
    checkpoint = load_checkpoint(path, stated.pop("entry", None))
    try:
        loaded = completed_model(checkpoint, **{"assume": True, **stated})
    except BadCheckpoint:
        if stated or checkpoint.config is not None:
            raise
        return _of_weights(path, checkpoint)
    return Inspection(
        path=str(path),
        format=loaded.source,
        bytes=loaded.size,
        sha256=loaded.sha256,
        parameters=loaded.config.num_params,
        config=loaded.config,
        recipe=recipe_of(path),
        assumed=dict(loaded.assumed),
        notes=tuple(loaded.notes),
        # files of safetensors have any order
        tensors=tuple(
            TensorFacts.of(name, loaded.stored[name], role_of(name))
            for name in sorted(loaded.stored, key=natural_key)
        ),
    )


def _of_weights(path: Path, checkpoint: Checkpoint) -> Inspection:
    """Return the facts about weights that are not of our model."""
    subject = checkpoint.header.get("subject")
    note = "no configuration of squeeze's own model" if subject is None else json.dumps(subject)
    # a name of a tensor that another name stands for, too: stored once, counted once
    tied: Mapping[str, str] = checkpoint.header.get(TIED, {})
    tensors = {name: t for name, t in checkpoint.tensors.items() if name not in tied}
    roles = _roles(checkpoint.header, tensors)
    names = (f"{name} is {other}, tied" for name, other in tied.items())
    return Inspection(
        path=str(path),
        format=checkpoint.format,
        bytes=checkpoint.size,
        sha256=checkpoint.sha256,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        config=None,
        recipe=None,
        assumed={},
        notes=(*checkpoint.notes, note, *names),
        tensors=tuple(
            TensorFacts.of(name, tensors[name], roles[name])
            for name in sorted(tensors, key=natural_key)
        ),
    )


def _roles(header: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the roles of a file's tensors by their names in the model, those in parts put together."""
    parts = header.get(PARTS, {})
    inside = {name: [name] for name in names}
    for name in parts:
        inside[name] = [name_of_part(name, number) for number in range(len(parts[name][1]))]
    roles = roles_of_file(header, [part for labels in inside.values() for part in labels])
    return {name: common_role(roles[part] for part in labels) for name, labels in inside.items()}


def compare_settings(paths: Sequence[Path], **overrides: Any) -> Difference:
    """Return the settings of model and training in which two files differ."""
    first, second = map(str, paths)
    before, after = (load_model(p, **{**_stated(overrides), "assume": True}) for p in paths)
    recipes = [recipe_of(path) for path in paths]
    unknown = tuple(p for p, recipe in zip((first, second), recipes, strict=True) if not recipe)
    differ = changes(before.config, after.config) | ({} if unknown else changes(*recipes))
    assumed = dict(before.assumed), dict(after.assumed)
    return Difference((first, second), differ, unknown, assumed)


def _stated(statements: dict[str, Any]) -> dict[str, Any]:
    """Return the statements that are made; what is left out is none."""
    return {name: value for name, value in statements.items() if value not in (None, False)}


def recipe_of(path: Path) -> Recipe | None:
    """Return the recipe a model was trained by, where its file says so."""
    text = read_metadata(path).get(RECIPE_KEY)
    return None if text is None else Recipe.from_json(text)
