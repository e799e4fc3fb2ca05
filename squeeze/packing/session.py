"""The process group and the cache folder of a pack that calibrates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from squeeze.files import scratch_folder
from squeeze.packing.calibrate import Calibrated, Calibration, calibrate
from squeeze.packing.kept import locked
from squeeze.packing.packed import Packed, checked
from squeeze.packing.request import PackRequest
from squeeze.ranks.connect import connected, resolve_device
from squeeze.ranks.group import Ranks
from squeeze.ranks.result import result_of_first
from squeeze.reporter import SILENT, Reporter
from squeeze.subject.workpiece import Workpiece

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
        return self.request.calibration or Calibration()

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
    with connected(resolve_device()) as ranks, _cache(request.cache, ranks.first) as folder:
        yield Session(piece, request, folder, reporter if ranks.first else SILENT, ranks)


@contextlib.contextmanager
def _cache(path: Path | None, first: bool) -> Iterator[Path]:
    if path is None:
        with scratch_folder(SCRATCH) as folder:
            yield folder
        return
    with locked(path) if first else contextlib.nullcontext():
        yield path
