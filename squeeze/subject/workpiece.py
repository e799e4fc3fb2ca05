"""A model on its way into an artifact: weights as they are stored, and the model that runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from squeeze.artifact.parts import TIED
from squeeze.artifact.roles import roles_field
from squeeze.artifact.streams import Tensor
from squeeze.calib.taps.layout import Layout, plain_layout
from squeeze.checkpoint.names import repeated_tensors
from squeeze.checkpoint.read import Checkpoint, LoadedModel
from squeeze.errors import BadConfig
from squeeze.files import sha256
from squeeze.subject.checks import check_values
from squeeze.subject.subject import Facts, Subject, copied
from squeeze.subject.weights import (
    LISTED,
    State,
    aliases_of,
    in_own_names,
    load_weights_,
    state_of,
    unique_tensors,
)
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.gpt import GPT

NO_MODEL = "no model runs these weights: packed as they are named"
SUBJECT = "subject"  # field of an artifact's header: the identity of a model that is not ours


@dataclass(frozen=True, eq=False)
class Workpiece:
    """A model that is packed.

    stored: tensors as its file or module has them, each once
    header: configuration of the artifact
    key: hash of the weights and of what runs them
    format, sha256, size: of the file it came from
    notes: sentences for the user on how it was read
    tokenizer: SHA-256 of the tokenizer it was trained with, None where the file does not say
    build: makes the model that runs; None for weights alone
    """

    stored: Mapping[str, Tensor]
    header: Mapping[str, Any]
    key: str
    format: str
    sha256: str
    size: int
    notes: tuple[str, ...] = ()
    tokenizer: str | None = None
    build: Callable[[], Subject] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Model) -> Workpiece:
        """Return the workpiece of a model of this project."""
        if isinstance(model, Workpiece):
            return model
        return cls(
            model.stored,
            model.header,
            model.sha256 + model.entry + model.config.to_json(),
            model.source,
            model.sha256,
            model.size,
            tuple(model.notes),
            model.tokenizer,
            lambda: Subject.of_gpt(GPT.from_tensors(model.config, model.tensors)),
        )

    @classmethod
    def of_module(
        cls, module: nn.Module, facts: Facts | None = None, format: str = "module"
    ) -> Workpiece:
        """Return the workpiece of a live module, which is left alone: a copy of it runs."""
        check_values(module)
        state = state_of(module)
        subject = Subject.of_module(copied(module, {}), facts)
        return cls._of_state(state, subject, format, subject.notes)

    @classmethod
    def of_subject(
        cls, subject: Subject, checkpoint: Checkpoint | None = None, source: str = ""
    ) -> Workpiece:
        """Return the workpiece of a subject, with the weights of a file where one is given.

        source: name of that file, for errors

        The weights are written into the subject's own module. Raises BadCheckpoint for weights that are
        not those of the module.
        """
        if checkpoint is None:
            return cls._of_state(state_of(subject.module), subject, "module", subject.notes)
        aliases, own = aliases_of(subject.module), unique_tensors(subject.module)
        read, front = in_own_names(subject.module, checkpoint.tensors)
        shorter = [f"{front} removed from names"] if front else []
        weights = {name: tensor.dequantize() for name, tensor in read.items()}
        load_weights_(subject, weights, source)
        tied = {name: aliases[name] for name in read if name in aliases}
        named = {name: tensor for name, tensor in read.items() if name not in aliases}
        for alias, name in tied.items():
            named.setdefault(name, read[alias])
        absent = [name for name in own if name not in named]
        made = f"not in the file, as the script makes them: {', '.join(absent[:LISTED])}"
        header = {SUBJECT: dict(subject.identity)} | ({TIED: tied} if tied else {})
        return cls(
            named,
            header,
            checkpoint.sha256
            + checkpoint.entry
            + json.dumps(header, sort_keys=True)
            + subject.fingerprint(),
            checkpoint.format,
            checkpoint.sha256,
            checkpoint.size,
            (
                *checkpoint.notes,
                *_other_script(checkpoint.header.get(SUBJECT, {}), subject.identity),
                *shorter,
                *([made] if absent else []),
                *subject.notes,
            ),
            checkpoint.tokenizer,
            lambda: subject,
        )

    @classmethod
    def of_weights(cls, checkpoint: Checkpoint, why: str = NO_MODEL) -> Workpiece:
        """Return the workpiece of weights that nothing runs; `why` is a sentence for the user."""
        notes = [*checkpoint.notes, why]
        tied = repeated_tensors(checkpoint.tensors)
        notes += [f"{name} is {other}, bit by bit: stored once" for name, other in tied.items()]
        return cls(
            {name: tensor for name, tensor in checkpoint.tensors.items() if name not in tied},
            {TIED: tied} if tied else {},
            checkpoint.sha256 + checkpoint.entry,
            checkpoint.format,
            checkpoint.sha256,
            checkpoint.size,
            tuple(notes),
        )

    @classmethod
    def _of_state(
        cls, state: State, subject: Subject, format: str, notes: tuple[str, ...]
    ) -> Workpiece:
        identity = dict(subject.identity)
        header = {SUBJECT: identity} | ({TIED: state.tied} if state.tied else {})
        digest = sha256(b"".join(tensor.bits.tobytes() for tensor in state.tensors.values()))
        size = sum(tensor.bits.nbytes for tensor in state.tensors.values())
        return cls(
            state.tensors,
            header,
            digest
            + json.dumps([header, list(state.tensors)], sort_keys=True)
            + subject.fingerprint(),
            format,
            digest,
            size,
            (*state.notes, *notes),
            None,
            lambda: subject,
        )

    @cached_property
    def tensors(self) -> dict[str, Float32]:
        """Weights float32 by name."""
        return {name: tensor.dequantize() for name, tensor in self.stored.items()}

    @property
    def plain_layout(self) -> Layout:
        """The matrices as shapes and names tell them, where no forward does."""
        return plain_layout({name: tensor.shape for name, tensor in self.stored.items()})

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(values.size for values in self.tensors.values())

    @cached_property
    def subject(self) -> Subject:
        """The model that runs. Raises BadConfig for weights alone."""
        if self.build is None:
            raise BadConfig(
                "this preset measures the model, and nothing runs these weights",
                expected="a model",
                fix="Name it with --model FILE.py:NAME, or use --lossless, --quant or --squeezed.",
            )
        return self.build()

    def roles_field(self, names: Iterable[str], roles: Mapping[str, str]) -> dict[str, Any]:
        """Return the artifact's field of roles; nothing for models whose names tell them.

        names: of the artifact's tensors
        roles: by name, as a forward showed them
        """
        return roles_field(names, roles) if SUBJECT in self.header else {}

    def matrix(self, name: str, layout: Layout) -> Tensor:
        """Return a matrix of a layout as the file has it."""
        if name in self.stored:
            return self.stored[name]
        part = layout.matrices[name].slice
        tensor = self.stored[part.tensor]
        values = part.matrix_of(self.tensors[part.tensor])
        return RawTensor(to_bits(values, tensor.logical), tensor.logical, tensor.logical)

    def replaced(self, tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Float32]:
        """Return the weights, by tensor name, of those tensors that hold any of these matrices."""
        weights: dict[str, Float32] = {}
        for name, tensor in tensors.items():
            if name in self.stored:
                weights[name] = tensor.dequantize()
                continue
            part = layout.matrices[name].slice
            whole = weights.setdefault(part.tensor, self.tensors[part.tensor].copy())
            part.put_(whole, tensor.dequantize())
        return weights


Model = LoadedModel | Workpiece


def _other_script(packed: Mapping[str, Any], running: Mapping[str, Any]) -> list[str]:
    """Return a sentence where an artifact was packed with another script than runs it now."""
    fields = ("name", "sha256")
    if packed.get("kind") != "script" or all(packed.get(n) == running.get(n) for n in fields):
        return []
    old, new = (
        f"{identity.get('file')}:{identity.get('name')} ({str(identity.get('sha256'))[:8]})"
        for identity in (packed, running)
    )
    return [f"packed with {old}, run with {new}: another text or another name in it"]
