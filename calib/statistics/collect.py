"""Collection of Hessians from calibration text; the result and partial sums are kept in files."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch

from squeeze.calib.statistics.hessian import Hessians, read_arrays, write_arrays
from squeeze.calib.statistics.inputs import BLOCK, InputSums
from squeeze.calib.statistics.tapped import TappedModel
from squeeze.calib.text.sources import Sequences
from squeeze.errors import CorruptData
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter

SAVE_EVERY = 30.0  # seconds between two saves of partial sums


def collect(
    model: TappedModel,
    text: Sequences,
    *,
    path: Path | None = None,
    key: str = "",
    reporter: Reporter = SILENT,
) -> Hessians:
    """Return the Hessians of every matrix that products use, from the text run through the model.

    path: file that keeps the result; partial sums are kept beside it every SAVE_EVERY seconds, from
        which an interrupted run resumes and ends with the same bits
    key: the caller's hash of the weights; a file of another key, text or number of ranks is ignored
    reporter: counts the tokens of this rank

    Every sequence starts afresh (`Sequences.cut_at` cuts documents apart).
    Tables that are only looked up (an untied embedding, hashed pairs, value embeddings) get identities.
    Ranks take blocks in turn and add up: all return the same result.

    Raises BadCheckpoint naming the matrix whose input is NaN or infinite.
    """
    ranks = Ranks.current()
    key = f"{key} {text.digest()}"
    kept_hessians = _load_if_kept(path, key)
    if kept_hessians is not None:
        return kept_hessians
    unfinished = path and path.with_name(f"{path.name}.rank{ranks.rank}of{ranks.world}")
    key_of_rank = f"{key} block {BLOCK} rank {ranks.rank} of {ranks.world}"
    sums = InputSums(model, text)
    _resume_(sums, unfinished, key_of_rank)
    saved = time.perf_counter()
    with reporter.stage("Hessians", sum(sums.counts), "tokens") as stage:
        stage.advance(sum(sums.counts[: sums.done]))
        for tokens in sums.adding():
            stage.advance(tokens)
            now = time.perf_counter()
            if unfinished and now - saved > SAVE_EVERY and sums.done < len(sums.blocks):
                arrays = {name: total.cpu().numpy() for name, total in sums.totals.items()}
                write_arrays(unfinished, arrays, key_of_rank, {"cursor": sums.done})
                saved = now
    result = sums.hessians()
    if path and ranks.first:
        result.save(path, key)
    if unfinished:
        unfinished.unlink(missing_ok=True)
    return result


def _resume_(sums: InputSums, unfinished: Path | None, key: str) -> None:
    """Load the partial sums that an earlier run saved under this key, if there are any."""
    if unfinished and unfinished.exists():
        with contextlib.suppress(CorruptData):
            arrays, facts = read_arrays(unfinished, key)
            if {name: array.shape for name, array in arrays.items()} == {
                name: total.shape for name, total in sums.totals.items()
            }:
                for name, total in sums.totals.items():
                    total.copy_(torch.from_numpy(arrays[name]))
                sums.done = facts["cursor"]


def _load_if_kept(path: Path | None, key: str) -> Hessians | None:
    """Return the finished file when every rank can read it, else None."""
    kept_hessians = None
    if path and path.exists():
        with contextlib.suppress(CorruptData):
            kept_hessians = Hessians.load(path, key)
    return kept_hessians if Ranks.current().on_all(kept_hessians is not None) else None
