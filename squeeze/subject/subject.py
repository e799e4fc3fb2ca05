"""One model, however it came: its module, its logits, its vocabulary and window, and what it is."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from squeeze.calib.parallel import one_thread
from squeeze.calib.statistics.divergence import Categorical, Divergence, Gaussian
from squeeze.calib.statistics.probed import drawn_ids, probed
from squeeze.calib.statistics.tapped import TappedModel
from squeeze.errors import BadCheckpoint, SqueezeError
from squeeze.files import sha256
from squeeze.subject.aside import printing_aside
from squeeze.subject.checks import check_no_probabilities, check_not_masked, check_values
from squeeze.subject.eager import eager
from squeeze.subject.outputs import Forward, check_logits, forward_of
from squeeze.subject.precision import device_of, forward_in, step_in
from squeeze.train.model.cache import Cache
from squeeze.train.model.gpt import GPT

LENGTH = 1024  # tokens of a window, where nobody says
PROBED = 16  # tokens of the first forward
ANSWERED = 64  # tokens of a fingerprint
NOT_TOLD = "the model's training window is not told"
SAY_WINDOW = f"{LENGTH:,} tokens are assumed: say how many (--seq-len, or seq_len of config)."
# attributes of a module or its configuration that tell its window
NAMES_OF_LENGTH = (
    "seq_len train_seq_len block_size max_seq_len n_ctx max_position_embeddings".split()
)
Weights = Mapping[str, npt.NDArray[np.float32]]
NewCache = Callable[[int, int], Any]  # (batch, length) → a `squeeze.calib.text.generate.StepCache`


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is packed or scored.

    module: in eval mode, weights float32
    forward: function (module, ids int64 [B, T]) → logits [B, T, V]
    vocab_size: V
    length: tokens of its training window
    bos: token that begins a document, or None
    identity: JSON that finds the model again
    step: makes an empty incremental forward of a module, batch and length; None: there is none
    notes: sentences for the user on how the model was taken and what was assumed
    hidden: whether the outputs are hidden states [B, T, D] of a model that predicts no tokens
    """

    module: nn.Module
    forward: Forward
    vocab_size: int
    length: int
    bos: int | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    step: Callable[[nn.Module, int, int], Any] | None = None
    notes: tuple[str, ...] = ()
    hidden: bool = False

    @classmethod
    def of_gpt(cls, module: GPT) -> Subject:
        """Return the subject of a model of this project."""
        config = module.config
        return cls(
            module.eval(),
            forward_of(module),
            config.vocab_size,
            config.seq_len,
            config.bos_id,
            {"kind": "squeeze"},
            Cache,  # type: ignore[arg-type]  # of a GPT, which this is
        )

    @classmethod
    def of_module(cls, module: nn.Module, facts: Facts | None = None) -> Subject:
        """Return the subject of a live module, which is put into eval mode and made float32.

        facts: what is known of it; the rest is looked up in the module, and what is assumed is noted

        Raises BadCheckpoint when its forward fails or returns no logits.
        """
        if isinstance(module, GPT):
            return cls.of_gpt(module)
        facts = facts or Facts()
        check_values(module)
        # not in one chain: a `train` of the user's own often returns nothing
        module.eval()
        module.float()
        make_contiguous_(module)
        length, notes = _length_of(module, facts)
        subject = cls(
            module,
            forward_of(module, facts.logits),
            0,
            length,
            facts.bos,
            facts.identity or {"kind": "module", "name": type(module).__name__},
            facts.step,
            tuple(notes),
        )
        ids = subject.some_ids()
        try:
            subject.logits(ids)
        except BadCheckpoint as error:
            if "not numbers" in str(error):
                check_not_masked(subject.run(module, ids))
            if "dtype" not in str(error):
                raise
            note = "its forward mixes dtypes: run under autocast to bfloat16, as it is trained"
            forward = forward_in("bf16", subject.forward)
            subject = replace(subject, forward=forward, notes=(*subject.notes, note))
        outputs, layout = subject.logits(ids), subject.tapped(ids).layout
        check_no_probabilities(outputs)
        width, rows = outputs.size(-1), layout.table_rows
        if rows is None or width >= rows or layout.head_rows == rows:
            return replace(subject, vocab_size=width)
        note = f"its outputs have {width} features for {rows} tokens: taken as hidden states"
        return replace(subject, vocab_size=rows, hidden=True, notes=(*subject.notes, note))

    @property
    def device(self) -> torch.device:
        """Device of the module; the CPU where it has no tensors."""
        return device_of(self.module)

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Return logits float32 [B, T, V] of ids int64 [B, T]; raises BadCheckpoint when it fails."""
        return check_logits(self.run(self.module, ids), ids)

    def computing_in(self, precision: str) -> Subject:
        """Return a copy whose forwards compute in another precision (`squeeze.subject.precision`)."""
        if precision == "fp32":
            return self
        step = None if self.step is None else step_in(precision, self.step)
        return replace(self, forward=forward_in(precision, self.forward), step=step)

    def some_ids(self) -> Tensor:
        """Return tokens int64 [1, T] that every model has, on the model's device."""
        return torch.arange(min(PROBED, self.length), device=self.device)[None] % 2

    def drawn_ids(self) -> Tensor:
        """Return tokens int64 [B, T], the same each time, to read a layout off without a text."""
        return drawn_ids(self.vocab_size, self.length, self.device)

    def tapped(self, ids: Tensor) -> TappedModel:
        """Return the model under taps, its matrices read off one forward of ids int64 [B, T]."""
        with running():
            return probed(self.module, self.run, ids)

    def run(self, module: nn.Module, ids: Tensor) -> Tensor:
        """Return the logits of a copy of the module, as they are."""
        assumed = ids.size(1) > PROBED and any(NOT_TOLD in note for note in self.notes)
        with running(SAY_WINDOW if assumed else ""):
            return self.forward(module, ids)

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Return a hash of what the weights do not tell: window, first token, and the answer to some."""
        shape = 1, min(ANSWERED, self.length)
        ids = torch.from_numpy(np.random.default_rng(0).integers(0, self.vocab_size, shape))
        with one_thread():
            answer = self.run(self.module, ids.to(self.device)).float().cpu().numpy()
        facts = repr((self.length, self.bos, self.vocab_size, self.hidden))
        return sha256(facts.encode() + answer.tobytes())

    def divergence(self, ids: npt.NDArray[np.unsignedinteger[Any]]) -> Divergence:
        """Return the divergence of the model's outputs; ids: integers [N, T] of some text."""
        if not self.hidden:
            return Categorical()
        with one_thread():
            outputs = [
                self.logits(torch.from_numpy(row.astype(np.int64))[None].to(self.device))
                for row in ids
            ]
            return Gaussian.of(torch.cat(outputs).flatten(0, 1))

    def with_weights(self, weights: Weights) -> Subject:
        """Return a copy with other values of some weights, by name; it shares the rest.

        Raises BadCheckpoint for a module that cannot be copied.
        """
        memo: dict[int, Any] = {}
        for name, tensor in named_tensors(self.module).items():
            # a tied tensor comes once under each of its names, any of which may bring its weights
            memo.setdefault(id(tensor), tensor)
            if name in weights:
                other = torch.tensor(weights[name], dtype=tensor.dtype, device=tensor.device)
                learnt = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(other, tensor.requires_grad) if learnt else other
        return replace(self, module=copied(self.module, memo))

    def new_cache(self, batch: int, length: int) -> Any:
        """Return an empty incremental forward: the model's own, or one of whole forwards."""
        if self.step is not None:
            return self.step(self.module, batch, length)
        return WholeForwards(self)


@dataclass(frozen=True)
class Facts:
    """Facts about a module that only its user knows; None where they do not say.

    logits: function (module, ids) → logits
    length: tokens of the training window
    """

    logits: Forward | None = None
    length: int | None = None
    bos: int | None = None
    step: Callable[[nn.Module, int, int], Any] | None = None
    identity: Mapping[str, Any] | None = None


class WholeForwards:
    """Incremental forward of a model that has none: every step runs all tokens so far."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.device = subject.device
        self.reset_()

    def reset_(self) -> None:
        """Drop all tokens."""
        self.ids: Tensor | None = None

    def fill(self, ids: Tensor) -> None:
        """Take in ids int64 [B, t] as the first tokens, from which nothing is predicted."""
        self.ids = ids

    def step(self, ids: Tensor) -> Tensor:
        """Return logits float32 [B, t, V] for the token after each of ids int64 [B, t]."""
        self.ids = ids if self.ids is None else torch.cat((self.ids, ids), 1)
        return self.subject.logits(self.ids)[:, -ids.size(1) :]


@contextlib.contextmanager
def running(fix: str = "") -> Iterator[None]:
    """Run a stranger's code, uncompiled; its prints go to stderr, and its errors become one line."""
    try:
        with eager(), printing_aside():
            yield
    except (SqueezeError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise BadCheckpoint(f"the model's forward fails: {one_line(error)}", fix=fix) from error


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type, and the first line of its text."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


_COPYING = threading.Lock()


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy; memo: what is not copied, by identity. Raises BadCheckpoint."""
    try:
        with _COPYING:
            return copy.deepcopy(module, memo)
    except Exception as error:
        raise BadCheckpoint(
            f"the model cannot be copied: {one_line(error)}",
            expected="a module that copy.deepcopy takes",
            fix="Keep locks, files and tensors with gradients out of the module.",
        ) from error


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of a module by name, those with two names twice."""
    return dict(module.state_dict(keep_vars=True))


def make_contiguous_(module: nn.Module) -> None:
    """Give every parameter whose elements lie in another order a contiguous storage of its own."""
    for parameter in module.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.contiguous()


def _length_of(module: nn.Module, facts: Facts) -> tuple[int, list[str]]:
    """Return the training window, and a note where nothing tells it."""
    if facts.length:
        return facts.length, []
    for holder in (module, getattr(module, "config", None)):
        for name in NAMES_OF_LENGTH:
            length = getattr(holder, name, None)
            if isinstance(length, int) and not isinstance(length, bool) and length > 0:
                return length, []
    return LENGTH, [f"{NOT_TOLD}: {LENGTH} tokens assumed (--seq-len)"]
