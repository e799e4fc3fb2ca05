"""Collection of Hessians from calibration text; the result and partial sums are kept in files."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch

from squeeze.calib.statistics.hessian import Hessians
from squeeze.calib.statistics.inputs import BLOCK, InputSums
from squeeze.calib.statistics.tapped import TappedModel
from squeeze.calib.text.sources import Sequences
from squeeze.errors import CorruptData
from squeeze.files.arrays import read_arrays, write_arrays
from squeeze.ranks.group import Ranks
from squeeze.ranks.kept import kept_by_all
from squeeze.reporter import SILENT, Reporter

SAVE_EVERY = 30.0  # seconds between two saves of partial sums
SUMS = "sums"  # name of their array


def collect(
    model: TappedModel,
    text: Sequences,
    *,
    path: Path | None = None,
    key: str = "",
    reporter: Reporter = SILENT,
) -> Hessians:
    """Return the Hessians of every matrix that products use, from the text run through the model.

    path: file that keeps the result; the first rank keeps partial sums beside it every SAVE_EVERY
        seconds, from which an interrupted run resumes, on any number of ranks
    key: the caller's hash of the weights; a file of another key or text is ignored
    reporter: counts the tokens of this rank

    Every sequence starts afresh.
    Tables that are only looked up (an untied embedding, hashed pairs, value embeddings) get identities.
    Ranks take blocks in turn; all return the same result, which on CPUs is that of one process.

    Raises BadCheckpoint naming the matrix whose input is NaN or infinite.
    """
    ranks = Ranks.current()
    key = f"{key} {text.digest()}"
    kept_hessians = kept_by_all(Hessians.load, path, key) if path else None
    if kept_hessians is not None:
        return kept_hessians
    unfinished = path and path.with_name(f"{path.name}.part")
    key_of_part = f"{key} block {BLOCK}"
    sums = InputSums(model, text)
    _resume_(sums, unfinished, key_of_part)
    saved = time.perf_counter()
    with reporter.stage("Hessians", sums.tokens(sums.blocks), "tokens") as stage:
        stage.advance(sums.tokens(sums.blocks[: sums.done]))
        for tokens in sums.adding():
            stage.advance(tokens)
            due = ranks.from_first(time.perf_counter() - saved) > SAVE_EVERY
            if unfinished and due and sums.done < len(sums.blocks):
                flat = sums.total.flat()
                if ranks.first:
                    arrays = {SUMS: flat.cpu().numpy()}
                    write_arrays(unfinished, arrays, key_of_part, {"cursor": sums.done})
                saved = time.perf_counter()
    result = sums.hessians()
    if path and ranks.first:
        result.save(path, key)
    if unfinished and ranks.first:
        unfinished.unlink(missing_ok=True)
    return result


def _resume_(sums: InputSums, unfinished: Path | None, key: str) -> None:
    """Load the partial sums that the first rank finds under this key, if there are any."""
    flat, cursor = torch.zeros(sums.total.size, device=sums.model.device), 0
    if unfinished and sums.ranks.first:
        with contextlib.suppress(CorruptData):
            arrays, facts = read_arrays(unfinished, key)
            if arrays.keys() == {SUMS} and arrays[SUMS].shape == flat.shape:
                flat, cursor = torch.from_numpy(arrays[SUMS]).to(flat.device), facts["cursor"]
    sums.done = int(sums.ranks.from_first(cursor))
    if sums.done:
        sums.total.load_(sums.ranks.summed_(flat))
