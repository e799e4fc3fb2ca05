"""The scoring engine, and the challenge's plain validation score: non-overlapping windows.

Window w reads tokens[w·T : (w+1)·T] and predicts the token after each, so every token but the first
of the whole span is a target exactly once. The last window may be shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from squeeze.errors import BadCheckpoint, BadData
from squeeze.ranks.group import Ranks
from squeeze.score.past import Context
from squeeze.score.plan import Int64, Plan, sliding
from squeeze.score.tokenizer import ByteTable, Tokens, check_vocab
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

Progress = Callable[[int, int], None]

LOGIT_BYTES = 16 << 20  # logits of one batch; the fastest of 4, 16 and 64 MiB on a CPU
CUDA_LOGIT_BYTES = 1 << 30


@dataclass(frozen=True)
class Score:
    """Sums over all targets. nats: float64 cross-entropy; tokens, bytes: counts; seconds: wallclock.

    ends, end_nats: predictions of the BOS after a document, where documents are scored one by one.
    They are no part of nats, tokens and bpb.
    """

    nats: float
    tokens: int
    bytes: int
    seconds: float
    ends: int = 0
    end_nats: float = 0.0

    @property
    def bpb(self) -> float:
        """Bits per byte of text, divided once at the end."""
        return self.nats / math.log(2.0) / self.bytes

    @property
    def bpb_with_ends(self) -> float:
        """Bits per byte when the end of each document is paid for as well."""
        return (self.nats + self.end_nats) / math.log(2.0) / self.bytes

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy in nats."""
        return self.nats / self.tokens


def score_windows(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    seq_len: int,
    batch: int | None = None,
    on_progress: Progress | None = None,
) -> Score:
    """Score tokens uint16 [n]: n - 1 targets in windows of seq_len (see `score_plan`)."""
    plan = sliding(max(0, len(tokens) - 1), seq_len, seq_len)
    return score_plan(model, tokens, table, plan, batch=batch, on_progress=on_progress)


def score_plan(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    plan: Plan,
    *,
    unscored: int | None = None,
    batch: int | None = None,
    on_progress: Progress | None = None,
) -> Score:
    """Score what a plan says of tokens uint16 [n], `batch` windows at a time.

    Targets that are the token `unscored` (BOS, where documents are scored one by one) count as ends.
    The forward runs where the model's weights are, in their dtype; only what is scored goes through
    the head. Under torch.distributed the batches go round the ranks, and every rank returns the whole
    score. on_progress(done, total) counts this rank's targets.

    Raises BadData for tokens out of range or text of zero bytes, BadCheckpoint when the model gives a
    loss that is not a number, RuleBroken for a plan that scores a token twice.
    """
    num_bytes, ends = count_targets(model.config, tokens, table, plan, unscored)
    started = time.perf_counter()
    ranks = Ranks.current()
    groups = ranks.deal(list(plan.batches(batch_outputs(model), batch)))
    total, done = sum(int((plan.stop[rows] - plan.first[rows]).sum()) for rows in groups), 0
    sums = np.zeros(2)  # nats of text, nats of ends
    model.eval()
    for rows in groups:
        losses, targets = score_batch(model, tokens, plan, rows)
        sums += split_sum(losses, targets, unscored)
        done += len(targets)
        if on_progress is not None:
            on_progress(done, total)
    nats, end_nats = ranks.summed_(torch.from_numpy(sums)).tolist()
    return checked_score(
        nats, plan.outputs, num_bytes, time.perf_counter() - started, ends, end_nats
    )


def batch_outputs(model: GPT) -> int:
    """Positions that one forward pass of scoring reads."""
    room = CUDA_LOGIT_BYTES if model.tok_emb.weight.is_cuda else LOGIT_BYTES
    return max(1, room // (4 * model.config.vocab_size))


def count_targets(
    config: ModelConfig, tokens: Tokens, table: ByteTable, plan: Plan, unscored: int | None
) -> tuple[int, int]:
    """Bytes of the targets a plan scores, and how many of them are `unscored` (see `score_plan`)."""
    if not len(plan):
        raise BadData("nothing to score", expected="2 tokens or more", found=len(tokens))
    check_vocab(tokens, config.vocab_size)
    if len(table.base) != config.vocab_size:
        raise BadData(
            "tokenizer and model have different vocabularies",
            expected=f"a tokenizer of the model's {config.vocab_size} pieces",
            found=f"{len(table.base)} pieces",
            fix="Give the tokenizer the model was trained with.",
        )
    scored = plan.scored(len(tokens) - 1)
    num_bytes = table.count(tokens, scored)
    if not num_bytes:
        raise BadData("the scored tokens stand for no text", found="0 bytes")
    ends = 0 if unscored is None else int((scored & (tokens[1:] == unscored)).sum())
    return num_bytes, ends


def checked_score(
    nats: float, outputs: int, num_bytes: int, seconds: float, ends: int = 0, end_nats: float = 0.0
) -> Score:
    """A Score of `outputs` predictions, `ends` among them; BadCheckpoint unless finite."""
    if not math.isfinite(nats + end_nats):
        raise BadCheckpoint("the model's loss is not a number", found=nats + end_nats)
    return Score(nats, outputs - ends, num_bytes, seconds, ends, end_nats)


def split_sum(
    losses: npt.NDArray[np.float32], targets: Int64, unscored: int | None
) -> npt.NDArray[np.float64]:
    """Sums float64 [2] of losses [N]: of targets that count, and of those that are `unscored`."""
    total = losses.sum(dtype=np.float64)
    ends = losses[targets == unscored].sum(dtype=np.float64) if unscored is not None else 0.0
    return np.array([total - ends, ends])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats float32 [...] of targets int64 [...] under logits float32 [..., V]."""
    return logits.logsumexp(-1) - logits.gather(-1, targets[..., None]).squeeze(-1)


def read_batch(
    tokens: Tokens | Int64, plan: Plan, rows: Int64
) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """What the windows `rows`, alike in context, read: ids, targets, and which targets they score.

    ids int64 [b, t]; targets int64 and wanted bool [b, t - context]. Shorter windows are padded on
    the right.
    """
    start, width = plan.start[rows], plan.stop[rows] - plan.start[rows]
    lead = int(plan.first[rows[0]] - start[0])
    columns = np.arange(int(width.max()))
    inside = columns < width[:, None]
    at = np.where(inside, start[:, None] + columns, start[:, None])
    ids, targets = tokens[at].astype(np.int64), tokens[at[:, lead:] + 1].astype(np.int64)
    return ids, targets, inside[:, lead:]


def score_batch(
    model: GPT, tokens: Tokens | Int64, plan: Plan, rows: Int64
) -> tuple[npt.NDArray[np.float32], Int64]:
    """Nats float32 [N] and targets int64 [N] of all outputs that the windows `rows` score.

    The windows are alike in context (`Plan.batches`). Without gradients.
    """
    read, targets, wanted = read_batch(tokens, plan, rows)
    device = model.tok_emb.weight.device
    ids = torch.from_numpy(read).to(device)
    lead = ids.size(1) - targets.shape[1]
    with torch.inference_mode():
        if lead:
            context = Context(model, len(rows), ids.size(1), buckets=False)
            context.fill(ids[:, :lead])
            hidden = context.step(ids[:, lead:])
        else:
            hidden = model.hidden(ids)
        if wanted.all():
            hidden, targets = hidden.flatten(0, 1), targets.reshape(-1)
        else:
            hidden, targets = hidden[torch.from_numpy(wanted).to(device)], targets[wanted]
        losses = cross_entropy(model.head(hidden[None])[0], torch.from_numpy(targets).to(device))
    return losses.cpu().numpy(), targets
