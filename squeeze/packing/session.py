"""The process group and the cache folder of a pack that calibrates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from squeeze.checkpoint.read import LoadedModel
from squeeze.files import scratch_folder
from squeeze.packing.calibrate import Calibrated, Calibration, calibrate
from squeeze.packing.kept import locked
from squeeze.packing.packed import Packed, checked
from squeeze.packing.request import PackRequest, Watch
from squeeze.ranks.connect import connected
from squeeze.ranks.group import Ranks
from squeeze.ranks.result import result_of_first

SCRATCH = "squeeze-pack-"  # begins the names of folders that are gone after a pack


@dataclass(frozen=True)
class Session:
    """A pack under way: the model, what is asked, and where its stages are kept."""

    loaded: LoadedModel
    request: PackRequest
    folder: Path
    watch: Watch
    ranks: Ranks

    @property
    def settings(self) -> Calibration:
        """Calibration that was asked for, or that of text the model writes."""
        return self.request.calibration or Calibration()

    def calibrated(self) -> Calibrated:
        """Return the model with its calibration; every rank must call."""
        return calibrate(
            self.loaded,
            self.settings,
            self.folder,
            fresh=self.request.fresh,
            on_stage=self.watch.stage,
            on_note=self.watch.note,
        )

    def on_first(self, work: Callable[[], Packed]) -> Packed:
        """Return, on every rank, what `work` returns on the first, once that decodes to what was packed.

        An error of `work` is raised on every rank.
        """
        return result_of_first(self.ranks, lambda: checked(work()))


@contextlib.contextmanager
def open_session(loaded: LoadedModel, request: PackRequest, watch: Watch) -> Iterator[Session]:
    """Open the group that torchrun describes and the cache, which the first rank locks.

    Raises SqueezeError when another process packs into the same cache or it cannot be written.
    """
    cpu = torch.device("cpu")  # where calibration runs
    with connected(cpu) as ranks, _cache(request.cache, ranks.first) as folder:
        yield Session(loaded, request, folder, watch if ranks.first else Watch(), ranks)


@contextlib.contextmanager
def _cache(path: Path | None, first: bool) -> Iterator[Path]:
    if path is None:
        with scratch_folder(SCRATCH) as folder:
            yield folder
        return
    with locked(path) if first else contextlib.nullcontext():
        yield path
