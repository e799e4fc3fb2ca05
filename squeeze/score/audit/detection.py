"""Size of a leak that an audit would have found: stated with a pass, so that it has a meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.gain import MISS, Gain, hidden_share

GOAL = 0.002  # nats a token: smaller than the margin of any record


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

    @property
    def needed(self) -> int:
        """Number of checks that would find a leak of GOAL at a share of the targets."""
        whole = self.share_nats / self.share if self.share else 0.0
        return math.ceil(math.log(MISS) / math.log1p(-GOAL / whole)) if whole > GOAL else 1

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their names in reports."""
        return {
            "checks": self.checks,
            "found_share": self.share,
            "found_nats": self.nats,
            "found_spread_nats": self.spread_nats,
            "checks_for_0.002_nats": self.needed,
        }

    def __str__(self) -> str:
        late = f" of {self.asked:,}, more took too long (--thorough)" * (self.checks < self.asked)
        more = f"; 0.002 takes --thorough MINUTES --tokens {self.needed}" * (
            self.needed > self.checks
        )
        return (
            f"{self.checks:,} drawn{late}; a leak of more than {self.nats:.2g} nats a token "
            f"({100 * self.share:.2g} % of the targets, or {self.spread_nats:.2g} spread over all) "
            f"would have been found with 99 %{more}"
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
