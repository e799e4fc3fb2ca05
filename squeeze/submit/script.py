"""Our own train_gpt.py: `entry.py` with a model's configuration and recipe put in, as one small file."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeeze import codecs
from squeeze.artifact import container
from squeeze.bundle.load.modules import BundleError
from squeeze.files import scratch_folder
from squeeze.score.modes import Mode
from squeeze.submit.plain import BadSubmission

if TYPE_CHECKING:
    from squeeze.bundle.build import Bundle

ENTRY = Path(__file__).with_name("entry.py")
OPTIONS = {"steps", "budget_seconds", "reserve_seconds"}  # --steps and --seconds
CODECS = {"context", "context-words"}
MODES = ("window", "sliding", "ttt-lora")  # that the entry scores in


def own_script(
    config: Mapping[str, Any], recipe: Mapping[str, Any], limit: int, mode: Mode, **options: Any
) -> Bundle:
    """The bundle of an entry that trains, packs and scores one model.

    config, recipe: fields of ModelConfig and Recipe, or only some of them. options: those of
    `squeeze.bundle.build.bundle`, by default what makes the smallest file: every field a constant whose
    reads can be told from others. Raises BadSubmission for a mode that the entry does not
    know.
    """
    from squeeze.bundle.build import bundle
    from squeeze.bundle.specialise import Liberties

    # checks stay: without them the file is 489 bytes smaller, and a damaged model.sqz has a score
    fixed = Liberties(terse_errors=True, specialise=True, wishes=_fields(config, recipe))
    with scratch_folder("squeeze-entry-") as place:
        path = place / "train_gpt.py"
        path.write_text(specialised(config, recipe, limit, mode))
        if "liberties" in options:
            return bundle(path, ["squeeze"], **options)
        given = {"coders": ("lzma", "mixed"), **options}
        given["constants"] = {"VALIDATING": False, **given.get("constants", {})}
        return bundle(path, ["squeeze"], liberties=fixed, **given)


def _fields(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, object]:
    """Settings that no option of the entry changes, as `squeeze bundle --define` takes them."""
    from squeeze.train.model.config import ModelConfig
    from squeeze.train.optim.recipe import Recipe

    made = ModelConfig.from_fields(dict(config)), Recipe.from_fields(dict(recipe))
    return {
        f"{type(settings).__name__}.{field.name}": getattr(settings, field.name)
        for settings in made
        for field in dataclasses.fields(settings)
        if field.name not in OPTIONS
    }


def check_codecs(data: bytes) -> None:
    """Raises BadSubmission unless the entry decodes a model's streams: it ships the context coders."""
    used = {codecs.name_of(stream.codec_id) for stream in container.parse(data).streams}
    if not used <= CODECS:
        wanted = ",".join(sorted(CODECS))
        raise BadSubmission(
            "the script of squeeze does not decode this model",
            expected=f"streams in {wanted}",
            found=", ".join(sorted(used - CODECS)),
            fix=f"`squeeze pack MODEL --lossless --codecs {wanted}` codes it again, losslessly.",
        )


def specialised(
    config: Mapping[str, Any], recipe: Mapping[str, Any], limit: int, mode: Mode
) -> str:
    """The source of `entry.py` with its constants replaced."""
    from squeeze.train.model.config import ModelConfig
    from squeeze.train.optim.recipe import Recipe

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
    """Fields that are not at their defaults."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }


def _constant(statement: ast.stmt) -> str:
    """The name that a statement gives a value."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""
