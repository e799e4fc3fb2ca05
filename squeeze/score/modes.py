"""The scoring modes by name: a table of their facts, and the class that scores in each.

A class is loaded when it is first used, so importing this module imports no torch.

>>> MODES
('window', 'sliding', 'documents', 'ttt-lora', 'ttt-chunk', 'ttt-phased')
>>> Mode("sliding", stride=256).options(seq_len=1024)
SlidingOptions(length=1024, stride=256)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from squeeze.errors import BadConfig
from squeeze.reporter import Reporter
from squeeze.score.adapt.options import ChunkOptions, LoraOptions, PhasedOptions
from squeeze.score.options import SlidingOptions, WindowOptions

if TYPE_CHECKING:
    from squeeze.score.adapt.order import OrderLedger
    from squeeze.score.plan import Documents
    from squeeze.score.predictor import Extent, Predictor
    from squeeze.score.tokenizer import Text
    from squeeze.score.window import Score
    from squeeze.train.model.gpt import GPT

STRIDE = 64  # tokens, as the records slide
Options = WindowOptions | SlidingOptions | LoraOptions | ChunkOptions | PhasedOptions


class Scoring(Protocol):
    """A mode at work on one model."""

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, OrderLedger | None]:
        """Score a text, or its documents (`plan.document_spans`) where the mode goes by document.

        batch: windows of a forward pass; None: as many as fit
        reporter: counts the targets of this rank

        The ledger is None where nothing is learnt.
        """


@runtime_checkable
class TokenScoring(Scoring, Protocol):
    """A mode at work on one model, which can also be fed token by token."""

    def predictor(self, extent: Extent) -> Predictor:
        """Return the predictor that scores the same token by token, for a text of that extent."""


@runtime_checkable
class LearningScoring(TokenScoring, Protocol):
    """A mode at work on a model that it trains."""

    @property
    def chunk(self) -> int:
        """Tokens between two updates."""


class ModeFacts(NamedTuple):
    """Facts of a mode that need nothing loaded.

    options: class of all that its score depends on
    module, scoring: name of the class that scores
    by_document: documents are scored apart, each from its own BOS
    strided: windows move by a stride that can be chosen
    learns: the model is trained on what is scored, with settings of its own
    in_order: targets are scored in the order of the text
    """

    options: type[Options]
    module: str
    scoring: str
    by_document: bool = False
    strided: bool = False
    learns: bool = False
    in_order: bool = True


PLAIN, ADAPT = "squeeze.score.scoring", "squeeze.score.adapt"
TABLE = {
    "window": ModeFacts(WindowOptions, PLAIN, "StreamScoring"),
    "sliding": ModeFacts(SlidingOptions, PLAIN, "StreamScoring", strided=True),
    "documents": ModeFacts(
        SlidingOptions, PLAIN, "DocumentScoring", by_document=True, strided=True
    ),
    "ttt-lora": ModeFacts(
        LoraOptions, f"{ADAPT}.by_document", "LoraScoring", by_document=True, learns=True
    ),
    "ttt-chunk": ModeFacts(
        ChunkOptions, f"{ADAPT}.by_chunk", "ChunkScoring", strided=True, learns=True
    ),
    "ttt-phased": ModeFacts(
        PhasedOptions,
        f"{ADAPT}.phased",
        "PhasedScoring",
        by_document=True,
        learns=True,
        in_order=False,
    ),
}
MODES = tuple(TABLE)
# an audit serves these
IN_ORDER = tuple(name for name, facts in TABLE.items() if facts.in_order)
PROVABLE = tuple(name for name, facts in TABLE.items() if facts.by_document or facts.learns)


@dataclass(frozen=True)
class Mode:
    """A mode and its options, as users name them.

    name: one of MODES
    length: tokens read at once; None: the model's training window
    stride: tokens by which windows move, where they do; None: STRIDE
    settings: options of a mode that learns, as text by name (`LoraOptions`, `SgdOptions`,
        `PhasedOptions`)

    Raises BadConfig for a name, stride or settings that do not belong together.
    """

    name: str = "window"
    length: int | None = None
    stride: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in TABLE:
            raise BadConfig("scoring mode", expected=", ".join(MODES), found=self.name)
        if self.stride is not None and not self.facts.strided:
            raise BadConfig(f"{self.name} scoring has no stride", found=self.stride)
        if self.settings and not self.facts.learns:
            raise BadConfig(
                f"{self.name} scoring has no such options", found=", ".join(self.settings)
            )

    @property
    def facts(self) -> ModeFacts:
        """Facts of the mode."""
        return TABLE[self.name]

    def options(self, seq_len: int) -> Options:
        """Return all that a score depends on, for a model of that training window."""
        length = seq_len if self.length is None else self.length
        stride = min(STRIDE, length) if self.stride is None else self.stride
        return self.facts.options.from_settings(length, stride, self.settings)

    def scoring(self, model: GPT) -> Scoring:
        """Return the mode at work on a model."""
        scoring = getattr(importlib.import_module(self.facts.module), self.facts.scoring)
        at_work: Scoring = scoring(model, self.options(model.config.seq_len))
        return at_work
