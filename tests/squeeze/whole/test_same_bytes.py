"""Files are the same to the byte whatever the number of threads and the seed of Python's hashes.

Libraries may happen to round alike on this machine, so the second half runs on one that never does:
there every product and sum comes out larger by a share that depends on torch's number of threads.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from squeeze import calib
from squeeze.calib.allocation.waterfill import expected_loss, waterfill
from squeeze.calib.quantizers.gptq import gptq
from squeeze.calib.quantizers.low_rank import low_rank
from squeeze.calib.quantizers.row_feedback import row_feedback
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.curvature import factorize
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.text.generate import generate
from squeeze.calib.text.sources import RandomTokens
from squeeze.packing.costs import measured_divergence
from squeeze.subject.subject import Subject
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tapping import tapped
from tests.tiny_models import begun
from tests.tiny_text import TEXT, write_text_files

THREADS = (1, 2, 4)
CONFIG = ModelConfig(300, 1, 64, 2, 1, 64, seq_len=32)
WIDE = ModelConfig(300, 1, 192, 2, 1, 64, seq_len=32)  # OpenBLAS splits factors from 192 on

# Runs commands one after another in one process, printing the SHA-256 of every file that is left.
RUNNER = """
import hashlib, json, os, sys
from pathlib import Path
from click.testing import CliRunner
from squeeze.cli import cli
for arguments in json.load(sys.stdin):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
print(json.dumps({
    str(path): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(Path().rglob("*"))
    if path.is_file() and path.suffix != ".jsonl" and path.name != "seconds.json"
}))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for name, config in (("m", CONFIG), ("wide", WIDE)):
        metadata = {"squeeze.config": config.to_json()}
        save_file(begun(config, 5), folder / f"{name}.safetensors", metadata)
    write_text_files(folder, [TEXT] * 9)
    (folder / "text.txt").write_text("\n".join(TEXT + str(n) for n in range(99)))
    (folder / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "entry.py").write_text("import helper\nprint({helper.double(n) for n in range(9)})\n")
    return folder


def files(inputs: Path, folder: Path, commands: list[list[str]], threads: int, seed: int) -> object:
    folder.mkdir()
    numbers = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)
    )
    told = json.dumps([[text.replace("{in}", str(inputs)) for text in c] for c in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=told, capture_output=True, text=True, cwd=folder,
        env={**os.environ, **numbers, "PYTHONHASHSEED": str(seed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


MODEL, WIDE_MODEL = "{in}/m.safetensors", "{in}/wide.safetensors"
TOKENIZER, DATA = "{in}/t.model", "{in}/d.bin"
ANY_THREADS = [
    ["pack", MODEL, "-o", "rounded.sqz"],
    ["pack", MODEL, "-o", "best.sqz", "--codecs", "all", "--quant", "all=5:12"],
    ["pack", WIDE_MODEL, "-o", "fast.sqz", "--preset", "fast", "--tokens", "4096", "--limit",
     "75000"],
    ["pack", MODEL, "-o", "tuned.sqz", "--preset", "tuned", "--tune", "5", "--tokens", "512", "--limit",
     "9000"],
    ["calibrate", MODEL, "-o", "calibration", "--calibration", "random", "--tokens", "4096"],
    ["unpack", "fast.sqz"],
    ["bundle", "{in}/entry.py", "-o", "train_gpt.py"],
    ["data", "tokenizer", "{in}/text.txt", "-o", "t.model", "--vocab", "290"],
    ["data", "tokenize", "{in}/text.txt", "--tokenizer", TOKENIZER, "-o", "shards", "--val-share",
     "0.3"],
    ["budget", "fast.sqz", "--html", "page.html"],
]  # fmt: skip
# torch adds in another order on another number of threads: these take theirs as an option
SAME_THREADS = [
    ["train", "--data", DATA, "--out", "trained.safetensors", "--config", CONFIG.to_json(), "--set",
     "batch_tokens=64", "--steps", "4", "--threads", "1"],
    ["pack", "trained.safetensors", "-o", "trained.sqz"],
    ["prove", "trained.sqz", "--tokenizer", TOKENIZER, "--val", DATA, "-o", "text.sqp",
     "--threads", "1"],
]  # fmt: skip


@pytest.mark.parametrize("name", ["any", pytest.param("same", marks=pytest.mark.slow)])
def test_files_are_the_same_on_any_threads_and_with_any_hash_seed(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    commands = ANY_THREADS if name == "any" else SAME_THREADS
    first, *others = (
        files(inputs, tmp_path / str(threads), commands, threads, seed=7 * threads)
        for threads in THREADS
    )
    assert isinstance(first, dict) and len(first) >= len(commands)
    assert all(other == first for other in others)


def on_threads(threads: int, work: Callable[[], object]) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


@functools.cache
def models() -> tuple[GPT, GPT]:
    """Two small models; made once, for they begin with factors that do depend on the threads."""
    config = ModelConfig(1024, 2, 64, 2, 1, 64, seq_len=64)  # wide: torch splits sums over 32,768
    return GPT(config, seed=1).eval(), GPT(config, seed=2).eval()


def statistics() -> list[object]:
    """Text, gradients, Hessians and measured cost of a small model, to the bit."""
    model, other = models()
    vocab_size = model.config.vocab_size
    text = RandomTokens(vocab_size, 0).draw(6144, 64)
    gradients, hessians = collect_gradients(tapped(model), text), collect(tapped(model), text)
    written = generate(partial(Cache, model), vocab_size, 70, 6)
    return [
        written.tobytes(),
        measured_divergence(Subject.of_gpt(model), Subject.of_gpt(other), text).mean,
        *(gradients.best(name).tobytes() for name in gradients.rows),
        *(matrix.tobytes() for matrix in hessians.matrices.values()),
    ]


def codes() -> list[object]:
    """Codes of a matrix and what they cost, to the bit."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((64, 256)).astype(np.float32)
    inputs, gradients = (rng.standard_normal((600, n)).astype(np.float32) for n in (256, 64))
    hessian, outputs = (x.T @ x / 600 for x in (inputs, gradients))
    factor, rows = factorize(hessian), row_feedback(outputs)
    steps = waterfill(weights, factor, rows.importance, 0.1)
    tensor = trellis_gptq(
        weights, factor, steps.rows, steps.columns, TrellisOptions(feedback=rows)
    ).tensor
    plain = gptq(weights, factor, 5, np.full(64, 0.2, np.float32))
    error = weights - tensor.dequantize()
    correction = low_rank(error, hessian, outputs, 3)
    return [
        factor.upper.tobytes(),
        tensor.codes.tobytes(),
        plain.codes.tobytes(),
        expected_loss(error, hessian, outputs),
        correction.left.tobytes(),
        correction.right.tobytes(),
    ]


@pytest.mark.parametrize("work", [statistics, codes])
def test_statistics_and_codes_are_the_same_on_any_threads(work: Callable[[], object]) -> None:
    first, *others = (on_threads(threads, work) for threads in THREADS)
    assert all(other == first for other in others)


MOODY = {
    torch.Tensor: ("__matmul__", "addmm_", "sum"),
    torch: ("mm", "matmul", "softmax", "log_softmax"),
    torch.nn.functional: ("linear", "scaled_dot_product_attention", "cross_entropy"),
    torch.linalg: ("cholesky_ex", "solve_triangular", "svd", "eigh"),
    np.linalg: ("cholesky", "inv", "svd", "eigh"),
}


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make results of products, sums and factors depend on torch's number of threads."""

    def moodily(function: Callable[..., object], *args: object, **options: object) -> object:
        result = function(*args, **options)
        share = 1 + 2.0**-9 * (torch.get_num_threads() - 1)
        if isinstance(result, (torch.Tensor, np.ndarray)):
            return result * share if share != 1 else result
        assert isinstance(result, tuple)
        return tuple(part * share for part in result)

    for place, names in MOODY.items():
        for name in names:
            function = getattr(place, name)
            wrapper = functools.wraps(function)(functools.partial(moodily, function))
            # a method finds its tensor only as a function
            monkeypatch.setattr(place, name, lambda *args, _to=wrapper, **kw: _to(*args, **kw))


@pytest.mark.usefixtures("moody")
@pytest.mark.parametrize("work", [statistics, codes])
def test_they_are_the_same_where_libraries_round_by_their_threads(
    work: Callable[[], object],
) -> None:
    first, *others = (on_threads(threads, work) for threads in THREADS)
    assert all(other == first for other in others)


@pytest.mark.usefixtures("moody")
def test_the_moody_libraries_do_round_by_their_threads() -> None:
    ones = torch.ones(3, 3)
    for work in (lambda: float((ones @ ones).sum()), lambda: float(torch.mm(ones, ones)[0, 0])):
        assert on_threads(1, work) != on_threads(2, work)


def test_no_product_of_numpy_is_left_in_calibration() -> None:
    """OpenBLAS has threads of its own, which Python cannot set: products are torch's."""
    folder = Path(str(calib.__file__)).parent
    for path in (*(folder / "quantizers").glob("*.py"), *(folder / "allocation").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.MatMult), path


def test_the_runner_sees_a_file_that_differs(inputs: Path, tmp_path: Path) -> None:
    seeds = [["data", "tokenize", "{in}/text.txt", "--tokenizer", TOKENIZER, "-o", "shards",
              "--val-share", share] for share in ("0.2", "0.4")]  # fmt: skip
    found = [files(inputs, tmp_path / c[-1], [c], threads=1, seed=0) for c in seeds]
    assert found[0] != found[1]
