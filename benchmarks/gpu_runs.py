"""The stages of gpu_check.py that are whole runs: README's commands, a submission, a large pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_stages import Figures, Setting, lively
from machine import ROOT

from squeeze.bundle.build import BundleOptions
from squeeze.calib.tuning.distil import Course
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.costs import measured_divergence
from squeeze.packing.target import contents_of
from squeeze.packing.tune.student import Student
from squeeze.ranks.connect import connected
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT
from squeeze.score.modes import Mode
from squeeze.subject.workpiece import Workpiece
from squeeze.submit import entry
from squeeze.submit.script import own_script
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, python_docs_text, train_tokenizer

# squeeze where it is not installed: from the source folders
STARTER = f"""
import importlib.util, sys
if importlib.util.find_spec("squeeze") is None:
    sys.path.insert(0, {str(ROOT)!r})
    import squeeze
    squeeze.__path__.append({str(ROOT)!r})
from squeeze.cli import main
main()
"""


@contextmanager
def inputs(setting: Setting, vocab: int) -> Iterator[Path]:
    """Yield a folder with a tokenizer and shards of Python's documentation."""
    texts = python_docs_text()[: 60 if setting.rehearsal else None]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_tokenizer(texts, vocab, folder / "tokenizer.model")
        tokens = encode_documents(texts, folder / "tokenizer.model")
        write_shard(folder / "fineweb_train_000000.bin", tokens)
        write_shard(folder / "fineweb_val_000000.bin", tokens[: 1 << 16])
        yield folder


def started(command: list[Any], folder: Path, setting: Setting, **environment: str) -> str:
    """Return what a command prints; raises RuntimeError with the end of its errors."""
    if setting.rehearsal:
        environment = {**environment, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500 if setting.rehearsal else 240,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-350:])
    return done.stdout


def commands(setting: Setting) -> Figures:
    """Run README's lines for GPUs: what it runs under torchrun, a process for each GPU."""
    preset = setting.preset("baseline", 65_536)
    vocab = 512 if setting.rehearsal else 1024
    config = replace(preset.model, vocab_size=vocab)
    count = torch.cuda.device_count() if setting.device.type == "cuda" else 1
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    length = "--steps 3" if setting.rehearsal else "--budget-seconds 20"
    tokens, limit, targets = (
        (256, 30_000, 200) if setting.rehearsal else (32_768, 8_000_000, 20_000)
    )
    lines = (
        "train --preset baseline --config config.json --data fineweb_train_*.bin"
        f" --tokenizer tokenizer.model --set batch_tokens={preset.recipe.batch_tokens} {length}"
        " -o model.safetensors",
        f"calibrate model.safetensors --tokens {tokens} --precision bf16 -o model.sqz.cache",
        f"pack model.safetensors --preset fast --tokens {tokens} --limit {limit}"
        " --precision bf16 -o model.sqz",
        "eval model.sqz --mode sliding --tokenizer tokenizer.model"
        f" --val fineweb_val_000000.bin --tokens {targets} --precision bf16 --json",
    )
    seconds, printed = {}, ""
    with inputs(setting, vocab) as folder:
        (folder / "squeeze_here.py").write_text(STARTER)
        (folder / "config.json").write_text(config.to_json())
        for line in lines:
            began = time.perf_counter()
            printed = started([*torchrun, "squeeze_here.py", *line.split()], folder, setting)
            seconds[f"{line.split()[0]}_seconds"] = round(time.perf_counter() - began, 1)
        size = (folder / "model.sqz").stat().st_size
    report = json.loads(printed[printed.index("{") :])
    return {"processes": count, "bpb": report["bpb"], "bytes": size, **seconds}, {"bpb": 12.0}


def script(setting: Setting) -> Figures:
    """Run train_gpt.py for 15 seconds through training, packing and scoring."""
    preset = setting.preset("baseline", 65_536)
    vocab = 512 if setting.rehearsal else 1024
    config = replace(preset.model, vocab_size=vocab)
    small: dict[str, int] = {}
    if setting.rehearsal:  # its kernels run as plain Python there
        config = replace(config, num_layers=2)
        small = {"STATES": 4, "SCOUT_STATES": 4, "CALIBRATION_TOKENS": 128, "QUANTIZED": 256}
    with inputs(setting, vocab) as folder:
        options = BundleOptions(forms=("plain",), minified=False, constants=small)
        made = own_script(vars(config), vars(preset.recipe), 16_000_000, Mode(), options)
        path = folder / "train_gpt.py"
        path.write_bytes(made.shipped.data)
        environment = {"DATA_PATH": str(folder), "SEED": "0"}
        environment["TOKENIZER_PATH"] = str(folder / "tokenizer.model")
        limits: list[Any] = ["--seconds", 15, "--tokens", 2000]
        if setting.rehearsal:
            environment["NUMBA_DISABLE_JIT"] = "1"
            room = len(made.shipped.data) + 14_000
            limits = ["--steps", 3, "--tokens", 200, "--limit", room]
        printed = started([path, *limits], folder, setting, **environment)
    facts = json.loads(printed.splitlines()[-1])
    clock = {row["stage"]: round(row["seconds"], 2) for row in facts["clock"]}
    return {"bpb": facts["bpb"], "bytes": facts["bytes_total"], "clock": clock}, {"bpb": 12.0}


def pack(setting: Setting) -> Figures:
    """Collect Hessians of a model of 36M weights and pack it as the script of a submission does."""
    config = setting.preset("record-1493").model
    model = lively(config, torch.device("cpu"))
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    if setting.rehearsal:
        entry.CALIBRATION_TOKENS = 128
        entry.STATES = 4
    limit = max(config.num_params * 7 // 16, 20_000)
    seconds: dict[str, float] = {}
    began = setting.wait()
    with (
        timed(entry, "generate", seconds, setting),
        timed(entry.InputSums, "hessians", seconds, setting),
        timed(entry, "collect_gradients", seconds, setting),
        timed(entry, "fit", seconds, setting),
    ):
        data = entry.pack(config, weights, 0, limit, Ranks(device=setting.device))
    return {
        "bytes": len(data),
        "bytes_over": max(0, len(data) - limit),
        "stage_seconds": seconds,
        "pack_seconds": round(setting.wait() - began, 1),
    }, {"bytes_over": 0, "pack_seconds": 200.0}


def tune(setting: Setting) -> Figures:
    """Let `baseline` learn around mlps of one bit, on the CPU and on the device, and time updates."""
    piece = Workpiece.of_module(lively(setting.preset("baseline").model, torch.device("cpu")))
    figures: dict[str, Any] = {}
    steps, tokens = (2, 64) if setting.rehearsal else (8, 2048)
    for name in ("cpu", "device"):
        device = setting.device if name == "device" else torch.device("cpu")
        calibration = Calibration(source="random", tokens=8 * tokens)
        with connected(device), tempfile.TemporaryDirectory() as folder:
            calibrated = calibrate(piece, calibration, Path(folder))
        contents = contents_of(piece, calibrated.layout, "fp16")
        student = Student(piece, calibrated, contents, "fp16")
        student.round_({n: one_bit(w) for n, w in contents.matrices.items() if ".mlp." in n})
        began = setting.wait()
        learnt = student.learn_(Course(steps, tokens), 4.0, SILENT)  # fp32 on both
        figures[f"{name}_ms_per_update"] = round(1e3 * (setting.wait() - began) / steps, 1)
        figures[f"{name}_nats"] = learnt.first, learnt.last
        figures[f"{name}_cost"] = measured_divergence(
            calibrated.subject, student.subject, calibrated.text
        ).mean
    figures["away"] = abs(figures["device_cost"] / figures["cpu_cost"] - 1)
    return figures, {"away": 0.02}


def one_bit(weights: Float32) -> RawTensor:
    """Return a matrix whose entries have one size and the signs of others."""
    values = np.where(weights < 0, -1, 1).astype(np.float32) * np.abs(weights).mean()
    return RawTensor(to_bits(values, "fp32"), "fp32", "fp32")


@contextmanager
def timed(owner: Any, name: str, seconds: dict[str, float], setting: Setting) -> Iterator[None]:
    """Note the seconds of each call of a function of a module or class inside."""
    function = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        began = setting.wait()
        result = function(*args, **options)
        seconds[name] = round(setting.wait() - began, 2)
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, function)


RUNS: dict[str, Callable[[Setting], Figures]] = {
    "commands": commands,
    "script": script,
    "pack": pack,
    "tune": tune,
}
