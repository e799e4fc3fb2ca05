"""Packing from Python: a model in memory or in a file, text as token ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from squeeze.checkpoint.complete import Config
from squeeze.checkpoint.live import Packable, open_model, unwrapped
from squeeze.errors import BadConfig
from squeeze.ledger.gate import check_limit
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.request import BytesOf, PackRequest
from squeeze.subject.subject import Facts, Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.train.data.shards import TokenIds, as_tokens
from squeeze.train.model.gpt import GPT

ADVICE = "Choose preset best or fast, or ship smaller code."


@dataclass(frozen=True)
class PackCall:
    """Arguments of `squeeze.pack`, each under its name; the tokenizer as its byte table."""

    model: Packable | Subject
    limit: int
    code: Sequence[str | os.PathLike[str]]
    tokens: TokenIds | None
    preset: str
    config: Config | None
    entry: str | None
    bytes_of: BytesOf | None
    cache: str | os.PathLike[str] | None
    assume: bool = False

    def request(self) -> PackRequest:
        """Return the pack that is asked for. Raises BadData for tokens that are no token ids."""
        text = Calibration()
        if self.tokens is not None:
            text = Calibration("tokens", ids=as_tokens(self.tokens))
        return PackRequest(
            self.limit,
            self.preset,
            code=tuple(self.code),
            calibration=text,
            bytes_of=self.bytes_of,
            cache=None if self.cache is None else Path(self.cache),
        )


def pack_call(call: PackCall) -> Packed:
    """Return the packed model. Raises OverBudget when it and its code are above the limit."""
    packed = pack_model(workpiece_of(call), call.request())
    check_limit(packed.ledger.total, call.limit, ADVICE)
    return packed


def workpiece_of(call: PackCall) -> Workpiece:
    """Return the model that is packed: a file or state dict of this project, or any module or subject.

    Raises BadCheckpoint for anything else.
    """
    model = unwrapped(call.model)
    if isinstance(model, Subject):
        return Workpiece.of_subject(model)
    if isinstance(model, nn.Module) and not isinstance(model, GPT):
        return Workpiece.of_module(model, _facts(call.config))
    assert not isinstance(call.model, Subject)
    return Workpiece.of(open_model(call.model, call.config, call.entry, call.assume))


def _facts(config: Config | None) -> Facts:
    """Return what a configuration says of a module that is not of this project. Raises BadConfig."""
    fields = {} if config is None else config
    if not isinstance(fields, Mapping) or not set(fields) <= {"seq_len", "bos_id"}:
        raise BadConfig(
            "configuration of a live module",
            expected="seq_len, its training window, and bos_id",
            found=", ".join(map(str, fields)) if isinstance(fields, Mapping) else config,
        )
    return Facts(length=fields.get("seq_len"), bos=fields.get("bos_id"))
