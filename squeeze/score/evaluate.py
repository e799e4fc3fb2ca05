"""A whole evaluation: files in, a score out, with everything needed to derive it again."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeeze.errors import BadConfig, BadData
from squeeze.score.modes import Mode

if TYPE_CHECKING:
    import torch


def evaluate(
    model: Path,
    tokenizer: Path,
    data: list[Path],
    tokens: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    architecture: dict[str, Any] | None = None,
    on_progress: Any = None,
    *,
    mode: Mode | None = None,
    documents: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a checkpoint or artifact on token shards; plain values, as `squeeze eval --json` prints.

    tokens: only the first so many targets. documents: only so many whole documents, drawn with
    `seed`. architecture: ModelConfig fields the file does not tell. Under torch.distributed the work
    goes round the ranks and every rank gets the report.

    bpb and nats_per_token; nats (float64 sum), tokens (targets), bytes. Where documents are scored
    one by one: documents, ends (BOS after a document, predicted but not scored), end_nats, and
    bpb_with_ends. official: name of the official validation set, when it is that, whole; partial:
    fewer targets than the data holds. order: what the ledger of test-time training shows. sha256 of
    every file opened and of squeeze's code; versions; device; seconds by phase.
    """
    from squeeze.checkpoint.read import load_model
    from squeeze.ranks.group import Ranks
    from squeeze.score.official import official_set
    from squeeze.score.plan import document_spans, sample_documents
    from squeeze.score.provenance import code_sha256, device_facts, file_sha256, versions
    from squeeze.score.tokenizer import Tokenizer
    from squeeze.train.data.shards import read_shards, shard_length
    from squeeze.train.model.gpt import GPT

    mode = Mode() if mode is None else mode
    if documents is not None and not mode.by_document:
        raise BadConfig(f"{mode.name} scoring reads one stream", found="a number of documents")
    clock = _Clock()
    pieces = Tokenizer(tokenizer)
    available = sum(shard_length(path) for path in data) - 1
    if tokens is not None and tokens > available:
        raise BadData(
            "the data is shorter than --tokens", expected=f"≤ {available} targets", found=tokens
        )
    span = read_shards(data, None if tokens is None else tokens + 1)
    official = official_set(span, pieces.table) if tokens is None and documents is None else None
    if official is not None:
        available = official[1]
        span = span[: available + 1]
    hashes = {str(path): file_sha256(path) for path in data}
    clock.lap("data")
    loaded = load_model(model, **(architecture or {}))
    gpt = GPT.from_tensors(loaded.config, loaded.tensors).to(resolve_device(device))
    clock.lap("load")
    bos = loaded.config.bos_id
    spans = document_spans(span, bos)
    if documents is not None:
        spans = sample_documents(span, bos, documents, seed)
        if not len(spans[0]):
            raise BadData("the data holds no whole document", expected=f"two BOS, token {bos}")
    score, ledger = mode.score(gpt, span, pieces.table, spans, batch, on_progress)
    clock.lap("score")
    checked = pieces.check_bytes(span[1:])
    clock.lap("check_bytes")
    report: dict[str, Any] = {
        "model": str(model),
        "bpb": score.bpb,
        "nats_per_token": score.nats_per_token,
        "nats": score.nats,
        "tokens": score.tokens,
        "bytes": score.bytes,
        "official": None if official is None else official[0],
        "partial": score.tokens + score.ends < available,
        "available_tokens": available,
        "bytes_checked_against_text": checked,
        "mode": mode.name,
        "options": mode.options(loaded.config.seq_len),
    }
    if mode.by_document:
        report |= {
            "documents": len(spans[0]),
            "documents_seed": None if documents is None else seed,
            "ends": score.ends,
            "end_nats": score.end_nats,
            "bpb_with_ends": score.bpb_with_ends,
        }
    if ledger is not None:
        report["order"] = ledger.check()
    return report | {
        "config": asdict(loaded.config),
        "notes": loaded.notes,
        "format": loaded.source,
        "model_bytes": loaded.size,
        "sha256": {
            "model": loaded.sha256,
            "tokenizer": pieces.sha256,
            "data": hashes,
            "code": code_sha256(),
        },
        "versions": versions(),
        "ranks": Ranks.current().world,
        **device_facts(next(gpt.parameters()).device),
        "seconds": clock.laps,
    }


def resolve_device(name: str | None) -> torch.device:
    """The torch device of that name; cuda, else cpu, for None. Raises BadConfig if unusable."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadConfig(f"device {name!r} cannot be used", found=str(error)[:100]) from None
    return device


class _Clock:
    """Seconds since the last lap, by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = round(now - self._last, 3)
        self._last = now
