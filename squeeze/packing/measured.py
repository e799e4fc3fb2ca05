"""The cost of packing in nats per token, as it was measured, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass

# Nats per token. The challenge takes a model for better by 0.005: a tenth of that no score shows, and
# ten times as much undoes many records.
VISIBLE, SEVERE = 0.0005, 0.05
# The same for hidden states, which no such rule judges: shares of their variance.
VISIBLE_SHARE, SEVERE_SHARE = 0.001, 0.05
UNFORESEEN = 2.0  # measured over foreseen cost, or the other way round
# Tokens below which a measured cost is a rough figure. Rounding is fitted to the text that it is
# measured on: other text costs 1.1 times as much after 8,192 tokens, 70 times after 512 (docs/log.md).
FEW = 4096


@dataclass(frozen=True)
class Measured:
    """A divergence measured on some tokens.

    mean: in nats per token
    tokens: number of them, each with the distribution of its next; 0: not known
    error: standard error of the mean, as if no token resembled its neighbours
    """

    mean: float
    tokens: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Cost:
    """Cost of packing in nats per token, beside the model as it was.

    expected: by the quadratic model of the loss
    measured: mean KL(model ‖ packed) on calibration text
    tokens: of that text that it was measured on; 0: not known, or nothing was measured
    error: standard error of that mean
    features: dimensions of the hidden states whose error it is; 0: it is of next tokens
    """

    expected: float
    measured: float
    tokens: int = 0
    error: float = 0.0
    features: int = 0

    def __str__(self) -> str:
        text = f" on {self.tokens:,} tokens" if self.tokens else ""
        return f"{self.measured:z.6f} nats per token{text} ({self.expected:.6f} expected)"

    @property
    def share(self) -> float | None:
        """Mean squared error of hidden states in units of their variance; None for next tokens."""
        return 2 * self.measured / self.features if self.features else None

    @property
    def verdict(self) -> str:
        """Size of the measured cost in a word: negligible, visible or severe."""
        size, visible, severe = self.measured, VISIBLE, SEVERE
        if self.share is not None:
            size, visible, severe = self.share, VISIBLE_SHARE, SEVERE_SHARE
        if size < visible:
            return "negligible"
        return "visible" if size < severe else "severe"

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences on a severe cost, on one that was not foreseen, and on a rough figure."""
        sentences = []
        if self.verdict == "severe":
            size = f"{self.measured:.3f} nats per token, where {SEVERE / 10:g} make a record"
            if self.share is not None:
                size = f"{self.share:.1%} of the hidden states' variance"
            sentences.append(f"the cost is severe: {size}; raise --limit, or pack a smaller model")
        ratio = self.measured / max(self.expected, 1e-12)
        if self.verdict != "negligible" and not 1 / UNFORESEEN <= ratio <= UNFORESEEN:
            sentences.append(
                f"measured cost is {ratio:.2g} times the foreseen: at this rate the quadratic model "
                "does not hold, and what is foreseen from it may be off as much"
            )
        if 0 < self.tokens < FEW:
            sentences.append(
                f"the cost is a rough figure: measured on {self.tokens:,} tokens (standard error "
                f"{self.error:.2g} nats), to which the rounding was fitted; other text costs more, many "
                "times as much after a calibration on a few hundred; ask for more --tokens"
            )
        return tuple(sentences)
