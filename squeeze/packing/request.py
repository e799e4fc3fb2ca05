"""A request to pack a model, and the signature of the function that carries it out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from squeeze.errors import OverBudget
from squeeze.ledger.attribute import attribute_paths
from squeeze.packing.calibrate import Calibration
from squeeze.packing.packed import Packed
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece


class BytesOf(Protocol):
    """Byte table of a tokenizer."""

    def __call__(self, tokens: npt.NDArray[np.uint16], /) -> npt.NDArray[np.int32]:
        """Return the bytes of text in each of tokens[1:], int32 [n - 1]."""

    def check(self, outputs: int) -> None:
        """Raise BadData for a model of another vocabulary."""


@dataclass(frozen=True)
class PackRequest:
    """Options of a pack.

    limit: bytes that the artifact and `code` may take together
    preset: a name in `squeeze.packing.presets.PRESETS`
    code: files and folders that ship beside the artifact
    calibration: text of the presets that calibrate; None: text that the model writes
    quant: precisions by role for preset "round", as `squeeze.packing.recipe.parse_precisions` reads them
    small: tensors of at most so many weights stay floats; for "round" and the records
    small_floats: format of floats that the preset does not quantize: fp16, bf16, fp32 or keep
    codecs: names of codecs that "round" and "lossless" try on every stream; none: the usual ones
    bytes_of: byte table of a tokenizer, which gives costs per byte instead of per token
    cache: folder that keeps every stage, so that an interrupted pack resumes; None: keep nothing
    fresh: ignore what the cache holds
    tune: updates of preset "tuned", or the time that it may take, from which their number is found;
        None: the preset's own number
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
    tune: int | timedelta | None = None

    @cached_property
    def room(self) -> int:
        """Bytes that the code leaves for the artifact. Raises OverBudget for none."""
        room = self.limit - attribute_paths(self.code).total
        if room <= 0:
            raise OverBudget(
                "the code alone fills the limit",
                expected=f"< {self.limit:,} bytes",
                found=f"{self.limit - room:,} bytes",
                fix="Raise the limit, or ship smaller code.",
            )
        return room


class PresetPacker(Protocol):
    """Packer of a preset (`squeeze.packing.presets`)."""

    def __call__(self, piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
        """Return the model packed as the request says; every rank of a process group must call."""
