"""Pack a model: the one way from weights, and the model that runs them, to the bytes of an artifact."""

from __future__ import annotations

from dataclasses import replace

from squeeze.packing.packed import Packed
from squeeze.packing.presets import find_preset, packer_of
from squeeze.packing.request import PackRequest
from squeeze.reporter import SILENT, NoteKeeper, Reporter
from squeeze.subject.workpiece import Model, Workpiece


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
    packed = packer(piece, request, keeper)
    cautions = () if packed.cost is None else packed.cost.cautions
    return replace(packed, notes=(*piece.notes, *keeper.notes, *cautions), code=request.code)
