"""A submission called Bread, small enough for tests, and what they do with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.errors import SqueezeError
from squeeze.score.evaluate import evaluate
from squeeze.score.serving import protocol
from squeeze.submit.check import Inputs, sums
from squeeze.submit.claims import About
from squeeze.submit.parts import Parts
from squeeze.submit.plain import BadSubmission
from squeeze.submit.write import WriteOptions, write_submission
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from tests.tiny_text import TEXT, write_text_files

CONFIG = ModelConfig(300, 1, 16, 2, 1, 16, seq_len=32)
ABOUT = About("Bread", ("A. Baker", "B. Miller"), "abaker", date="2026-03-18", assistance=("none",))

# A model of zeros predicts every token alike, so this script scores it exactly as squeeze does.
SCRIPT = """
import json, os, sys
import numpy as np
import sentencepiece
from protocol import serve

V = 300

def score(data, tokenizer):
    tokens = np.fromfile(data, "<u2", offset=1024)
    pieces = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    size = 0
    for before, token in zip(tokens[:-1].tolist(), tokens[1:].tolist()):
        if pieces.is_byte(token):
            size += 1
        elif not pieces.is_control(token) and not pieces.is_unknown(token):
            piece = pieces.id_to_piece(token)
            after = not pieces.is_control(before) and not pieces.is_unknown(before)
            size += len(piece.removeprefix("▁").encode()) + (piece.startswith("▁") and after)
    losses = np.full(len(tokens) - 1, np.log(V), np.float32)
    return (len(tokens) - 1) * np.log(V), size, len(losses), losses

class Scorer:
    report = staticmethod(score)
    def hello(self, targets):
        return {"protocol": 1, "vocab_size": V, "stateful": False, "isolated": False,
                "window": 32, "stride": 32}
    def reset(self): pass
    def feed(self, tokens):
        return np.full((len(tokens), V), -np.log(V), np.float32)

if "--serve" in sys.argv:
    serve(Scorer())
else:
    data = os.environ["DATA_PATH"] + "/fineweb_val_000000.bin"
    nats, size, *_ = score(data, os.environ["TOKENIZER_PATH"])
    print("val_bpb:", nats / np.log(2) / size)
"""


def packed(config: ModelConfig = CONFIG) -> bytes:
    zeros = {n: np.zeros(shape, np.uint32) for n, shape in config.parameter_shapes().items()}
    tensors = {name: RawTensor(words, "fp32") for name, words in zeros.items()}
    return encode(Artifact({"model": json.loads(config.to_json())}, tensors))


def make_inputs(place: Path) -> Path:
    """Write a model, a script that scores it, and what they need."""
    (place / "m.sqz").write_bytes(packed())
    (place / "code.py").write_text(SCRIPT)
    shutil.copy(protocol.__file__, place / "protocol.py")
    (place / "train.jsonl").write_text('{"step": 1}\n')
    write_text_files(place, [TEXT * 3, TEXT * 2])
    return place


def parts(inputs: Path, **changes: Any) -> Parts:
    given = {
        "model": inputs / "m.sqz",
        "about": ABOUT,
        "script": inputs / "code.py",
        "files": [inputs / "protocol.py"],
        "logs": [inputs / "train.jsonl"],
        "evaluate": ("python", "train_gpt.py", "--eval"),
    }
    return Parts(**{**given, **changes})


def inputs_of(folder: Path) -> Inputs:
    return Inputs(folder / "t.model", [folder / "d.bin"])


def write(inputs: Path, target: Path, **changes: Any) -> Any:
    """Write Bread, with changes of its parts or of the options."""
    named = ("limit", "force", "mode", "limits")
    options = WriteOptions(**{name: changes.pop(name) for name in named if name in changes})
    return write_submission(target, parts(inputs, **changes), inputs_of(inputs), options)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change submission.json, with hashes that fit it."""
    path = folder / "submission.json"
    claims = json.loads(path.read_text())
    change(claims)
    path.write_text(json.dumps(claims))
    rehash(folder)


def rehash(folder: Path) -> None:
    content = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(sums(content))


@cache
def _score(inputs: Path) -> str:
    report = evaluate(inputs / "m.sqz", inputs / "t.model", [inputs / "d.bin"])
    return json.dumps(report.as_json())


def score(inputs: Path) -> dict[str, Any]:
    """Return what `squeeze eval` says of the model, evaluated once."""
    return json.loads(_score(inputs))


def eval_report(inputs: Path, path: Path, **changes: Any) -> Path:
    report = score(inputs)
    model = changes.pop("model", None)
    if model is not None:
        report["sha256"]["model"] = model
    path.write_text(json.dumps({**report, **changes}))
    return path


def train_report(path: Path, seed: int, **changes: Any) -> Path:
    rows = [("compile and warm-up", 3.0, False), ("training", 20.5, True)]
    report = {
        "seed": seed,
        "config": asdict(CONFIG),
        "recipe": asdict(Recipe()),
        "clock": [dict(zip(("stage", "seconds", "inside"), row, strict=True)) for row in rows],
    }
    path.write_text(json.dumps({**report, **changes}))
    return path


def refused(match: str, kind: type[SqueezeError] = BadSubmission) -> Any:
    return pytest.raises(kind, match=match)
