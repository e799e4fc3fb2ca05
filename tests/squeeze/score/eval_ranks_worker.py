"""One rank of test_score_ranks: the score of every mode that several processes can share, as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before a group exists: see squeeze.ranks.group

from squeeze.score import compiled
from squeeze.score.modes import MODES, Mode
from squeeze.score.plan import document_spans
from squeeze.score.tokenizer import Text
from tests.recorder import Recorder
from tests.scoring import BOS, TABLE, random_model, repetitive_documents

SETTINGS = {
    "ttt-lora": {"chunk": "4", "batch": "3"},
    "ttt-chunk": {"chunk": "32"},
    "ttt-phased": {"chunk": "4", "batch": "3"},
}


def main(folder: Path, rank: int, world: int, how: str) -> None:
    torch.set_num_threads(1)
    if how == "compiled":
        compiled.DEVICES, compiled.OFTEN = ("cpu",), 2
        torch.compile = partial(torch.compile, backend="eager")  # type: ignore[assignment]
    if world > 1:
        dist.init_process_group(
            "cuda:gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
        )
    tokens = repetitive_documents((23, 4, 1, 40, 9, 30, 5, 12, 17))
    scores = {}
    for name in MODES:
        mode = Mode(name, settings=SETTINGS.get(name, {}))
        batch = None if mode.facts.learns else 2
        recorder = Recorder()
        score, ledger = mode.scoring(random_model()).score(
            Text(tokens, TABLE),
            document_spans(tokens, BOS),
            batch,
            recorder,
        )
        facts = {
            key: getattr(score, key) for key in ("nats", "end_nats", "tokens", "bytes", "ends")
        }
        facts["order"] = ledger.check() if ledger is not None else None
        scores[name] = facts | {"bpb": score.bpb, "work": sum(recorder.stages[0].counts)}
    (folder / f"{rank}-of-{world}.json").write_text(json.dumps(scores))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
