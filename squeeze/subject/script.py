"""Models of a user's script, named as FILE.py:NAME: the one place that runs code of others.

NAME is a class or function that returns the module. Arguments that it needs are taken from the script's
own `Hyperparameters` where there are such, by name. Without NAME the script has a function `build`.
Beside it the script may define `logits(module, ids)`, `length`, `bos` and `step`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import nn

from squeeze.artifact.streams import Tensor as Stored
from squeeze.errors import BadCheckpoint, SqueezeError
from squeeze.files import read_file, sha256
from squeeze.subject.aside import printing_aside
from squeeze.subject.eager import eager
from squeeze.subject.process import process_restored
from squeeze.subject.shims import shimmed
from squeeze.subject.subject import Facts, Subject, one_line
from squeeze.subject.weights import fill_

BUILD, SETTINGS = "build", "Hyperparameters"
NO_GPU = re.compile(
    "cuda|nvidia", re.IGNORECASE
)  # of torch built without CUDA, of torch built with it
NAMES_OF_SETTINGS = ("h", "args", "hparams", "hp", "config", "cfg", "hyperparameters")


def load_script(
    reference: str,
    length: int | None = None,
    shim: bool = False,
    weights: Mapping[str, Stored] = MappingProxyType({}),
) -> Subject:
    """Return the model that a script builds, with the weights that it starts with.

    reference: FILE.py or FILE.py:NAME
    length: tokens of the training window, where the script does not say
    shim: whether modules that are not installed are replaced (`squeeze.subject.shims`)
    weights: of a file; those that fit are put into the model before it runs

    Raises BadCheckpoint, in one line, for a script that does not run, has no NAME, trains when it is
    imported, or builds anything but a module whose forward gives logits.
    """
    file, name = _split(reference)
    source = read_file(file)
    notes: list[str] = []
    with shimmed(notes, file.parent) if shim else contextlib.nullcontext():
        module = _imported(file, source)
        built, how = _built(module, file, name)
        fill_(built, weights)
        notes += how
    identity = {
        "kind": "script",
        "file": file.name,
        "sha256": sha256(source),
        "name": name,
    }
    facts = Facts(
        logits=_function(module, "logits"),
        length=length or _number(module, "length"),
        bos=_number(module, "bos"),
        step=_function(module, "step"),
        identity=identity,
    )
    try:
        subject = Subject.of_module(built, facts)
    except SqueezeError as error:
        raise BadCheckpoint(f"{reference}: {error}") from error
    return Subject(**{**vars(subject), "notes": (*notes, *subject.notes)})


def _split(reference: str) -> tuple[Path, str]:
    path, colon, name = reference.rpartition(":")
    if not colon or not path.endswith(".py"):
        path, name = reference, BUILD
    if not path.endswith(".py") or not name.isidentifier():
        raise BadCheckpoint(
            "--model names no model", expected="FILE.py:NAME", found=reference[:200]
        )
    return Path(path), name


def _imported(file: Path, source: bytes) -> ModuleType:
    """Return the script as a module, run under a name that is not `__main__`."""
    alias = f"squeeze_subject_{sha256(source)[:16]}"
    spec = importlib.util.spec_from_loader(alias, loader=None, origin=str(file))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file)
    # dataclasses and pickles of the script look their module up
    sys.modules[alias] = module
    with _guarded(file, "cannot be imported"):
        # this module's own future imports would make annotations of the script text
        exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))
    return module


@contextlib.contextmanager
def _guarded(file: Path, what: str) -> Iterator[None]:
    """Run a script's code: prints go to stderr, training is refused, and errors become one line."""

    def refuse(*_: Any, **__: Any) -> None:
        raise BadCheckpoint(
            f"{file}: trains when it is imported",
            expected='training below if __name__ == "__main__"',
            found="a call of backward",
        )

    backward, compile_ = torch.Tensor.backward, torch.compile
    torch.Tensor.backward = refuse  # type: ignore[method-assign]
    # loading a compiler takes seconds, and what it imports would take shims for real modules
    torch.compile = _uncompiled
    try:
        with process_restored(file), eager(load=True), printing_aside():
            sys.path.insert(0, str(file.resolve().parent))
            yield
    except SqueezeError:
        raise
    except SyntaxError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise BadCheckpoint(
            f"{file}: line {error.lineno} is no Python {version}: {error.msg}"
        ) from None
    except ModuleNotFoundError as error:
        raise BadCheckpoint(
            f"{file}: imports {error.name}, which is not installed",
            fix="Install it, or replace it with --shim.",
        ) from error
    except (Exception, SystemExit) as error:
        fix = "Build the model on the CPU." if NO_GPU.search(str(error)) else ""
        raise BadCheckpoint(f"{file}: {what}: {one_line(error)}", fix=fix) from error
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        torch.compile = compile_


def _uncompiled(model: Any = None, **_: Any) -> Any:
    """Stand in for torch.compile, as a function and as a decorator with options: return what it gets."""
    return (lambda function: function) if model is None else model


def _built(module: ModuleType, file: Path, name: str) -> tuple[nn.Module, list[str]]:
    """Return the module that NAME makes, and a note on arguments that were filled in."""
    if not hasattr(module, name):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, nn.Module)
            and value.__module__ == module.__name__
        ]
        raise BadCheckpoint(
            f"{file}: has no {name}",
            expected="the name of a class or function that returns the model",
            fix=f"It has the modules {', '.join(classes[-5:])}." if classes else "",
        )
    factory = getattr(module, name)
    if isinstance(factory, nn.Module):
        return factory, []
    if not callable(factory):
        raise BadCheckpoint(f"{file}: {name} is no class or function", found=type(factory).__name__)
    with _guarded(file, f"{name}() fails"):
        arguments, notes = _arguments(module, file, name, factory)
        built = factory(**arguments)
    if not isinstance(built, nn.Module):
        raise BadCheckpoint(
            f"{file}: {name} returns no module",
            expected="torch.nn.Module",
            found=type(built).__name__,
        )
    return built, notes


def _arguments(
    module: ModuleType, file: Path, name: str, factory: Any
) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that a class or function needs, from the script's own settings."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}, []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    settings = getattr(module, SETTINGS, None)
    if not needed:
        return {}, []
    if settings is not None:
        settings = settings()
        note = f"{name}: arguments from the script's {SETTINGS}: {', '.join(needed)}"
        if len(needed) == 1 and needed[0] in NAMES_OF_SETTINGS:
            return {needed[0]: settings}, [note]
        if all(hasattr(settings, key) for key in needed):
            optional = {
                p.name: getattr(settings, p.name)
                for p in parameters
                if p.kind not in kinds and hasattr(settings, p.name)
            }
            return optional, [note]
        needed = [key for key in needed if not hasattr(settings, key)]
    raise BadCheckpoint(
        f"{file}: {name} needs arguments",
        found=", ".join(needed[:8]),
        fix="Write a function without arguments that returns the model.",
    )


def _function(module: ModuleType, name: str) -> Any:
    value = getattr(module, name, None)
    return value if callable(value) else None


def _number(module: ModuleType, name: str) -> int | None:
    value = getattr(module, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
