"""The scoring engine: nats and bytes of all targets that a plan names, on any number of processes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from squeeze.errors import BadCheckpoint, BadData
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter
from squeeze.score.compiled import States, compiled_states
from squeeze.score.past import Context
from squeeze.score.plan import Int64, Plan, sliding
from squeeze.score.tokenizer import Text, Tokens, check_vocab
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

LOGIT_BYTES = 16 << 20  # logits of one batch; the fastest of 4, 16 and 64 MiB on a CPU
CUDA_LOGIT_BYTES = 1 << 30


@dataclass(frozen=True)
class Score:
    """Sums over all targets.

    nats: cross-entropy, summed in float64
    tokens: number of targets
    bytes: bytes of their text
    seconds: wallclock
    ends, end_nats: predictions of the BOS after a document, where documents are scored one by one;
        they are no part of nats, tokens and bpb
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
    text: Text,
    seq_len: int,
    batch: int | None = None,
    reporter: Reporter = SILENT,
) -> Score:
    """Score all tokens but the first in windows that do not overlap (see `score_plan`).

    Window w reads tokens[w·T : (w+1)·T] and predicts the token after each; the last may be shorter.
    """
    plan = sliding(max(0, len(text.tokens) - 1), seq_len, seq_len)
    return score_plan(model, text, plan, batch, reporter)


def score_plan(
    model: GPT,
    text: Text,
    plan: Plan,
    batch: int | None = None,
    reporter: Reporter = SILENT,
    led: bool = True,
) -> Score:
    """Score the targets of a plan.

    batch: windows of a forward pass; None: as many as fit the memory of scoring
    reporter: counts the targets of this rank
    led: as of `score_batch`

    The forward runs where the model's weights are, in their dtype; only outputs that are scored go
    through the head. Under torch.distributed the batches are dealt to the ranks, and every rank
    returns the whole score.

    Raises BadData for tokens out of range or text of zero bytes, BadCheckpoint when the model gives a
    loss that is not a number, RuleBroken for a plan that scores a token twice.
    """
    num_bytes, ends = count_targets(model.config, text, plan)
    started = time.perf_counter()
    ranks = Ranks.current()
    batches = list(plan.batches(batch_outputs(model), batch))
    states, groups = compiled_states(model, plan, batches), ranks.deal(batches)
    total = sum(plan.select(rows).outputs for rows in groups)
    sums = np.zeros(2)  # nats of text, nats of ends
    model.eval()
    with reporter.stage("scoring", total, "targets") as stage:
        for rows in groups:
            losses, targets = score_batch(model, text.tokens, plan, rows, states, led)
            sums += split_sum(losses, targets, plan.end)
            stage.advance(len(targets))
    ranks.summed_(torch.from_numpy(sums))
    return checked_score(sums, plan.outputs, num_bytes, ends, time.perf_counter() - started)


def batch_outputs(model: GPT) -> int:
    """Return the most positions that a forward pass of scoring reads."""
    room = CUDA_LOGIT_BYTES if model.tok_emb.weight.is_cuda else LOGIT_BYTES
    return max(1, room // (4 * model.config.vocab_size))


def count_targets(config: ModelConfig, text: Text, plan: Plan) -> tuple[int, int]:
    """Return the bytes of the targets that a plan scores, and the number of ends of documents in them.

    Raises as `score_plan`.
    """
    tokens, table = text.tokens, text.table
    if not len(plan):
        raise BadData("nothing to score", expected="2 tokens or more", found=len(tokens))
    check_vocab(tokens, config.vocab_size)
    table.check(config.vocab_size)
    scored = plan.scored(len(tokens) - 1)
    num_bytes = table.count(tokens, scored)
    if not num_bytes:
        raise BadData("the scored tokens stand for no text", found="0 bytes")
    ends = 0 if plan.end is None else int((scored & (tokens[1:] == plan.end)).sum())
    return num_bytes, ends


def checked_score(
    sums: npt.NDArray[np.float64], outputs: int, num_bytes: int, ends: int, seconds: float
) -> Score:
    """Return the Score of `outputs` predictions, `ends` of them ends of documents.

    sums: nats float64 [2] as of `split_sum`

    Raises BadCheckpoint unless they are finite.
    """
    nats, end_nats = sums.tolist()
    if not math.isfinite(nats + end_nats):
        raise BadCheckpoint("the model's loss is not a number", found=nats + end_nats)
    return Score(nats, outputs - ends, num_bytes, seconds, ends, end_nats)


def split_sum(
    losses: npt.NDArray[np.float32], targets: Int64, end: int | None
) -> npt.NDArray[np.float64]:
    """Return sums float64 [2] of losses [N]: of targets that count, and of those that are `end`."""
    total = losses.sum(dtype=np.float64)
    ends = losses[targets == end].sum(dtype=np.float64) if end is not None else 0.0
    return np.array([total - ends, ends])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return nats float32 [...] of targets int64 [...] under logits float32 [..., V]."""
    return logits.logsumexp(-1) - logits.gather(-1, targets[..., None]).squeeze(-1)


def read_batch(
    tokens: Tokens | Int64, plan: Plan, rows: Int64
) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """Return the inputs and targets of the windows `rows`, which are alike in context.

    These are ids int64 [b, t], targets int64 [b, t - context], and bool [b, t - context], True where
    a target is scored: shorter windows are padded on the right.
    """
    start, width = plan.start[rows], plan.stop[rows] - plan.start[rows]
    lead = int(plan.first[rows[0]] - start[0])
    columns = np.arange(int(width.max()))
    inside = columns < width[:, None]
    at = np.where(inside, start[:, None] + columns, start[:, None])
    ids, targets = tokens[at].astype(np.int64), tokens[at[:, lead:] + 1].astype(np.int64)
    return ids, targets, inside[:, lead:]


def score_batch(
    model: GPT,
    tokens: Tokens | Int64,
    plan: Plan,
    rows: Int64,
    states: States = lambda ids: None,
    led: bool = True,
) -> tuple[npt.NDArray[np.float32], Int64]:
    """Return nats float32 [N] and targets int64 [N] of all outputs that the windows `rows` score.

    states: as of `compiled_states`
    led: False where no window reads what it does not score

    The windows are alike in context (`Plan.batches`). No gradient is kept.
    """
    read, targets, wanted = read_batch(tokens, plan, rows)
    device = model.tok_emb.weight.device
    ids = torch.from_numpy(read).to(device)
    lead = ids.size(1) - targets.shape[1]
    # what a stranger's module keeps between forwards may be needed where gradients are
    own = isinstance(model, GPT)
    with torch.inference_mode(own), torch.no_grad():
        final = states(ids)
        if final is not None:
            hidden = final[:, lead:]
        elif led and lead and own:
            context = Context(model, len(rows), ids.size(1), buckets=False)
            context.fill(ids[:, :lead])
            hidden = context.step(ids[:, lead:])
        else:
            hidden = model.hidden(ids)[:, lead:]
        if wanted.all():
            hidden, targets = hidden.flatten(0, 1), targets.reshape(-1)
        else:
            hidden, targets = hidden[torch.from_numpy(wanted).to(device)], targets[wanted]
        losses = cross_entropy(model.head(hidden[None])[0], torch.from_numpy(targets).to(device))
    return losses.cpu().numpy(), targets
