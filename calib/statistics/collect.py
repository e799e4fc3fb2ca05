"""Collecting Hessians: calibration text through the model, the result and partial sums kept in files."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch

from squeeze.calib.statistics.hessian import Hessians, read_arrays, write_arrays
from squeeze.calib.statistics.inputs import BLOCK, InputSums, Model
from squeeze.calib.text.generate import Progress
from squeeze.calib.text.sources import Sequences
from squeeze.errors import CorruptData
from squeeze.ranks.group import Ranks

SAVE_EVERY = 30.0  # seconds between two saves of partial sums


def collect(
    model: Model,
    text: Sequences,
    *,
    path: Path | None = None,
    key: str = "",
    on_progress: Progress | None = None,
) -> Hessians:
    """Run the text through the model and sum the inputs of every linear layer and of the head.

    Tables that are only looked up (an untied embedding, hashed pairs, value embeddings) get identities.

    Every sequence starts afresh (cut documents apart with `Sequences.cut_at`) and padding is left
    out. Ranks take blocks in turn and add up: all return the same result. With a path the result is
    kept there, and partial sums beside it every SAVE_EVERY seconds: a killed run goes on where it was
    and ends with the same bits. A file of another key (the caller's hash of the weights), other text
    or other ranks is collected anew. on_progress(done, total, tokens per second) counts this rank's
    tokens.

    Raises BadCheckpoint naming the tensor whose input is NaN or infinite, or that is never used.
    """
    ranks = Ranks.current()
    key = f"{key} {text.digest()}"
    kept = _load_if_kept(path, key)
    if kept is not None:
        return kept
    unfinished = path and path.with_name(f"{path.name}.rank{ranks.rank}of{ranks.world}")
    key_here = f"{key} block {BLOCK} rank {ranks.rank} of {ranks.world}"
    sums = InputSums(model, text)
    _go_on_(sums, unfinished, key_here)
    start, total = sums.done, sum(sums.counts)
    began = saved = time.perf_counter()
    for _ in sums.adding():
        now, ready = time.perf_counter(), sums.done
        if on_progress is not None:
            rate = sum(sums.counts[start:ready]) / max(now - began, 1e-9)
            on_progress(sum(sums.counts[:ready]), total, rate)
        if unfinished and now - saved > SAVE_EVERY and ready < len(sums.blocks):
            arrays = {name: total.cpu().numpy() for name, total in sums.totals.items()}
            write_arrays(unfinished, arrays, key_here, {"cursor": ready})
            saved = now
    result = sums.hessians()
    if path and ranks.first:
        result.save(path, key)
    if unfinished:
        unfinished.unlink(missing_ok=True)
    return result


def _go_on_(sums: InputSums, unfinished: Path | None, key: str) -> None:
    """Take over the partial sums that an earlier run saved, where they fit."""
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
    """The finished file, when every rank can read it."""
    kept = None
    if path and path.exists():
        with contextlib.suppress(CorruptData):
            kept = Hessians.load(path, key)
    return kept if Ranks.current().on_all(kept is not None) else None
