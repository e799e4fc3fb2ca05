"""Size of a leak that an audit would have found: stated with a pass, so that it has a meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.gain import Gain, hidden_share


@dataclass(frozen=True)
class Detection:
    """Smallest leaks that would have been found with 99 %.

    checks: targets drawn evenly whose following text was withheld
    asked: number of targets that were to be drawn
    share: of targets, 0 … 1, that a leak has to give away
    share_nats: nats a target that such a leak gains, when it gives away what targets cost on average
    spread_nats: nats a target that a leak has to gain which is spread over all
    """

    checks: int
    asked: int
    share: float
    share_nats: float
    spread_nats: float

    @property
    def nats(self) -> float:
        """Nats a target of the smallest leak of either kind that would have been found."""
        return max(self.share_nats, self.spread_nats)

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their names in reports."""
        return {
            "checks": self.checks,
            "found_share": self.share,
            "found_nats": self.nats,
            "found_spread_nats": self.spread_nats,
        }

    def __str__(self) -> str:
        late = f" of {self.asked:,}, more took too long (--thorough)" * (self.checks < self.asked)
        return (
            f"{self.checks:,} drawn{late}; a leak of more than {self.nats:.2g} nats a token "
            f"({100 * self.share:.2g} % of the targets, or {self.spread_nats:.2g} spread over all) "
            "would have been found with 99 %"
        )


def detection(e: Evidence, gain: Gain) -> Detection:
    """Return the smallest leaks that an audit would have found.

    gain: of the sweep over the predictions with the text after them withheld
    """
    assert e.withheld is not None
    checks = int(e.withheld.drawn.sum())
    share, mean = hidden_share(checks), float(e.withheld.losses[e.withheld.drawn].mean())
    asked = min(e.options.checks, len(e.data.span) - 1)
    return Detection(checks, asked, share, share * mean, gain.detectable)
