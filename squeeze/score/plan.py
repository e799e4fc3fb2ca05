"""Which tokens each forward pass reads, and which of its outputs are scored.

Output i of a pass is the distribution of the token after tokens[i]. Every plan scores an output at
most once; `Plan.scored` checks that. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadConfig, RuleBroken
from squeeze.score.tokenizer import Tokens

Int64 = npt.NDArray[np.int64]
Documents = tuple[Int64, Int64]  # where each begins, and how many outputs it has; both [D]


@dataclass(frozen=True)
class Plan:
    """Windows of forward passes: window w reads tokens[start[w] : stop[w]] and scores from first[w] on.

    start, first, stop: int64 [W], start ≤ first < stop; before `first` a window only gathers context
    end: token whose predictions are counted apart, as ends of documents; None: there is none
    """

    start: Int64
    first: Int64
    stop: Int64
    end: int | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def outputs(self) -> int:
        """Number of outputs scored, over all windows."""
        return int((self.stop - self.first).sum())

    def scored(self, length: int) -> npt.NDArray[np.bool_]:
        """Return bool [length], True where an output is scored.

        Raises RuleBroken when one is scored twice.
        """
        edges = np.zeros(length + 1, np.int32)
        np.add.at(edges, self.first, 1)
        np.subtract.at(edges, self.stop, 1)
        times = np.cumsum(edges[:-1], dtype=np.int32)
        if np.any(times > 1):
            at = int(np.argmax(times > 1))
            raise RuleBroken("a token is scored twice", found=f"the token after position {at}")
        return times.astype(np.bool_)

    def select(self, rows: Int64 | npt.NDArray[np.bool_]) -> Plan:
        """Return the plan of the windows `rows` alone."""
        return Plan(self.start[rows], self.first[rows], self.stop[rows], self.end)

    def without_context(self) -> Plan:
        """Return a plan of the same outputs, each window starting at its first."""
        return Plan(self.first, self.first, self.stop, self.end)

    def cut(self, every: int) -> Plan:
        """Return a plan of the same outputs from the same context, cut at multiples of `every`."""
        low, high = self.first // every, (self.stop - 1) // every
        pieces = high - low + 1
        window, piece = _repeat(pieces)
        edge = (low[window] + piece) * every
        return Plan(
            self.start[window],
            np.maximum(self.first[window], edge),
            np.minimum(self.stop[window], edge + every),
            self.end,
        )

    def batches(self, outputs: int, batch: int | None = None) -> Iterator[Int64]:
        """Yield the window numbers of each forward pass: alike in context, the longest first.

        A batch reads at most `outputs` positions, padding included, or holds `batch` windows.
        """
        width, lead = self.stop - self.start, self.first - self.start
        order = np.lexsort((-width, -lead))
        begin = 0
        while begin < len(order):
            size = batch or max(1, outputs // int(width[order[begin]]))
            rows = order[begin : begin + size]
            rows = rows[lead[rows] == lead[rows[0]]]
            yield rows
            begin += len(rows)


def sliding(outputs: int, length: int, stride: int) -> Plan:
    """Return windows over one stream of `outputs` outputs (tokens but the last).

    The first window scores everything, each later one moves by `stride` and scores its last `stride`
    outputs; the last window is cut at the end, so nothing is scored twice. Window w starts at
    w · stride, as in the records' sliding evaluation. stride = length gives non-overlapping windows.
    """
    return spans(np.zeros(1, np.int64), np.array([outputs]), length, stride)


def spans(begin: Int64, outputs: Int64, length: int, stride: int) -> Plan:
    """Return `sliding` windows over separate spans: span d has outputs[d] ≥ 0 outputs from begin[d]."""
    if not 1 <= stride <= length:
        raise BadConfig("stride", expected=f"1 to the length, {length}", found=stride)
    later = np.maximum(0, -(-(outputs - length) // stride))
    span, step = _repeat((later + 1) * (outputs > 0))
    start = begin[span] + step * stride
    first = np.where(step == 0, start, start + length - stride)
    return Plan(start, first, np.minimum(start + length, (begin + outputs)[span]))


def document_plan(documents: Documents, length: int, stride: int, bos: int) -> Plan:
    """Return windows over documents one by one; predictions of the BOS after each are its ends."""
    return replace(spans(*documents, length, stride), end=bos)


def document_starts(tokens: Tokens, bos: int) -> Int64:
    """Return the positions int64 [D] of every BOS, and 0 when the tokens begin inside a document."""
    starts = np.flatnonzero(tokens == bos).astype(np.int64)
    if len(tokens) and (not len(starts) or starts[0] != 0):
        starts = np.concatenate([np.zeros(1, np.int64), starts])
    return starts


def document_spans(tokens: Tokens, bos: int) -> Documents:
    """Return where every document begins and how many outputs it has.

    Output j of a document follows its j-th token; the last one predicts the BOS of the next
    document, and the document at the end of the tokens has none such.
    """
    begin = document_starts(tokens, bos)
    end = np.append(begin[1:], len(tokens) - 1)
    keep = end > begin
    return begin[keep], (end - begin)[keep]


def sample_documents(tokens: Tokens, bos: int, count: int, seed: int) -> Documents:
    """Return the `document_spans` of `count` random whole documents, in the order of the text.

    A whole document goes from a BOS to the next. All are taken when there are no more than `count`.
    """
    begin, outputs = document_spans(tokens, bos)
    whole = np.flatnonzero((tokens[begin] == bos) & (tokens[begin + outputs] == bos))
    if count < len(whole):
        whole = np.sort(np.random.default_rng(seed).choice(whole, count, replace=False))
    return begin[whole], outputs[whole]


def document_batches(outputs: Int64, batch: int) -> list[Int64]:
    """Return documents grouped by length, the longest first: numbers int64 [≤ batch] of each group."""
    order = np.argsort(-outputs, kind="stable")
    return [order[begin : begin + batch] for begin in range(0, len(order), batch)]


def _repeat(times: Int64) -> tuple[Int64, Int64]:
    """Return each index i repeated times[i] times, and a counter from 0 within each."""
    index = np.repeat(np.arange(len(times)), times)
    counter = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    return index, counter
