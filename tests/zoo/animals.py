"""Builds the zoo: honest submissions of several shapes, offenders with one violation each, vandals.

Every animal is the honest submission with a few lines changed, or papers that lie.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.score.overlap import find_overlap
from squeeze.score.serving import protocol
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer

HERE = Path(__file__).parent
VOCAB = 384
Tokens = npt.NDArray[np.uint16]
Change = tuple[str, str]  # text of the honest submission, what stands there instead


@dataclass(frozen=True)
class Habitat:
    """What every animal shares: tokenizer, shards, and a model trained on one of them."""

    folder: Path
    train: Tokens
    validation: Tokens

    @property
    def tokenizer(self) -> Path:
        return self.folder / "t.model"

    @property
    def data(self) -> Path:
        return self.folder / "val.bin"


def make_habitat(folder: Path, vocab: int = VOCAB) -> Habitat:
    """A tokenizer with byte pieces in use, two disjoint texts, a bigram table."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))[:160_000]
    # characters too rare to be pieces: they fall back to bytes
    text = text.replace("zero", "zéro ☃").replace("module", "mödule", 40)
    documents = [text[i : i + 400] for i in range(0, len(text), 400)]
    # few pieces: hardly a word is learned, and almost everything falls back to bytes
    learned = ["a be see at to the "] * 99 if vocab < 300 else documents
    train_tokenizer(learned, vocab, folder / "t.model")
    train = encode_documents(documents[60:], folder / "t.model")
    # the topics repeat themselves: keep what the training text does not say as well
    shared = find_overlap(encode_documents(documents[:60], folder / "t.model"), [train]).share
    fresh = [documents[i] for i in np.flatnonzero(shared < 0.1)[:24]]
    validation = encode_documents(fresh, folder / "t.model")
    write_shard(folder / "train.bin", train)
    write_shard(folder / "val.bin", validation)
    counts = np.full((vocab, vocab), 0.02, np.float32)
    np.add.at(counts, (train[:-1], train[1:]), 1)
    table = np.log(counts / counts.sum(axis=1, keepdims=True))
    np.savez(folder / "model.npz", table=table.astype(np.float16))
    pieces = Tokenizer(folder / "t.model").table
    np.savez(folder / "pieces.npz", base=pieces.base, space=pieces.space, boundary=pieces.boundary)
    return Habitat(folder, train, validation)


@dataclass(frozen=True)
class Animal:
    """A submission to build. breaks: the rule it breaks, None for honest ones."""

    name: str
    breaks: str | None = None
    shape: str = "window"
    changes: tuple[Change, ...] = ()
    claims: dict[str, Any] = field(default_factory=dict)
    extra: Callable[[Path, Habitat], None] | None = None
    train: Callable[[Habitat], Tokens] | None = None  # what it says it was trained on


STATEFUL = ("STATEFUL = False", "STATEFUL = True")
ISOLATED = ("ISOLATED = False", "ISOLATED = True")
SHAPES: dict[str, tuple[Change, ...]] = {
    "window": (),
    "sliding": (("64, 64, 32", "64, 16, 32"),),
    "documents": (ISOLATED,),
    "recurrent": (("RECURRENT = False", "RECURRENT = True"),),
    "ttt-document": (STATEFUL, ISOLATED),
    "ttt-stream": (STATEFUL,),
    "ttt-token": (STATEFUL, ("64, 64, 32", "64, 64, 1"), ("RATE = 0.2, 4.0", "RATE = 0.2, 0.2")),
}
HONEST = tuple(Animal(shape, None, shape) for shape in SHAPES)

CONFIG = {"num_layers": 1, "vocab_size": VOCAB, "matrix_lr": 0.02}
CLOCK = [
    {"stage": "compile", "seconds": 31.0, "inside": False, "reads": "nothing"},
    {"stage": "train", "seconds": 585.2, "inside": True, "reads": "train"},
    {"stage": "hessians", "seconds": 6.1, "inside": True, "reads": "train"},
    {"stage": "pack", "seconds": 41.0, "inside": False, "reads": "nothing"},
]


def build(animal: Animal, habitat: Habitat, folder: Path) -> Path:
    """Write the submission folder."""
    folder.mkdir(parents=True)
    code = (HERE / "honest.py").read_text()
    for old, new in (*SHAPES[animal.shape], *animal.changes):
        assert code.count(old) == 1, f"{animal.name}: {old!r} occurs {code.count(old)} times"
        code = code.replace(old, new)
    (folder / "train_gpt.py").write_text(code)
    shutil.copy(protocol.__file__, folder / "protocol.py")
    for name in ("model.npz", "pieces.npz"):
        shutil.copy(habitat.folder / name, folder / name)
    for seed in (1, 2, 3):
        run = {"seed": seed, "val_bpb": 3.0 + seed / 1000, "config": {**CONFIG, "seed": seed}}
        (folder / f"seed{seed}.json").write_text(json.dumps(run))
    if animal.extra is not None:
        animal.extra(folder, habitat)
    total = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".py", ".npz"))
    claims = {"name": animal.name, "clock": CLOCK, "bytes_total": total, **animal.claims}
    (folder / "submission.json").write_text(json.dumps(claims))
    return folder
