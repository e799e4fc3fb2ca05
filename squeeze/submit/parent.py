"""Parents of a submission: their effective configurations, and the settings that it changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeeze.artifact import container
from squeeze.checkpoint.read import load_model
from squeeze.errors import SqueezeError
from squeeze.files import sha256
from squeeze.ledger.submission import CLAIMS, MODEL
from squeeze.submit.plain import BadSubmission, parse_object, plain_files, read_plain, shown
from squeeze.train.metadata import RECIPE_KEY, read_metadata
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

MAX_FIELDS = 2_000
REPEATED = ("name", "author", "github_id", "val_bpb", "bytes_total")
Config = dict[str, dict[str, Any]]  # section ("model", "recipe") -> field -> value


@dataclass(frozen=True)
class Parent:
    """A submission or checkpoint that this one was made from.

    source: name of the file or folder
    facts: statements of its papers
    config: None where nothing in it states one
    """

    source: str
    facts: dict[str, Any]
    config: Config | None

    def as_json(self, own: Config) -> dict[str, Any]:
        """Return the entry of submission.json; `changed` holds [parent's, own value] by field."""
        changed = None if self.config is None else differences(self.config, own)
        return {"source": self.source, **self.facts, "changed": changed}


def read_parent(path: Path) -> Parent:
    """Read a submission folder, its submission.json, a checkpoint or an artifact; run nothing of it.

    Raises BadSubmission, or what the reader of checkpoints raises.
    """
    if path.is_dir():
        return _read_folder(path)
    data = read_plain(path)
    if path.suffix == ".json":
        claims = parse_object(data, path.name)
        return Parent(path.name, _facts(claims, data), stated_config(claims))
    return Parent(path.name, {"sha256": sha256(data)}, config_of_model(path, data))


def _read_folder(folder: Path) -> Parent:
    files = plain_files(folder)
    name = folder.resolve().name
    if CLAIMS not in files:
        raise BadSubmission(f"{folder}: not a submission", expected=f"{CLAIMS} in it")
    data = read_plain(folder / CLAIMS)
    claims = parse_object(data, f"{folder.name}/{CLAIMS}")
    config = stated_config(claims)
    for seed in sorted(n for n in files if n.startswith("seed") and n.endswith(".json")):
        if config is None:  # entries of the field state it with their seeds
            stated = parse_object(read_plain(folder / seed), seed).get("config")
            config = stated_config({"config": stated})
    if config is None and MODEL in files:
        config = config_of_model(folder / MODEL, read_plain(folder / MODEL))
    return Parent(name, _facts(claims, data), config)


def _facts(claims: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    facts = {
        key: claims[key] if isinstance(claims[key], int | float) else shown(claims[key])
        for key in REPEATED
        if isinstance(claims.get(key), str | int | float)
    }
    return facts | {"sha256": sha256(data)}


def stated_config(claims: Mapping[str, Any]) -> Config | None:
    """Return the `config` field as sections; a flat one is the section "config". None: no field."""
    stated = claims.get("config")
    if not isinstance(stated, dict) or not stated:
        return None
    sectioned = all(isinstance(section, dict) for section in stated.values())
    config: Config = stated if sectioned else {"config": stated}
    if sum(map(len, config.values())) > MAX_FIELDS:
        raise BadSubmission("config: too many fields", expected=f"≤ {MAX_FIELDS}")
    if "model" in config:
        config = {**config, "model": _completed(config["model"])}
    return config


def _completed(model: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of fields left out; return a configuration of another model as it stands."""
    try:
        return plain_values(asdict(ModelConfig.from_fields(model)))
    except (SqueezeError, TypeError):
        return model


def config_of_model(path: Path, data: bytes) -> Config:
    """Return model and recipe of a checkpoint or artifact, every field that the file states."""
    if data[:4] == container.MAGIC:  # its header suffices; weights need not be decoded
        model = container.parse(data).config.get("model")
        return {"model": _completed(model if isinstance(model, dict) else {})}
    loaded = load_model(path, assume=True)
    stated = {n: v for n, v in asdict(loaded.config).items() if n not in loaded.assumed}
    config = {"model": plain_values(stated)}
    text = read_metadata(path).get(RECIPE_KEY)
    if text is not None:
        config["recipe"] = plain_values(asdict(Recipe.from_json(text)))
    return config


def plain_values(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as JSON gives them back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(fields))
    return plain


def differences(parent: Config, own: Config) -> dict[str, list[Any]]:
    """Return section.field -> [parent's value, own value] over sections of both; None: not there."""
    changes = {}
    for section in parent.keys() & own.keys():
        before, after = parent[section], own[section]
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                changes[f"{section}.{key}"] = [before.get(key), after.get(key)]
    return dict(sorted(changes.items()))
