"""The modes that do not adapt: windows over one stream, and documents one by one."""

from __future__ import annotations

from dataclasses import dataclass

from squeeze.reporter import Reporter
from squeeze.score.options import SlidingOptions, WindowOptions
from squeeze.score.plan import Documents, document_plan, sliding
from squeeze.score.predictor import Extent, ShrinkingPredictor
from squeeze.score.tokenizer import Text
from squeeze.score.window import Score, score_plan
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class StreamScoring:
    """Scoring of one stream in windows that may overlap; the modes `window` and `sliding`."""

    model: GPT
    options: WindowOptions | SlidingOptions

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, None]:
        """Score all tokens but the first; see `squeeze.score.modes.Scoring`."""
        outputs = max(0, len(text.tokens) - 1)
        plan = sliding(outputs, self.options.length, self.options.stride)
        return score_plan(self.model, text, plan, batch, reporter), None


@dataclass(frozen=True)
class DocumentScoring:
    """Scoring of every document from its own BOS; the mode `documents`."""

    model: GPT
    options: SlidingOptions

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, None]:
        """Score the documents; see `squeeze.score.modes.Scoring`."""
        length, stride = self.options.length, self.options.stride
        plan = document_plan(documents, length, stride, self.model.config.bos_id)
        return score_plan(self.model, text, plan, batch, reporter), None

    def predictor(self, extent: Extent) -> ShrinkingPredictor:
        """Return the predictor that scores the same token by token."""
        return ShrinkingPredictor(self.model, self.options.length, self.options.stride)
