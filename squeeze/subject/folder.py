"""Models of a transformers folder, `config.json` beside weights, with the extra `transformers`.

The library builds the model and reads its weights; code that a folder brings along is never run.
Identity is the class with its configuration, from which the model is built again without the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from squeeze.artifact.parts import TIED, whole_tensors
from squeeze.artifact.streams import Artifact
from squeeze.artifact.unpack import torch_tensors
from squeeze.errors import BadCheckpoint, MissingPackage, SqueezeError
from squeeze.files import make_folder, read_json, write_atomic
from squeeze.subject.outputs import first_tensor
from squeeze.subject.subject import Facts, Subject, one_line
from squeeze.subject.workpiece import SUBJECT, Workpiece

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".bin")
KIND = "transformers"
MAX_CONFIG = 1 << 24  # bytes
MASKED = "ForMaskedLM"


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder with a configuration of transformers in it."""
    config = Path(path) / CONFIG
    if not config.is_file():
        return False
    content = read_json(config, MAX_CONFIG)
    return isinstance(content, dict) and "model_type" in content


def open_folder(path: str | os.PathLike[str], length: int | None = None) -> Workpiece:
    """Return the model of a transformers folder, its weights in the formats of the folder.

    length: tokens of the training window; by default the positions that the configuration allows

    Raises BadCheckpoint for a folder that the library cannot load, that brings code of its own, or whose
    weights are not exactly those of the model; SqueezeError where the library is not installed.
    """
    library = _library()
    with _reading(path):
        config = library.AutoConfig.from_pretrained(path, local_files_only=True)
        model, report = _class_of(library, config).from_pretrained(
            path, config=config, local_files_only=True, output_loading_info=True, dtype="auto"
        )
    _refuse_strangers(path, model, report)
    return Workpiece.of_module(model, _facts(model, length), "transformers")


def is_of_folder(artifact: Artifact) -> bool:
    """Return whether an artifact holds a model of transformers."""
    identity = artifact.config.get(SUBJECT)
    return isinstance(identity, Mapping) and identity.get("kind") == KIND


def save_folder(artifact: Artifact, target: str | os.PathLike[str]) -> int:
    """Write `config.json` and `model.safetensors` into a folder; return the bytes of the weights.

    `from_pretrained` of the library loads it. A tokenizer is not in an artifact, and not written. Raises
    SqueezeError when the folder holds other weights: those that were packed, or shards of some.
    """
    settings = dict(artifact.config[SUBJECT]["config"])
    names = artifact.config.get(TIED, {})
    tensors = {n: t for n, t in torch_tensors(whole_tensors(artifact)).items() if n not in names}
    weights = save(tensors, metadata={"format": "pt"})
    _refuse_other_weights(Path(target), weights)
    make_folder(target)
    write_atomic(Path(target, WEIGHTS), weights)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    write_atomic(Path(target, CONFIG), text.encode())
    return len(weights)


def _refuse_other_weights(folder: Path, weights: bytes) -> None:
    """Raise SqueezeError when a folder holds files of weights, but for these in their own file."""
    for path in sorted(folder.glob("*")):
        own = path.name == WEIGHTS and path.is_file() and path.read_bytes() == weights
        if path.suffix in WEIGHT_SUFFIXES and not own:
            raise SqueezeError(
                f"{folder}: cannot be written",
                expected="a folder without weights",
                found=f"{path.name} in it, what may be the model that was packed",
                fix="Name another folder with -o.",
            )


def build(identity: Mapping[str, Any], length: int | None = None) -> Subject:
    """Return a model of random weights from the identity of another. Raises as `open_folder`."""
    library = _library()
    with _reading("the model's identity"):
        settings = dict(identity["config"])
        config = library.AutoConfig.for_model(settings.pop("model_type"), **settings)
        model = _class_of(library, config)._from_config(config, dtype=torch.float32)
    return Subject.of_module(model, _facts(model, length))


def _facts(model: Any, length: int | None) -> Facts:
    config = model.config
    return Facts(
        logits=_logits(type(model).__name__),
        length=length,
        bos=config.bos_token_id if isinstance(config.bos_token_id, int) else None,
        identity={"kind": KIND, "config": _settings(config)},
    )


def _settings(config: Any) -> dict[str, Any]:
    """Return what differs from the defaults of a configuration, and what finds its class."""
    settings = config.to_diff_dict()
    settings.update(model_type=config.model_type, architectures=config.architectures)
    for name in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        settings.pop(name, None)
    return settings


def _logits(name: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the function of the logits, or of the hidden states of a model that has none."""
    if name.endswith(MASKED) or "CausalLM" in name or "LMHead" in name:
        return lambda model, ids: first_tensor(_cacheless(model)(input_ids=ids))
    return lambda model, ids: _cacheless(model)(input_ids=ids).last_hidden_state


def _cacheless(model: Any) -> Any:
    # a cache of keys and values would only cost memory: every forward is of whole windows
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False
    return model


def _class_of(library: ModuleType, config: Any) -> Any:
    """Return the class that a configuration names. Raises BadCheckpoint."""
    names = config.architectures or []
    named = getattr(library, names[0], None) if names else None
    if isinstance(named, type) and issubclass(named, library.PreTrainedModel):
        return named
    raise BadCheckpoint(
        f"{CONFIG} names no model of transformers",
        expected='"architectures" with the class that the weights are of',
        found=names or "none",
    )


def _refuse_strangers(path: str | os.PathLike[str], model: Any, report: Mapping[str, Any]) -> None:
    """Raise BadCheckpoint unless the weights of the folder are those of the model."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = sorted(set(report["missing_keys"]) - tied)
    for name in ("unexpected_keys", "mismatched_keys"):
        missing += sorted(map(str, report[name]))
    if missing:
        raise BadCheckpoint(
            f"{path}: weights are not those of {type(model).__name__}",
            expected="every weight of the class and no other",
            found=", ".join(missing[:4]) + (" …" if len(missing) > 4 else ""),
        )


class _reading:
    """Context in which errors of the library become one line, and its own output is off."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._bars = _library().utils.logging
        self._bars.disable_progress_bar()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._bars.enable_progress_bar()
        if isinstance(error, Exception) and not isinstance(error, SqueezeError):
            raise BadCheckpoint(
                f"{self._path}: transformers cannot load it: {one_line(error)}"
            ) from error


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise MissingPackage(
            "a folder of transformers needs the package of that name", "transformers"
        ) from error
    return transformers
