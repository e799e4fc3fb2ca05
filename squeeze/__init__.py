"""Pack tiny language models under a hard byte budget, and score the file that ships.

Importing this package imports neither torch nor numba nor numpy; its functions load what they need.
The examples below go on from this one, a model of random weights and a little text:

>>> import math
>>> import squeeze
>>> from squeeze.train.data.text import encode_documents, train_tokenizer
>>> from squeeze.train.model.config import ModelConfig
>>> from squeeze.train.model.gpt import GPT
>>> texts = [method.__doc__ for method in vars(str).values() if method.__doc__]
>>> train_tokenizer(texts, 512, "tokenizer.model")
>>> ids = encode_documents(texts, "tokenizer.model")
>>> model = GPT(ModelConfig(512, 2, 64, 2, 1, 128, seq_len=64))
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from squeeze.errors import OverBudget, SqueezeError

if TYPE_CHECKING:
    from datetime import timedelta

    from squeeze.checkpoint.complete import Config
    from squeeze.checkpoint.inspect import Inspection
    from squeeze.checkpoint.live import Packable
    from squeeze.checkpoint.state import Array, Module, Tensor
    from squeeze.ledger.table import Ledger
    from squeeze.packing.packed import Packed
    from squeeze.score.report import EvalReport
    from squeeze.subject.subject import Subject
    from squeeze.train.data.shards import TokenIds

    Path = str | os.PathLike[str]

__all__ = [
    "OverBudget",
    "SqueezeError",
    "__version__",
    "budget",
    "evaluate",
    "inspect",
    "load",
    "load_into",
    "pack",
]

__version__ = "0.1.0"


def pack(
    model: Packable | Subject,
    limit: int = 16_000_000,
    code: Path | Iterable[Path] = (),
    tokens: TokenIds | None = None,
    *,
    preset: str = "best",
    config: Config | None = None,
    entry: str | None = None,
    tokenizer: Path | None = None,
    cache: Path | None = None,
    assume: bool = False,
    tune: int | timedelta | None = None,
) -> Packed:
    """Return a model packed into at most `limit` bytes, checked by decoding it.

    model: any `torch.nn.Module` that predicts tokens (a copy of it runs), a `Subject`, a state dict of
        `squeeze.train.model.gpt.GPT`, or the path of a checkpoint
    limit: bytes that the artifact and `code` may take together
    code: files and folders that ship beside the artifact
    tokens: ids of text to calibrate on, integers [n]; None: text that the model writes
    preset: `best`, `fast` (half the time, a little more loss) and `tuned` (which trains, too: the
        least loss below two bits a weight) calibrate and land just under the limit; `record-374`,
        `record-1394`, `record-1855`, `record-1908`, `ternary` and `baseline-int8-zlib` do as those
        entries did; `round` rounds to nearest, `lossless` keeps every bit
    config: configuration of a state dict, or what a checkpoint does not say: fields by name, `like` (a
        layout of docs/layouts.md), `settings` (a file of the training script's settings); of a module
        its training window `seq_len`, and `bos_id`
    entry: one of several sets of weights in a file, such as `ema`
    tokenizer: sentencepiece model that gives costs per byte of text
    cache: folder that keeps every stage, so that an interrupted pack resumes; None: keep nothing
    assume: take defaults for what is not said, and write them into the artifact
    tune: updates of preset `tuned`, or the time that they may take; None: its own number

    Under a process group every rank must call: the ranks share the calibration, the first packs, and
    all return its result. Raises OverBudget when the limit cannot be met, BadCheckpoint for weights
    that cannot be packed, BadConfig for an unknown preset, or for `tune` with another than
    `tuned`.

    >>> packed = squeeze.pack(model, limit=40_000, tokens=ids, preset="fast")
    >>> packed.save("model.sqz")
    >>> 39_000 < packed.ledger.total <= 40_000
    True
    >>> packed.cost.measured < 0.01  # nats per token
    True
    """
    from squeeze.packing.pack import PackCall, pack_call
    from squeeze.score.padding import TextBytes

    bytes_of = None if tokenizer is None else TextBytes(tokenizer)
    return pack_call(
        PackCall(model, limit, code, tokens, preset, config, entry, bytes_of, cache, assume, tune)
    )


@overload
def load(
    path: Path, framework: Literal["torch"] = "torch", *, entry: str | None = None
) -> dict[str, Tensor]: ...
@overload
def load(path: Path, framework: Literal["np"], *, entry: str | None = None) -> dict[str, Array]: ...
def load(path: Path, framework: str = "torch", *, entry: str | None = None) -> dict[str, Any]:
    """Return the tensors of an artifact or checkpoint by name, in the float formats it was made from.

    framework: `torch`, or `np` for numpy arrays without importing torch (bfloat16 as float32)
    entry: one of several sets of weights in a file, such as `ema`

    Raises CorruptData, BadCheckpoint or UnsupportedFormat for a file that cannot be read.

    >>> state = squeeze.load("model.sqz")
    >>> state["tok_emb.weight"].shape
    torch.Size([512, 64])
    >>> squeeze.load("model.sqz", framework="np")["tok_emb.weight"].dtype
    dtype('float32')
    """
    from squeeze.checkpoint.state import load_state

    return load_state(path, framework, entry)


def load_into(model: Module, path: Path, *, entry: str | None = None) -> None:
    """Copy the tensors of an artifact or checkpoint into a module, whose device and dtypes stay.

    entry: one of several sets of weights in a file, such as `ema`

    Raises BadCheckpoint, and changes nothing, unless names and shapes are those of the module.

    >>> squeeze.load_into(model, "model.sqz")
    >>> bool((model.tok_emb.weight == state["tok_emb.weight"]).all())
    True
    """
    from squeeze.checkpoint.into import load_into_module

    load_into_module(model, path, entry)


def budget(paths: Path | Iterable[Path], limit: int | None = None) -> Ledger:
    """Return the ledger of files and folders: every byte in exactly one row.

    paths: artifacts, code, submission folders, exports of others
    limit: bytes they may take together, papers of a submission left out

    Raises OverBudget above the limit, NoModel for a folder of which no limit can be checked because it
    holds no model, SqueezeError for a file that cannot be read.

    >>> ledger = squeeze.budget("model.sqz", limit=40_000)
    >>> ledger.total == sum(row.bytes for row in ledger.rows)
    True
    >>> {row.component for row in ledger.rows} == {"container", "weights"}
    True
    """
    from squeeze.ledger.gate import attribute_within

    return attribute_within(paths, limit)


def evaluate(
    model: Packable | Subject,
    tokens: TokenIds,
    tokenizer: Path,
    *,
    mode: str = "window",
    config: Config | None = None,
    entry: str | None = None,
    device: str | None = None,
    assume: bool = False,
    other_tokenizer: bool = False,
) -> EvalReport:
    """Return the score of a model on tokens, in nats a token and in bits per byte of their text.

    model: any `torch.nn.Module` that predicts tokens (a copy of it runs), a `Subject`, a state dict of
        `squeeze.train.model.gpt.GPT`, or the path of a checkpoint or artifact
    tokens: ids, integers [n]; the first is context only
    tokenizer: sentencepiece model of the tokens, which says how many bytes each stands for
    mode: `window`, `sliding`, `documents`, `ttt-lora`, `ttt-chunk` or `ttt-phased`, with its defaults
    config: configuration of a state dict, or what a checkpoint does not say: fields by name, `like` (a
        layout of docs/layouts.md), `settings` (a file of the training script's settings); of a module
        its training window `seq_len`, and `bos_id`
    entry: one of several sets of weights in a file, such as `ema`
    device: name of a torch device; None: cuda, else cpu
    assume: take defaults for what is not said; the report's notes repeat them
    other_tokenizer: take another tokenizer than the one the model's file names; the notes say so

    Under a process group the ranks share the work and all return the report. Raises BadData for tokens
    of another vocabulary, BadConfig for an unknown mode or device, BadCheckpoint as `pack`.

    >>> report = squeeze.evaluate("model.sqz", ids[:513], "tokenizer.model")
    >>> report.tokens, report.bpb == report.nats / math.log(2) / report.bytes
    (512, True)
    """
    from squeeze.score.live import EvalCall, evaluate_call

    return evaluate_call(
        EvalCall(model, tokens, tokenizer, mode, config, entry, device, assume, other_tokenizer)
    )


def inspect(path: Path, config: Config | None = None, *, entry: str | None = None) -> Inspection:
    """Return the facts about a checkpoint or artifact: format, configuration, notes and tensors.

    config: what the file does not say, as for `pack`; what is still open is shown with its default
    entry: one of several sets of weights in a file, such as `ema`

    Raises as `load`.

    >>> facts = squeeze.inspect("model.sqz")
    >>> facts.format, facts.config.num_layers, facts.parameters
    ('sqz', 2, 90692)
    >>> facts.tensors[-1].tensor, facts.tensors[-1].storage
    ('tok_emb.weight', 'trellis')
    """
    from squeeze.checkpoint.inspect import inspect_model

    return inspect_model(path, config, entry=entry)
