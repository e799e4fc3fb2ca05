"""Our own train_gpt.py: `entry.py` with a model's configuration and recipe put in, as one small file."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from squeeze import codecs
from squeeze.artifact import container
from squeeze.bundle.build import Bundle, BundleOptions, bundle
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, verify
from squeeze.files import scratch_folder
from squeeze.ledger.submission import CODE
from squeeze.score.modes import Mode
from squeeze.submit.plain import BadSubmission
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

ENTRY = Path(__file__).with_name("entry.py")
OPTIONS = {"steps", "budget_seconds", "reserve_seconds"}  # --steps and --seconds
UNCHECKED = frozenset(("AssertionError", "BadConfig", "CorruptData", "UnsupportedFormat"))
CODECS = {"context", "context-words"}
MODES = ("window", "sliding", "ttt-lora")  # those of the entry


def own_script(
    config: Mapping[str, Any],
    recipe: Mapping[str, Any],
    limit: int,
    mode: Mode,
    options: BundleOptions | None = None,
) -> Bundle:
    """Return the bundle of an entry that trains, packs and scores one model.

    config, recipe: fields of ModelConfig and Recipe, or only some of them
    options: None: those of the smallest file

    Raises BadSubmission for a mode that the entry lacks.
    """
    with scratch_folder("squeeze-entry-") as folder:
        path = folder / CODE
        path.write_text(specialised(config, recipe, limit, mode))
        options = options or smallest_options(config, recipe)
        stated = replace(options, constants={"MODE": mode.name} | options.constants)
        return bundle(path, ["squeeze"], stated)


def verify_script(source: str, shipped: bytes, check: Check) -> None:
    """Run the readable program and the file that ships alike; raise BundleError if they differ.

    source: as `specialised` returns it
    """
    with scratch_folder("squeeze-entry-") as folder:
        path = folder / CODE
        path.write_text(source)
        verify({CODE: path}, CODE, shipped, check).check()


def smallest_options(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> BundleOptions:
    """Return the options of the smallest script: every setting is a constant, where reads allow it.

    Checks of settings go, which have passed here, those of a file whose checksum the entry has
    compared, and assertions; checks of data and of scores stay.
    """
    every_settings = ModelConfig.from_fields(dict(config)), Recipe.from_fields(dict(recipe))
    constants: dict[str, object] = {
        f"{type(settings).__name__}.{name}": getattr(settings, name)
        for settings in every_settings
        for name in (*vars(settings), *_computed(type(settings)))
        if name not in OPTIONS
    }
    return BundleOptions(
        constants={"VALIDATING": False},
        coders=("lzma", "mixed"),
        shrink=ShrinkOptions(
            terse_errors=True, unchecked=UNCHECKED, specialise=True, optional_fields=constants
        ),
    )


def check_codecs(data: bytes) -> None:
    """Raise BadSubmission unless the entry decodes a model's streams: it ships the context coders."""
    used = {codecs.name_of(stream.codec_id) for stream in container.parse(data).streams}
    if not used <= CODECS:
        wanted = ",".join(sorted(CODECS))
        raise BadSubmission(
            "the script of squeeze does not decode this model",
            expected=f"streams in {wanted}",
            found=", ".join(sorted(used - CODECS)),
            fix=f"`squeeze pack MODEL -o NEW.sqz --lossless --codecs {wanted}` codes it again.",
        )


def specialised(
    config: Mapping[str, Any], recipe: Mapping[str, Any], limit: int, mode: Mode
) -> str:
    """Return the source of `entry.py` with its constants replaced."""
    if mode.name not in MODES or mode.length is not None or mode.settings:
        raise BadSubmission(
            "the script of squeeze does not score so",
            expected=f"--mode {', '.join(MODES)}, with the model's window and the mode's defaults",
            found=f"{mode.name}, length {mode.length}, {dict(mode.settings)}",
            fix="Give a --script that does.",
        )
    values = {
        "MODEL": _changed(ModelConfig.from_fields(dict(config))),
        "RECIPE": _changed(Recipe.from_fields(dict(recipe))),
        "LIMIT": limit,
        "MODE": mode.name,
    }
    if mode.stride is not None:
        values["STRIDE"] = mode.stride
    source = ENTRY.read_text()
    lines = source.splitlines(keepends=True)
    for statement in reversed(ast.parse(source).body):
        name = _constant(statement)
        if name in values:
            line = f"{name} = {values.pop(name)!r}\n"
            lines[statement.lineno - 1 : statement.end_lineno] = [line]
    if values:
        raise BundleError("entry.py has no such constants", found=", ".join(values))
    return "".join(lines)


def _changed(settings: Any) -> dict[str, Any]:
    """Return the fields that are not at their defaults."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }


def _computed(kind: type) -> list[str]:
    """Return the properties of a class."""
    return [name for name, value in vars(kind).items() if isinstance(value, property)]


def _constant(statement: ast.stmt) -> str:
    """Return the name that a statement gives a value, "" for none."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""
