"""Pack a model: the one way from weights, and the model that runs them, to the bytes of an artifact.

From Python the model is in memory or in a file, and its text is token ids (`PackCall`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from squeeze.checkpoint.complete import Config
from squeeze.checkpoint.live import Packable
from squeeze.errors import BadConfig, OverBudget
from squeeze.ledger.files import Paths, each_path
from squeeze.ledger.gate import check_limit, whole_bytes
from squeeze.packing.calibrate import Calibration
from squeeze.packing.packed import Packed
from squeeze.packing.presets import find_preset, packer_of
from squeeze.packing.request import BytesOf, PackRequest
from squeeze.reporter import SILENT, NoteKeeper, Reporter
from squeeze.subject.defaults import torch_by_default
from squeeze.subject.live import open_live
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Model, Workpiece
from squeeze.train.data.shards import TokenIds, as_tokens

ADVICE = "Choose preset best or fast, or ship smaller code."


def pack_model(model: Model, request: PackRequest, reporter: Reporter = SILENT) -> Packed:
    """Return the model packed as the request says, checked by decoding it.

    reporter: shown the stages of the pack, the trials of a search, and every note

    Under a process group every rank must call: the ranks share the calibration, the first packs, and
    all return its result. Raises BadConfig for a preset, precision or calibration that does not exist,
    OverBudget for code that leaves no room, and when a preset that packs to a limit cannot meet it.
    """
    piece = Workpiece.of(model)
    # code that cannot be read or leaves no room is refused before anything is calibrated
    _ = request.room
    packer = packer_of(find_preset(request.preset))
    keeper = NoteKeeper(reporter)
    try:
        packed = packer(piece, request, keeper)
    except OverBudget as error:
        if request.room == request.limit:
            raise
        code = request.limit - request.room
        raise OverBudget(f"{error} Code takes {code:,} bytes of {request.limit:,}.") from None
    cautions = () if packed.cost is None else packed.cost.cautions
    return replace(packed, notes=(*piece.notes, *keeper.notes, *cautions), code=request.code)


@dataclass(frozen=True)
class PackCall:
    """Arguments of `squeeze.pack`, each under its name; the tokenizer as byte table."""

    model: Packable | Subject
    limit: int
    code: str | os.PathLike[str] | Paths
    tokens: TokenIds | None
    preset: str
    config: Config | None
    entry: str | None
    bytes_of: BytesOf | None
    cache: str | os.PathLike[str] | None
    assume: bool = False
    tune: int | timedelta | None = None

    def request(self) -> PackRequest:
        """Return the pack that is asked for.

        Raises BadData for tokens that are no token ids, BadConfig for a limit that is no number of
        bytes, for updates of a preset that is not tuned and for none.
        """
        if self.tune is not None:
            _check_tune(self.tune, self.preset)
        text = Calibration()
        if self.tokens is not None:
            text = Calibration("tokens", ids=as_tokens(self.tokens))
        return PackRequest(
            whole_bytes(self.limit),
            self.preset,
            code=each_path(self.code),
            calibration=text,
            bytes_of=self.bytes_of,
            cache=None if self.cache is None else Path(self.cache),
            tune=self.tune,
        )


def _check_tune(tune: object, preset: str) -> None:
    """Raise BadConfig for what is no number of updates and no time for them, and for another preset."""
    if preset != "tuned":
        raise BadConfig("tune", expected="preset tuned", found=f"preset {preset}")
    time = isinstance(tune, timedelta) and tune > timedelta(0)
    number = isinstance(tune, int) and not isinstance(tune, bool) and tune > 0
    if not (time or number):
        raise BadConfig(
            "tune",
            expected="a number of updates (500) or a timedelta for them, above zero",
            found=repr(tune)[:40],
        )


def pack_call(call: PackCall) -> Packed:
    """Return the packed model. Raises OverBudget when it and its code are above the limit."""
    request = call.request()
    with torch_by_default():
        piece = open_live(call.model, call.config, call.entry, call.assume)
        packed = pack_model(piece, request)
    check_limit(packed.ledger.total, request.limit, ADVICE)
    return packed
