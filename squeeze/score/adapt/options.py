"""Options of the modes that train at test time, and how they are read from text. No torch here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from squeeze.errors import BadConfig
from squeeze.train.fields import VALIDATING, refuse_unknown

T = TypeVar("T")

MODULES = ("c_q", "c_k", "c_v", "attn", "mlp")  # what can be added to, besides the head
# bounds keep a mistyped value from asking for a giant allocation
LORA_RANGES = (
    ("chunk", 1, 1 << 20),
    ("length", 1, 1 << 20),
    ("rank", 1, 1 << 12),
    ("batch", 1, 1 << 16),
    ("alpha", 0.0, 1e6),
    ("lr", 0.0, 1e3),
    ("beta1", 0.0, 0.999999),
    ("beta2", 0.0, 0.999999),
    ("eps", 0.0, 1.0),
    ("weight_decay", 0.0, 1e3),
)
SGD_RANGES = (
    ("chunk", 1, 1 << 30),
    ("lr", 0.0, 1e3),
    ("momentum", 0.0, 0.999999),
    ("epochs", 0, 1000),
    ("clip", 1e-12, 1e12),
)


def _check_lora(options: LoraOptions) -> None:
    _check_ranges(options, LORA_RANGES)
    if options.chunk > options.length:
        raise BadConfig(
            "test-time chunk", expected=f"≤ the length, {options.length}", found=options.chunk
        )
    unknown = sorted(set(options.targets) - {"head", *MODULES})
    if unknown or not options.targets:
        raise BadConfig(
            "test-time targets", expected=f"of head, {', '.join(MODULES)}", found=unknown
        )


def _check_ranges(options: object, ranges: tuple[tuple[str, float, float], ...]) -> None:
    """Raise BadConfig unless every option is None or in its range."""
    for name, low, high in ranges:
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise BadConfig(f"test-time {name}", expected=f"{low:g} to {high:g}", found=value)


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank additions that learn each document while it is scored; the defaults are #77's.

    chunk: tokens scored between two steps
    length: tokens read at once
    rank: columns of each factor
    alpha: additions are multiplied by alpha/rank; None: by 1
    targets: `head`, and modules of every block: c_q, c_k, c_v (matrices), attn, mlp (whole
        sublayers, #1855's O and MLP)
    lr, beta1, beta2, eps, weight_decay: of AdamW
    batch: documents that are scored together
    keep_a: the first factor stays as it was learnt when a batch ends; only the second is zeroed
    seed: of the first factor
    """

    chunk: int = 256
    length: int = 1024
    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ("head", "c_q", "c_v")
    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0  # decoupled
    batch: int = 64
    keep_a: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if VALIDATING:
            _check_lora(self)

    @classmethod
    def from_settings(cls, length: int, stride: int, settings: Mapping[str, str]) -> LoraOptions:
        """Return the options for a window length, changed by settings; there is no stride."""
        return changed(cls(chunk=min(cls.chunk, length), length=length), settings)

    def window_start(self, output: int) -> int:
        """Return the first token of the window that predicts after token `output` of a document.

        The window ends with its chunk: it depends on nothing after that token, not even on whether
        the document goes on.
        """
        return max(0, (output // self.chunk + 1) * self.chunk - self.length)


@dataclass(frozen=True)
class SgdOptions:
    """Momentum SGD over chunks of text, the step size falling from lr to 0 on a cosine.

    chunk: tokens learnt from in one step
    epochs: steps on each chunk
    clip: largest norm of a gradient
    """

    chunk: int = 32_768
    lr: float = 0.005
    momentum: float = 0.9
    epochs: int = 3
    clip: float = 1.0

    def __post_init__(self) -> None:
        _check_ranges(self, SGD_RANGES)

    def chunks(self, outputs: int) -> int:
        """Return the number of chunks of `outputs` outputs; the last one may be short."""
        return -(-outputs // self.chunk)

    def rate(self, chunk: int, chunks: int) -> float:
        """Return the step size on chunk number `chunk` of `chunks`."""
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * chunk / max(1, chunks - 1)))


@dataclass(frozen=True)
class ChunkOptions:
    """Windows of `length` tokens that move by `stride`, between the steps of `sgd`."""

    length: int = 2048
    stride: int = 64
    sgd: SgdOptions = field(default_factory=SgdOptions)

    @classmethod
    def from_settings(cls, length: int, stride: int, settings: Mapping[str, str]) -> ChunkOptions:
        """Return the options for a window length and a stride; settings are those of `sgd`."""
        return cls(length, stride, changed(SgdOptions(), settings))


PHASED_LORA = LoraOptions(
    chunk=48,
    length=2048,
    rank=80,
    alpha=144.0,
    targets=("head", "c_q", "c_k", "c_v", "attn", "mlp"),
    lr=1e-4,
    beta1=0.0,
    beta2=0.99,
    eps=1e-10,
    weight_decay=0.5,
    keep_a=True,
)


@dataclass(frozen=True)
class PhasedOptions:
    """LoRA for each document and SGD in pauses between them; the defaults are #1855's.

    documents: how many of the first ones SGD trains on, at most
    phases: parts that these are split into, with a pause after each
    """

    lora: LoraOptions = PHASED_LORA
    sgd: SgdOptions = field(default_factory=lambda: SgdOptions(lr=0.001, epochs=1))
    documents: int = 2500
    phases: int = 3

    def __post_init__(self) -> None:
        _check_ranges(self, (("documents", 0, 1 << 30), ("phases", 1, 1000)))

    @classmethod
    def from_settings(cls, length: int, stride: int, settings: Mapping[str, str]) -> PhasedOptions:
        """Return the options for a window length, changed by settings; there is no stride.

        `documents` and `phases` are its own, names that begin with `sgd_` are SGD's, others LoRA's.
        """
        own = {name: text for name, text in settings.items() if name in ("documents", "phases")}
        sgd = {n.removeprefix("sgd_"): t for n, t in settings.items() if n.startswith("sgd_")}
        lora = {n: t for n, t in settings.items() if n not in own and not n.startswith("sgd_")}
        start = dataclasses.replace(
            PHASED_LORA, length=length, chunk=min(PHASED_LORA.chunk, length)
        )
        options = cls(changed(start, lora), changed(cls().sgd, sgd))
        return changed(options, own)


def changed(options: T, settings: Mapping[str, str]) -> T:
    """Return options, a dataclass, with fields replaced by values read from text; raises BadConfig."""
    values: dict[str, Any] = dict(vars(options))
    refuse_unknown("--ttt", settings, values)
    values |= {name: _value(name, values[name], text) for name, text in settings.items()}
    return type(options)(**values)


def _value(name: str, default: Any, text: str) -> Any:
    """Return the value that text stands for, of the kind of a field's default."""
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    kind = float if default is None else type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else f"a number such as {default or 1.0}"
        raise BadConfig(f"--ttt {name}", expected=expected, found=text) from None
