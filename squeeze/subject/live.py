"""Models that are given from Python: files, state dicts of this project, and any module or subject."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from squeeze.checkpoint.complete import Config
from squeeze.checkpoint.live import Packable, open_model, unwrapped
from squeeze.errors import BadConfig
from squeeze.subject.subject import Facts, Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.gpt import GPT


def open_live(
    model: Packable | Subject,
    config: Config | None = None,
    entry: str | None = None,
    assume: bool = False,
) -> Workpiece:
    """Return the model that is packed or scored; a module is left alone.

    config, entry, assume: as of `squeeze.checkpoint.live.open_model`; of a module that is not of this
        project the fields `seq_len` and `bos_id`

    Raises BadCheckpoint for anything else.
    """
    module = unwrapped(model)
    if isinstance(module, Subject):
        return Workpiece.of_subject(module)
    if isinstance(module, nn.Module) and not isinstance(module, GPT):
        return Workpiece.of_module(module, _facts(config))
    assert not isinstance(model, Subject)
    return Workpiece.of(open_model(model, config, entry, assume))


def _facts(config: Config | None) -> Facts:
    """Return what a configuration says of a module that is not of this project. Raises BadConfig."""
    fields = {} if config is None else config
    if not isinstance(fields, Mapping) or not set(fields) <= {"seq_len", "bos_id"}:
        raise BadConfig(
            "configuration of a live module",
            expected="seq_len, its training window, and bos_id",
            found=", ".join(map(str, fields)) if isinstance(fields, Mapping) else config,
        )
    window = fields.get("seq_len")
    if window is not None and not (isinstance(window, int) and window > 0):
        raise BadConfig("seq_len of a live module", expected="tokens, 1 or more", found=window)
    return Facts(length=window, bos=fields.get("bos_id"))
