"""The process group and the cache folder of a pack that calibrates, unless all fits without loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from squeeze.artifact.container import FEW_WEIGHTS, WEIGHTS_PER_BYTE
from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.calib.statistics.tapped import first_ids
from squeeze.errors import OverBudget
from squeeze.files import scratch_folder
from squeeze.packing.calibrate import Calibrated, Calibration, calibrate
from squeeze.packing.kept import locked
from squeeze.packing.packed import Packed, checked
from squeeze.packing.presets import Tuned, find_preset
from squeeze.packing.recipe import LOSSLESS, quantize_checkpoint
from squeeze.packing.request import PackRequest
from squeeze.ranks.group import Ranks
from squeeze.ranks.launched import connected_run
from squeeze.ranks.result import result_of_first
from squeeze.reporter import SILENT, Reporter
from squeeze.subject.units import ordered
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import RawTensor

# Planes code floats 20 times as fast as the word contexts. By how much the files of these are smaller a
# sample of the rows shows: 1 % of most floats, half of multiples of scales of groups (docs/log.md).
PLANES = ("range-planes",)
SAMPLED = 1 << 16  # floats of the sample, or a few more
NEAR = 0.9  # of a size so foreseen: files are as large at least
LANDING = 1000  # bytes that a file may stay under its limit
# Bits a weight from which the order of hidden units is worth less than a third of a per cent of the file
# (docs/log.md); there the packed tensors are those of the checkpoint, entry by entry.
ORDERED_BELOW = 4.0
SCRATCH = "squeeze-pack-"  # prefix of folders that are removed after a pack


@dataclass(frozen=True)
class Session:
    """A pack under way.

    piece: the model that is packed
    folder: keeps the stages
    reporter: of the first rank; silent on the others
    """

    piece: Workpiece
    request: PackRequest
    folder: Path
    reporter: Reporter
    ranks: Ranks

    @property
    def settings(self) -> Calibration:
        """Settings of the calibration: those of the request, or text that the model writes."""
        settings = self.request.calibration or Calibration()
        preset = find_preset(self.request.preset)
        if isinstance(preset, Tuned) and not settings.temperature:
            return replace(settings, temperature=preset.temperature)
        return settings

    def calibrated(self) -> Calibrated:
        """Return the model with its calibration; every rank must call."""
        return calibrate(
            self.piece,
            self.settings,
            self.folder,
            fresh=self.request.fresh,
            reporter=self.reporter,
        )

    def on_first(self, work: Callable[[], Packed]) -> Packed:
        """Return, on every rank, the result of `work` on the first rank, checked by decoding it.

        An error of `work` is raised on every rank.
        """
        return result_of_first(self.ranks, lambda: checked(work()))


@contextlib.contextmanager
def open_session(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Iterator[Session]:
    """Open the process group that torchrun describes and the cache, which the first rank locks.

    Raises SqueezeError when another process packs into the same cache or it cannot be written.
    """
    with connected_run() as ranks, _cache(request.cache, ranks.first) as folder:
        yield Session(piece, request, folder, reporter if ranks.first else SILENT, ranks)


@contextlib.contextmanager
def _cache(path: Path | None, first: bool) -> Iterator[Path]:
    if path is None:
        with scratch_folder(SCRATCH) as folder:
            yield folder
        return
    with locked(path) if first else contextlib.nullcontext():
        yield path


def exact_or(
    work: Callable[[Session, Calibrated, int], Packed],
    piece: Workpiece,
    request: PackRequest,
    reporter: Reporter,
) -> Packed:
    """Return the file without loss where it fits, else what `work` makes on the first rank.

    work: function (session, calibration, bytes of the artifact) → packed model

    Raises BadData, before anything is calibrated, for a tokenizer of another vocabulary.
    """
    limit = request.room
    with open_session(piece, request, reporter) as session:
        exact = without_loss(piece, limit)
        if exact is not None:
            return checked(Packed(exact, exact=True))
        if request.bytes_of is not None:
            request.bytes_of.check(piece.subject.vocab_size)
        calibrated = session.calibrated()
        piece, calibrated = in_unit_order(piece, calibrated, limit, reporter=session.reporter)
        session = replace(session, piece=piece)
        return session.on_first(lambda: work(session, calibrated, limit))


def in_unit_order(
    piece: Workpiece, calibrated: Calibrated, limit: int, reporter: Reporter = SILENT
) -> tuple[Workpiece, Calibrated]:
    """Return a model and its calibration as a file of `limit` bytes has them: mlps' units in order.

    What was calibrated moves along, so that the cache holds what every preset starts from.
    """
    moved = None
    if 8 * limit < ORDERED_BELOW * piece.weights:
        ids = first_ids(calibrated.text, calibrated.subject.device)
        moved = ordered(piece, calibrated.layout, ids)
    if moved is None:
        return piece, calibrated
    piece, order = moved
    mlps = len(order.columns)
    reporter.note(
        f"hidden units of {mlps} mlp{'' if mlps == 1 else 's'} are stored in another order: the same "
        "function, in fewer bytes"
    )
    return piece, replace(
        calibrated,
        subject=piece.subject,
        hessians=order.of_hessians(calibrated.hessians),
        gradients=order.of_gradients(calibrated.gradients),
    )


def without_loss(piece: Workpiece, limit: int) -> bytes | None:
    """Return the file with every tensor as it is, or None when it exceeds the limit.

    Raises OverBudget when no file within the limit may hold so many weights (docs/format.md, §2).
    """
    exact = quantize_checkpoint(piece.stored, piece.header, LOSSLESS)
    weights = sum(prod(tensor.shape) for tensor in piece.stored.values())
    least = weights // WEIGHTS_PER_BYTE + LANDING
    if weights > FEW_WEIGHTS and limit < least:
        raise OverBudget(
            "nothing fits this limit",
            expected=f"{limit:,} bytes",
            found=f"at least {least:,} bytes: a file holds {WEIGHTS_PER_BYTE} weights for each byte",
            fix="Raise the limit, or shrink the code or the model.",
        )
    if NEAR * _foreseen_size(exact) > limit:
        return None
    data = encode(exact)
    return data if len(data) <= limit else None


def _foreseen_size(exact: Artifact) -> float:
    """Return about how many bytes `encode` makes of an artifact, in a twentieth of its time."""
    floats = {n: t for n, t in exact.tensors.items() if isinstance(t, RawTensor)}
    codes = {n: t for n, t in exact.tensors.items() if n not in floats}
    step = 1 + sum(tensor.bits.size for tensor in floats.values()) // SAMPLED
    sample = Artifact(
        {}, {n: replace(t, bits=np.atleast_1d(t.bits)[::step].copy()) for n, t in floats.items()}
    )
    share = len(encode(sample)) / len(encode(sample, candidates=PLANES))
    return len(encode(Artifact({}, codes))) + share * len(
        encode(Artifact({}, {**floats}), candidates=PLANES)
    )
