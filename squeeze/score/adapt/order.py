"""Score before update, as a record anybody can check: when each token was scored, when it was used.

A test-time training run keeps a ledger while it goes: one tick of the clock for every set of tokens
scored and for every update, and the tokens that update learned from. `check_order` reads nothing but
the two arrays of ticks, so a ledger of any other evaluation can be checked as well. No torch here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeeze.errors import RuleBroken

Int64 = npt.NDArray[np.int64]
Ticks = npt.NDArray[np.int32]


class OrderLedger:
    """Ticks int32 [n] of the n tokens of an evaluation: 0 is never.

    scored_at: when a token's probability was recorded. used_at: the first update that learned from
    it. given: bool [n], tokens that are never predicted (a document's BOS, the first token of all).
    updates: how many updates were made.
    """

    def __init__(self, length: int) -> None:
        self.scored_at: Ticks = np.zeros(length, np.int32)
        self.used_at: Ticks = np.zeros(length, np.int32)
        self.given = np.zeros(length, np.bool_)
        self.updates = 0
        self._clock = 0

    def give(self, tokens: Int64) -> None:
        """Note tokens that the evaluation is handed without predicting them."""
        self.given[tokens] = True

    def score(self, tokens: Int64) -> None:
        """Note that the probabilities of these tokens (positions, any order) are final.

        Raises RuleBroken when one of them was scored before.
        """
        self._clock += 1
        again = tokens[self.scored_at[tokens] > 0]
        if len(again):
            raise RuleBroken(
                "a token is scored twice",
                expected="one probability for every token",
                found=f"token {int(again[0])} at tick {self.scored_at[again[0]]} and again",
            )
        self.scored_at[tokens] = self._clock

    def use(self, tokens: Int64) -> None:
        """Note an update that reads these tokens (positions), as inputs or as targets."""
        self._clock += 1
        self.updates += 1
        fresh = tokens[self.used_at[tokens] == 0]
        self.used_at[fresh] = self._clock

    def check(self) -> dict[str, int]:
        """`check_order` of this ledger."""
        return {"updates": self.updates, **check_order(self.scored_at, self.used_at, self.given)}


def check_order(
    scored_at: Ticks, used_at: Ticks, given: npt.NDArray[np.bool_] | None = None
) -> dict[str, int]:
    """Check that every token was scored before an update first used it.

    scored_at, used_at: int32 [n], 0 for never. given: bool [n], tokens exempt because nobody predicts
    them. Returns counts of tokens scored, used, and given. Raises RuleBroken naming the first token,
    in the order of use, that was learned from while its probability was still open.
    """
    given = np.zeros(len(scored_at), np.bool_) if given is None else given
    early = (used_at > 0) & ~given & ((scored_at == 0) | (scored_at >= used_at))
    if np.any(early):
        broken = np.flatnonzero(early)
        token = int(broken[np.argmin(used_at[broken])])
        scored = f"scored at tick {scored_at[token]}" if scored_at[token] else "never scored"
        raise RuleBroken(
            "test-time training used a token before scoring it",
            expected="every token scored before the first update that reads it",
            found=f"token {token} used at tick {used_at[token]}, {scored}",
            fix=f"{len(broken)} tokens in all; score a chunk, then train on it.",
        )
    return {
        "scored": int((scored_at > 0).sum()),
        "used": int((used_at > 0).sum()),
        "given": int(given.sum()),
    }
