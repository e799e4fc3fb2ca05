"""Which tokens each forward pass reads, and which of its outputs are scored.

Output i of a pass is the distribution of the token after tokens[i]. Every plan scores an output at
most once; `Plan.scored` checks that. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadConfig, RuleBroken
from squeeze.score.tokenizer import Tokens

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Window w reads tokens[start[w] : stop[w]] and scores outputs first[w] to stop[w] - 1.

    All int64 [W]; start ≤ first < stop. Before `first` a window only gathers context.
    """

    start: Int64
    first: Int64
    stop: Int64

    def __len__(self) -> int:
        return len(self.start)

    @property
    def outputs(self) -> int:
        """Outputs scored, over all windows."""
        return int((self.stop - self.first).sum())

    def scored(self, length: int) -> npt.NDArray[np.bool_]:
        """bool [length]: whether an output is scored. Raises RuleBroken if one is scored twice."""
        edges = np.zeros(length + 1, np.int32)
        np.add.at(edges, self.first, 1)
        np.subtract.at(edges, self.stop, 1)
        times = np.cumsum(edges[:-1], dtype=np.int32)
        if np.any(times > 1):
            at = int(np.argmax(times > 1))
            raise RuleBroken("a token is scored twice", found=f"the token after position {at}")
        return times.astype(np.bool_)

    def select(self, rows: Int64 | npt.NDArray[np.bool_]) -> Plan:
        """The windows `rows`."""
        return Plan(self.start[rows], self.first[rows], self.stop[rows])

    def without_context(self) -> Plan:
        """The same outputs, each window starting at its first."""
        return Plan(self.first, self.first, self.stop)

    def cut(self, every: int) -> Plan:
        """The same outputs, each from the same context, in windows that end at multiples of `every`."""
        low, high = self.first // every, (self.stop - 1) // every
        pieces = high - low + 1
        window, piece = _repeat(pieces)
        edge = (low[window] + piece) * every
        return Plan(
            self.start[window],
            np.maximum(self.first[window], edge),
            np.minimum(self.stop[window], edge + every),
        )

    def batches(self, outputs: int, batch: int | None = None) -> Iterator[Int64]:
        """Window numbers of each forward pass: alike in context and length, the longest first.

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
    """Windows over one stream of `outputs` outputs (tokens but the last).

    The first window scores everything, each later one moves by `stride` and scores its last `stride`
    outputs; the last window is cut at the end, so nothing is scored twice. Window w starts at
    w · stride, as in the records' sliding evaluation. stride = length gives non-overlapping windows.
    """
    return spans(np.zeros(1, np.int64), np.array([outputs]), length, stride)


def spans(begin: Int64, outputs: Int64, length: int, stride: int) -> Plan:
    """`sliding` over many separate spans: span d has outputs[d] ≥ 0 outputs from begin[d] on."""
    if not 1 <= stride <= length:
        raise BadConfig("stride", expected=f"1 to the length, {length}", found=stride)
    later = np.maximum(0, -(-(outputs - length) // stride))
    span, step = _repeat((later + 1) * (outputs > 0))
    start = begin[span] + step * stride
    first = np.where(step == 0, start, start + length - stride)
    return Plan(start, first, np.minimum(start + length, (begin + outputs)[span]))


def document_starts(tokens: Tokens, bos: int) -> Int64:
    """Positions int64 [D] where documents begin: every BOS, and 0 when the span starts inside one."""
    starts = np.flatnonzero(tokens == bos).astype(np.int64)
    if len(tokens) and (not len(starts) or starts[0] != 0):
        starts = np.concatenate([np.zeros(1, np.int64), starts])
    return starts


def document_spans(tokens: Tokens, bos: int) -> tuple[Int64, Int64]:
    """(begin, outputs) of every document, both int64 [D].

    Output j of a document follows its j-th token; the last one predicts the BOS of the next
    document, and the document at the end of the tokens has none such.
    """
    begin = document_starts(tokens, bos)
    end = np.append(begin[1:], len(tokens) - 1)
    keep = end > begin
    return begin[keep], (end - begin)[keep]


def sample_documents(tokens: Tokens, bos: int, count: int, seed: int) -> tuple[Int64, Int64]:
    """`document_spans` of `count` random whole documents, in the order of the text.

    Whole: from a BOS to the next. All of them when there are no more than `count`.
    """
    begin, outputs = document_spans(tokens, bos)
    whole = np.flatnonzero((tokens[begin] == bos) & (tokens[begin + outputs] == bos))
    if count < len(whole):
        whole = np.sort(np.random.default_rng(seed).choice(whole, count, replace=False))
    return begin[whole], outputs[whole]


def document_batches(outputs: Int64, batch: int) -> list[Int64]:
    """Documents grouped by length, the longest first: numbers int64 [≤ batch] of each group."""
    order = np.argsort(-outputs, kind="stable")
    return [order[begin : begin + batch] for begin in range(0, len(order), batch)]


def _repeat(times: Int64) -> tuple[Int64, Int64]:
    """Each index i times[i] times, and a counter from 0 within each."""
    index = np.repeat(np.arange(len(times)), times)
    counter = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    return index, counter
