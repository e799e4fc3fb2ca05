"""Presets of `squeeze pack`: for each name its settings and its packer.

Importing this loads neither torch nor numba, so that the command line can name all of them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from squeeze.errors import BadConfig

if TYPE_CHECKING:
    from squeeze.packing.request import PresetPacker


# Bits a weight below which `best` tunes, too, and what learns computes in bfloat16 where that is native:
# an update costs half, and errors of 0.0003 nats a token that bfloat16 makes are small beside the rest.
LOW = 2.2


@dataclass(frozen=True)
class Target:
    """Calibrate, spend bits where they lower the loss most, and land just under the limit.

    states: of the trellis. 32 take twice the time of 8 and need 0.02 bit a weight less for the same
        loss; 256 would take eight times as long and save 0.016 more (docs/log.md)
    """

    packer: ClassVar[str] = "squeeze.packing.target:pack_to_target"
    states: int


@dataclass(frozen=True)
class Tuned(Target):
    """As `Target`, in shares of the matrices, and what is not rounded yet learns before each.

    steps: updates in all
    low_steps: the same for a file below LOW bits a weight, which loses more; None: as many
    last: share of them that comes at the end, when only floats of the file learn; 1.0: all, and the
        matrices are rounded as one share
    tokens: of an update
    below: bits a weight from which on it is as `Target`
    temperature: of text that the model writes to learn from, where none is asked for; 0: the usual one
    """

    packer: ClassVar[str] = "squeeze.packing.tune.pack:pack_tuned"
    steps: int = 2000
    low_steps: int | None = None
    last: float = 0.16
    tokens: int = 1024
    below: float = math.inf
    temperature: float = 0.0

    def updates_for(self, length: int, bits: float) -> tuple[int, int]:
        """Return the updates in all and the tokens of one, for sequences of so many tokens.

        An update has two of them at least, which two threads share; then there are fewer updates.

        bits: a weight, of the file

        >>> preset = Tuned(32, low_steps=3000)
        >>> preset.updates_for(512, 2.5), preset.updates_for(1024, 2.5), preset.updates_for(512, 1.5)
        ((2000, 1024), (1000, 2048), (3000, 1024))
        """
        tokens = max(self.tokens, 2 * length)
        steps = self.steps if bits >= LOW or self.low_steps is None else self.low_steps
        return max(1, steps * self.tokens // tokens), tokens


@dataclass(frozen=True)
class Record:
    """Quantize and code as a record entry of the challenge did, whatever size results.

    bits: of a code, by kind of matrix: "embed", "attn" or "mlp"; two bits are ternary codes of one step
        a row, its mean magnitude
    k: clip in standard deviations of a row; None clips where `lite_steps` finds it best or, without
        Hessian, at a percentile
    coders: names of the codecs that the entry chose from
    hessian: full GPTQ instead of rounding to nearest
    corrected: number of matrices whose error the entry corrects by one of low rank, which is priced
        here and not stored (`squeeze.calib.quantizers.low_rank`)
    salient: columns side by side, those of each matrix whose inputs and weights are largest, that get
        codes of eight bits inside the same GPTQ
    """

    packer: ClassVar[str] = "squeeze.packing.record:pack_record"
    bits: Mapping[str, int]
    k: Mapping[str, float | None]
    coders: tuple[str, ...]
    hessian: bool = False
    corrected: int = 0
    salient: int = 0


@dataclass(frozen=True)
class Rounding:
    """Round every weight to nearest as `quant` of the request says, whatever size results.

    exact: store every tensor as it is instead
    """

    packer: ClassVar[str] = "squeeze.packing.rounding:pack_rounded"
    exact: bool = False


@dataclass(frozen=True)
class Alone:
    """Packing of weights that nothing runs to a limit: every matrix may err by one share of itself."""

    states: int
    packer: ClassVar[str] = "squeeze.packing.alone:pack_alone"


Preset = Target | Record | Rounding | Alone

BROTLI = ("brotli", "brotli-planes", "brotli-transposed")
LZMA = ("lzma", "lzma-planes", "lzma-transposed")
ZSTD = ("zstd", "zstd-planes", "zstd-transposed")
INT8 = {"embed": 8, "attn": 8, "mlp": 8}
INT6 = {"embed": 8, "attn": 6, "mlp": 6}
INT7_EMBEDDING = {"embed": 7, "attn": 6, "mlp": 6}
TERNARY = {"embed": 8, "attn": 2, "mlp": 2}
UNTUNED = {"embed": None, "attn": None, "mlp": None}

TARGETS = {
    "fast": Target(states=8),
    "best": Tuned(states=32, steps=80, last=1.0, below=LOW),
    "tuned": Tuned(states=32, low_steps=3000, temperature=1.0),
}
# Figures of the pull requests of openai/parameter-golf that the numbers name.
RECORD_1855 = Record(
    INT7_EMBEDDING,
    {"embed": 14.0, "attn": 13.0, "mlp": 11.5},
    BROTLI,
    hessian=True,
    corrected=3,
)
RECORDS = {
    "baseline-int8-zlib": Record(INT8, UNTUNED, ("zlib",)),
    "record-374": Record(INT6, UNTUNED, ZSTD),
    "record-1394": Record(INT6, {"embed": 20.0, "attn": 12.85, "mlp": 12.85}, BROTLI, hessian=True),
    "record-1855": RECORD_1855,
    "record-1908": replace(RECORD_1855, salient=64),
    "ternary": Record(TERNARY, UNTUNED, LZMA),
}
ROUNDINGS = {"round": Rounding(), "lossless": Rounding(exact=True)}
ALONE = {"squeezed": Alone(states=32)}
PRESETS: dict[str, Preset] = {**TARGETS, **RECORDS, **ROUNDINGS, **ALONE}


def find_preset(name: str) -> Preset:
    """Return the preset of this name. Raises BadConfig, which lists all, for an unknown name."""
    if name not in PRESETS:
        raise BadConfig("unknown preset", expected=", ".join(PRESETS), found=name)
    return PRESETS[name]


def packer_of(preset: Preset) -> PresetPacker:
    """Return the function that packs as a preset says; loads what it needs."""
    module, function = preset.packer.split(":")
    packer: PresetPacker = getattr(importlib.import_module(module), function)
    return packer
