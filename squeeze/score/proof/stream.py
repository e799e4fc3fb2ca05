"""Documents to one range-coded stream and back, through a predictor that both sides feed alike.

Documents advance in groups, one token a step, each row of a step coded in the order of the documents.
A document begins with BOS, which is given, and ends with the BOS of the next, which is coded; so the
stream says itself where documents end, and decoder and encoder take the very same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.codecs.softmax import SoftmaxDecoder, SoftmaxEncoder
from squeeze.errors import BadData, CorruptData
from squeeze.reporter import SILENT, Reporter
from squeeze.score.adapt.by_chunk import ChunkPredictor
from squeeze.score.predictor import (
    ENDED,
    Extent,
    Float32,
    Int64,
    Predictor,
    ShrinkingPredictor,
)
from squeeze.score.proof.predictor import rows_to_keep
from squeeze.train.data.shards import Tokens

# Symbols int64 [r] of documents numbered by int64 [r] at one position, given logits float32 [r, V]
Code = Callable[[Float32, Int64, int], Int64]


@dataclass(frozen=True)
class Coded:
    """A coded stream.

    nats, end_nats: cross-entropy of the text, and of the ends of documents, summed in float64
    symbols: number of tokens and ends
    """

    payload: bytes
    nats: float
    end_nats: float
    symbols: int


def encode_documents(
    predictor: Predictor,
    documents: Sequence[Tokens],
    bos: int,
    batch: int,
    reporter: Reporter = SILENT,
) -> Coded:
    """Code documents, each uint16 [n] without its BOS, `batch` of them at a time.

    reporter: counts symbols, tokens and ends of documents

    Raises BadData for tokens that the predictor does not know or a BOS inside a document.
    """
    for number, document in enumerate(documents):
        if len(document) and (document.max() >= predictor.vocab_size or (document == bos).any()):
            raise BadData(
                f"document {number} cannot be coded",
                expected=f"tokens below {predictor.vocab_size}, none of them BOS ({bos})",
                found=f"largest {document.max()}, BOS {int((document == bos).sum())} times",
            )
    coder = SoftmaxEncoder()
    total = sum(map(len, documents)) + len(documents)
    nats, end_nats = 0.0, 0.0

    def code(logits: Float32, rows: Int64, position: int) -> Int64:
        nonlocal nats, end_nats
        ends = (len(documents[row]) == position for row in rows)
        symbols = np.array(
            [bos if end else documents[row][position] for row, end in zip(rows, ends, strict=True)]
        )
        coder.encode(logits, symbols)
        losses = cross_entropy(logits, symbols)
        nats += float(losses[symbols != bos].sum())
        end_nats += float(losses[symbols == bos].sum())
        stage.advance(len(rows))
        return symbols

    with reporter.stage("encoding", total, "symbols") as stage:
        _walk(predictor, len(documents), bos, batch, code)
    return Coded(coder.finish(), nats, end_nats, total)


def decode_documents(
    predictor: Predictor,
    payload: bytes,
    extent: Extent,
    bos: int,
    reporter: Reporter = SILENT,
) -> list[Tokens]:
    """Return the documents that `encode_documents` coded.

    reporter: counts symbols, tokens and ends of documents

    Raises CorruptData when the stream ends early or late, or holds another number of tokens.
    """
    coder, tokens = SoftmaxDecoder(payload), extent.outputs - extent.documents
    documents: list[list[int]] = []  # grows as they begin: a header may claim any number
    done, ended = 0, 0

    def code(logits: Float32, rows: Int64, position: int) -> Int64:
        nonlocal done, ended
        symbols = coder.decode(logits)
        while len(documents) <= rows[-1]:
            documents.append([])
        for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True):
            if symbol != bos:
                documents[row].append(symbol)
        done += len(rows)
        ended += int((symbols == bos).sum())
        if done - ended > tokens:
            raise CorruptData("proof: more tokens than the header says", expected=tokens)
        stage.advance(len(rows))
        return symbols

    with reporter.stage("decoding", extent.outputs, "symbols") as stage:
        _walk(predictor, extent.documents, bos, extent.batch, code)
    coder.finish()
    if done - ended != tokens:
        raise CorruptData("proof: number of tokens", expected=tokens, found=done - ended)
    return [np.array(document, np.uint16) for document in documents]


def _walk(predictor: Predictor, count: int, bos: int, batch: int, code: Code) -> None:
    """Feed documents 0 … count - 1 in groups of `batch`; `code` returns the symbols of each step.

    The tokens fed, and the rows dropped, follow from the symbols alone.
    """
    if isinstance(predictor, ChunkPredictor):
        _walk_stream(predictor, count, bos, code)
        return
    for first in range(0, count, batch):
        numbers = np.arange(first, min(first + batch, count))
        predictor.start(len(numbers))
        fed = np.full(len(numbers), bos, np.int64)
        position = 0
        while True:
            live = fed != ENDED
            logits = predictor.next(fed)
            symbols = code(logits[live], numbers[live], position)
            fed[live] = np.where(symbols == bos, ENDED, symbols)
            position += 1
            live = fed != ENDED
            if not live.any():
                break
            if isinstance(predictor, ShrinkingPredictor):
                rows = rows_to_keep(live)
                if rows is not None:
                    predictor.keep(rows)
                    numbers, fed = numbers[rows], fed[rows]


def _walk_stream(predictor: Predictor, count: int, bos: int, code: Code) -> None:
    """Feed all documents as one stream, the BOS between them included."""
    predictor.start(1)
    number, position, fed = 0, 0, np.array([bos])
    while number < count:
        fed = code(predictor.next(fed), np.array([number]), position)
        ended = int(fed[0]) == bos
        number, position = (number + 1, 0) if ended else (number, position + 1)


def cross_entropy(logits: Float32, symbols: Int64) -> npt.NDArray[np.float64]:
    """Return -ln softmax(logits)[symbol] of each row, float64 [B]; logits [B, V], symbols [B]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    chosen = wide[np.arange(len(symbols)), symbols]
    losses: npt.NDArray[np.float64] = np.log(np.exp(wide).sum(axis=1)) - chosen
    return losses
