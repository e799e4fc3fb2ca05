"""A bundle made by one Python does the same on others: small programs, and the whole submission."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap
from squeeze.score.evaluate import evaluate
from squeeze.score.modes import Mode
from squeeze.submit.script import own_script
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from tests.squeeze.bundle.interpreters import OTHERS, WHY, alone, has, version

CONFIG: dict[str, Any] = {
    "vocab_size": 300, "num_layers": 3, "model_dim": 32, "num_heads": 2, "num_kv_heads": 1,
    "mlp_hidden": 64, "seq_len": 32, "layer_schedule": (0, 1, 1, 2), "rope_dims": 8,
    "xsa_layers": 3, "mlp_slope": 0.5, "norm_scale": True, "skip_gates": True, "parallel": "sum",
    "parallel_from": 2,
}  # fmt: skip
RECIPE: dict[str, Any] = {"batch_tokens": 1024, "steps": 4, "average": "ema"}
ROOM = 24_000  # bytes for the model
SAME = 1e-6  # bits per byte

NEW_SYNTAX = """
import sys, traceback
from dataclasses import dataclass, field
from enum import Enum
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    tags: list = field(default_factory=list)
class Color(Enum):
    RED = 'red'
def quoted(p, *, width=8):
    return f"{p.x!r:>{width}}{'a' if p.x else 'b'}{p.tags[0]!s}{{}}{chr(10)}" f'{p.x = }'
match Point(3, ['"', "'"]):
    case Point(x=3) as p:
        print(quoted(p), Color.RED, Color('red').name)
try:
    raise ExceptionGroup('several', [ValueError("one"), TypeError('two')])
except* ValueError as group:
    print(group.exceptions)
except* TypeError as group:
    print([str(e) for e in group.exceptions])
print('ä€😀', b'\\x00\\xff', r'\\d', '\\N{BULLET}', 1_000, 0x10, -1 ** 2, not 1 in [2])
""" + "\n".join(f"def f{n}(x, y={n}): return x * y + {n}" for n in range(60))  # fmt: skip


@pytest.mark.skipif(not OTHERS, reason=WHY)
@pytest.mark.parametrize("form", ["literal", "archive", "plain"])
@pytest.mark.parametrize("python", OTHERS)
def test_a_small_program_prints_the_same_on_every_version(tmp_path, python, form):
    entry = tmp_path / "main.py"
    entry.write_text(NEW_SYNTAX)
    path = tmp_path / "alone" / "train_gpt.py"
    path.parent.mkdir()
    path.write_bytes(bundle(entry, options=BundleOptions(forms=(form,))).shipped.data)
    expected, found = alone(sys.executable, entry), alone(python, path)
    assert expected.returncode == 0 and "one" in expected.stdout, expected.stderr
    assert (found.stdout, found.returncode) == (expected.stdout, 0), found.stderr


@pytest.mark.slow
@pytest.mark.skipif(not OTHERS, reason=WHY)
@pytest.mark.parametrize("python", OTHERS)
def test_context_mixed_code_is_the_same_on_every_version(tmp_path, python):
    if not has(python, "numba"):
        pytest.skip(f"{python} has no numba")
    path = tmp_path / "train_gpt.py"
    payload = next(payloads(NEW_SYNTAX.encode(), ("mixed",)))
    path.write_bytes(wrap(payload, "literal").data)
    expected, found = alone(sys.executable, path), alone(python, path)
    assert expected.returncode == 0 and "one" in expected.stdout, expected.stderr
    assert (found.stdout, found.returncode) == (expected.stdout, 0), found.stderr


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Settings that name a tokenizer of 300 pieces, and a folder of shards."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    letters = list("etaoinshrdlucmf")
    words = ["".join(rng.choice(letters, rng.integers(2, 8))) for _ in range(300)]
    texts = [" ".join(rng.choice(words, 60)) + "." for _ in range(60)]
    tokenizer = folder / "tokenizer.model"
    train_tokenizer(texts, 300, tokenizer)
    for part, chosen in (("train", texts[:50]), ("val", texts[50:])):
        write_shard(folder / f"fineweb_{part}_000000.bin", encode_documents(chosen, tokenizer))
    return {"TOKENIZER_PATH": tokenizer, "DATA_PATH": folder}


def score_of(done) -> float:
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("val_bpb: ")]
    assert json.loads(done.stdout.splitlines()[-1])["bpb"] == pytest.approx(float(line[9:]))
    return float(line[9:])


@pytest.mark.slow
def test_the_submission_trains_packs_and_scores_alike_on_every_version(tmp_path, inputs):
    """One model is made here, others score it; and each makes its own, which squeeze scores the same."""
    made = own_script(CONFIG, RECIPE, 16_000_000, Mode())
    unknown = sum(part.bytes for part in made.parts if part.module == "(bundle)")
    assert unknown < 0.05 * len(made.shipped.data), "code that the ledger cannot name"
    shard = inputs["DATA_PATH"] / "fineweb_val_000000.bin"
    limit = len(made.shipped.data) + ROOM

    def scored(model: Path) -> float:
        return evaluate(model, inputs["TOKENIZER_PATH"], [shard]).bpb

    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "train_gpt.py").write_bytes(made.shipped.data)
    trained = score_of(alone(sys.executable, folder / "train_gpt.py", "--limit", limit, **inputs))
    expected = scored(folder / "model.sqz")
    assert trained == pytest.approx(expected, abs=SAME)
    needed = ("torch", "numpy", "numba", "sentencepiece")
    rows = []
    for python in (sys.executable, *(python for python in OTHERS if has(python, *needed))):
        copy = tmp_path / version(python)
        copy.mkdir()
        for name in ("train_gpt.py", "model.sqz"):
            shutil.copy(folder / name, copy)
        there = score_of(alone(python, copy / "train_gpt.py", "--eval", **inputs))
        assert there == pytest.approx(expected, abs=SAME), version(python)
        again = score_of(alone(python, copy / "train_gpt.py", "--limit", limit, **inputs))
        assert again == pytest.approx(scored(copy / "model.sqz"), abs=SAME), version(python)
        same = (copy / "model.sqz").read_bytes() == (folder / "model.sqz").read_bytes()
        rows.append(f"{version(python)}: --eval {there:.12f}, trained there {again:.12f}, "
                    f"its model {'the same bytes' if same else 'other bytes'}")  # fmt: skip
        assert {path.name for path in copy.iterdir()} <= {"train_gpt.py", "model.sqz", "train.log"}
    print(f"{len(made.shipped.data):,} bytes; squeeze eval {expected:.12f}", *rows, sep="\n")
    if len(rows) <= len(OTHERS) or not OTHERS:
        pytest.skip(f"the same here; others lack {', '.join(needed)}" if OTHERS else WHY)
