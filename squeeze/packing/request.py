"""A request to pack a model, and who follows its progress. Importing this loads no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from squeeze.errors import OverBudget
from squeeze.ledger.attribute import attribute_paths

if TYPE_CHECKING:
    from squeeze.checkpoint.read import LoadedModel
    from squeeze.packing.calibrate import Calibration, OnStage
    from squeeze.packing.packed import Packed

# bytes of text in each token but the first
BytesOf = Callable[[npt.NDArray[np.uint16]], npt.NDArray[np.int32]]


@dataclass(frozen=True)
class PackRequest:
    """Everything that is asked of a pack.

    limit: bytes that the artifact and `code` may take together
    preset: a name in `squeeze.packing.presets.PRESETS`
    code: files and folders that ship beside the artifact
    calibration: text of the presets that calibrate; None: text that the model writes
    quant: precisions by role for preset "round", as `squeeze.packing.recipe.parse_precisions` reads them
    small: tensors of at most so many weights stay floats; for "round" and the records
    small_floats: format of floats that the preset does not quantize: fp16, bf16, fp32 or keep
    codecs: names of those tried on every stream by "round" and "lossless"; none: the usual ones
    bytes_of: byte table of a tokenizer, which gives costs per byte instead of per token
    cache: folder that keeps every stage, so that an interrupted pack resumes; None: keep nothing
    fresh: ignore what the cache holds
    """

    limit: int
    preset: str
    code: tuple[str | os.PathLike[str], ...] = ()
    calibration: Calibration | None = None
    quant: Mapping[str, str] = field(default_factory=dict)
    small: int = 65_536
    small_floats: str = "fp16"
    codecs: tuple[str, ...] = ()
    bytes_of: BytesOf | None = None
    cache: Path | None = None
    fresh: bool = False

    @cached_property
    def room(self) -> int:
        """Bytes that the code leaves for the artifact. Raises OverBudget for none."""
        room = self.limit - attribute_paths(self.code).total
        if room <= 0:
            raise OverBudget(
                "the code alone fills the limit",
                expected=f"< {self.limit:,} bytes",
                found=f"{self.limit - room:,} bytes",
            )
        return room


def _no_stage(name: str) -> None:
    """Follow no stage."""


@dataclass(frozen=True)
class Watch:
    """Callbacks that follow a pack; those left out do nothing.

    stage: given the name of the stage that begins, returns its progress callback or None
    trial: given the scale and the bytes of each trial of the search for a limit
    note: given each sentence for the user
    """

    stage: OnStage = _no_stage
    trial: Callable[[float, int], None] = lambda scale, size: None
    note: Callable[[str], None] = lambda text: None


class PresetPacker(Protocol):
    """PresetPacker of a preset (`squeeze.packing.presets`)."""

    def __call__(self, loaded: LoadedModel, request: PackRequest, watch: Watch) -> Packed:
        """Return the model packed as the request says; every rank of a process group must call."""
