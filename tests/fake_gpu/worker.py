"""All that a GPU computes, on a fake one whose operations check devices, dtypes and shapes.

Started by `tests.fake_gpu.run`. Prints a line of JSON for each preset.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from squeeze.calib.statistics.divergence import Categorical
from squeeze.calib.statistics.fisher import GradientSums
from squeeze.calib.statistics.inputs import InputSums
from squeeze.calib.statistics.probed import probed
from squeeze.calib.text.sources import Sequences
from squeeze.calib.tuning.distil import Course
from squeeze.files import scratch_folder
from squeeze.packing import calibrate as calibrating
from squeeze.packing import costs, target
from squeeze.packing.calibrate import Calibrated, Calibration
from squeeze.packing.quantizer import Contents
from squeeze.packing.recipe import contents_of
from squeeze.packing.tune.student import Student
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT
from squeeze.subject.units import ordered
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data import loader
from squeeze.train.model import attention
from squeeze.train.model.cache import Cache
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import PRESETS
from squeeze.train.run.trainer import Trainer
from tests.tiny_models import NARROW

GPU = torch.device("cuda", 0)


class Flash(types.ModuleType):
    """FlashAttention-3 by its signature: it reads q, k, v and bounds on the GPU, in 16 bits."""

    def flash_attn_func(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return self.mixed(q, k, v)

    def flash_attn_varlen_func(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        for name in ("cu_seqlens_q", "cu_seqlens_k"):
            bounds = options[name]
            assert bounds.device == GPU and bounds.dtype == torch.int32, (name, bounds)
        assert isinstance(options["max_seqlen_q"], int)
        return self.mixed(q, k, v)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return something of the shape of q that depends on all."""
        assert {q.device, k.device, v.device} == {GPU}
        assert {q.dtype, k.dtype, v.dtype} == {torch.bfloat16}
        group = q.size(-2) // k.size(-2)
        return q * k.repeat_interleave(group, -2) + v.repeat_interleave(group, -2)


def prepare() -> None:
    """Put answers in the place of what reads numbers off the GPU, which fake tensors do not have."""
    attention.flash = Flash("flash_attn_interface")
    hopper = types.SimpleNamespace(major=9, minor=0)
    torch.cuda.get_device_properties = lambda device: hopper  # type: ignore[assignment]
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign, assignment]
    FakeTensor.__bool__ = lambda self: True  # type: ignore[method-assign, assignment]
    FakeTensor.__float__ = lambda self: 1.0  # type: ignore[method-assign, assignment]
    FakeTensor.__int__ = lambda self: 1  # type: ignore[method-assign, assignment]
    torch.equal = alike  # type: ignore[assignment]
    FakeTensor.numpy = to_array  # type: ignore[method-assign, assignment]
    FakeTensor.tolist = lambda self: [True] * self.numel()  # type: ignore[method-assign]
    attention.document_bounds = bounds  # type: ignore[assignment]
    # autocast asks for a real one
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_, **__: True
    Cache._replay = lambda self, ids: self.model(ids, self)  # type: ignore[method-assign]
    loader.ThreadPoolExecutor = Now  # type: ignore[misc, assignment]
    torch.nn.Module._apply = applied  # type: ignore[method-assign, assignment]


def to_array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return zeros for a tensor of the CPU, which alone gives an array."""
    assert tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return np.zeros(tensor.shape, np.float32)


def alike(one: Tensor, other: Tensor) -> bool:
    """Return True for tensors of one shape, which must be in one place."""
    assert one.device == other.device
    return one.shape == other.shape


def applied(module: torch.nn.Module, function: Any, recurse: bool = True) -> torch.nn.Module:
    """Do as `Module._apply`, which swaps tensors in place and refuses where they are fake."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                other = function(weight.detach())
                part._parameters[name] = torch.nn.Parameter(other, weight.requires_grad)
    return module


def bounds(starts: Tensor) -> Tensor:
    """Return bounds of some documents: fake tensors do not know how many there are."""
    assert starts.device.type == "cpu"
    return torch.arange(64, dtype=torch.int32)


class Now:
    """A pool that works at once: other threads have no fake tensors."""

    def __init__(self, threads: int) -> None:
        pass

    def submit(self, function: Any, *args: Any) -> Any:
        result = function(*args)
        return types.SimpleNamespace(result=lambda: result)


def train(name: str) -> dict[str, Any]:
    """Take steps of a preset, repetition off and on; return the devices of what there is then."""
    recipe = PRESETS[name].recipe
    fields = {**vars(recipe), "batch_tokens": 64, "recurrence_start": 0.5}
    fields |= {"packed_rows": min(recipe.packed_rows, 2), "recurrence_step": 0, "qat_start": 0.7}
    fields |= {"average": "ema", "average_start": 0.0, "grad_clip": 1.0}
    tokens = np.random.default_rng(0).integers(0, 61, 2000).astype(np.uint16)
    trainer = Trainer(NARROW[name], [tokens], Recipe(**fields), 0, Ranks(device=GPU))
    devices: dict[str, set[str]] = {"loss": set(), "gradients": set()}
    for weight in trainer.model.parameters():
        weight.register_post_accumulate_grad_hook(
            lambda weight: devices["gradients"].add(str(weight.grad.device))
        )
    for progress in (0.1, 0.8):
        loss, norm = trainer.step(progress)
        devices["loss"] |= {str(loss.device), str(norm.device)}
    devices["weights"] = {str(weight.device) for weight in trainer.model.parameters()}
    state = trainer.optimizer.snapshot() | trainer.average.snapshot()
    devices["state"] = {str(tensor.device) for tensor in state.values()}
    devices["host"] = {str(weight.device) for weight in trainer.weights().values()}
    return {key: sorted(names) for key, names in devices.items()}


def calibrate(name: str) -> dict[str, list[str]]:
    """Write tokens behind a cache and collect the statistics of a preset's model."""
    model = GPT(NARROW[name]).to(GPU).eval().requires_grad_(False)
    cache = Cache(model, 2, 16)
    ids = torch.ones(2, 3, dtype=torch.int64, device=GPU)
    logits = [cache.step(ids), cache.step(ids[:, :1])]
    text = Sequences(np.ones((4, 16), np.uint16), "ones")
    tapped = probed(model, lambda module, ids: module(ids), ids)
    hessians, gradients = InputSums(tapped, text), GradientSums(tapped)
    assert sum(hessians.adding()) == 64
    with tapped.replicas(gradients.trained)() as replica:
        whole = torch.ones(2, 16, dtype=torch.int64, device=GPU)
        gradients.add_block_(replica, whole, Categorical(), torch.Generator())
    results = {
        "logits": logits,
        "hessians": hessians.total.tensors(),
        "output gradients": gradients.tensors(),
    }
    return {key: sorted({str(t.device) for t in tensors}) for key, tensors in results.items()}


def small_pack(name: str, folder: Path) -> tuple[Workpiece, Calibrated, Contents]:
    """Return a preset's model, its calibration and what is to be rounded, all real and on the CPU."""
    target.QUANTIZED = 512  # type: ignore[attr-defined]
    piece = Workpiece.of_module(GPT(NARROW[name]))
    calibrated = calibrating.calibrate(piece, Calibration(source="random", tokens=64), folder)
    return piece, calibrated, contents_of(piece, calibrated.layout, "fp16")


def tune(piece: Workpiece, calibrated: Calibrated, contents: Contents) -> dict[str, list[str]]:
    """Let a model learn around its first rounded matrix, and measure what that costs."""
    calibrated.subject.module.to(GPU)
    student = Student(piece, calibrated, contents, "fp16")
    first, values = next(iter(contents.matrices.items()))
    rounded = {first: RawTensor(to_bits(values, "fp32"), "fp32", "fp32")}
    student.round_(rounded)
    student.answers.text = replace(student.answers.text, source="shards")
    assert student.label_share(1.5) > 0
    learnt = student.learn_(Course(2, 32), 1.5, SILENT)
    assert learnt.first == 1.0 / 32  # a fake tensor gives 1 for a number
    hessians = student.hessians()
    assert hessians and first not in hessians
    student.take_(student.weights)
    assert student.updated(contents).matrices.keys() == contents.matrices.keys()
    measured = costs.measured_divergence(calibrated.subject, student.subject, calibrated.text)
    assert measured.mean > 0
    version = costs.Quantization(rounded, {first: 2.0}, {first: 0.1})
    assert len(costs.role_costs(piece, calibrated, (version, version))) == 1
    ids = torch.ones(1, 16, dtype=torch.int64, device=GPU)
    moved = ordered(piece, calibrated.layout, ids)
    assert moved is not None and moved[0].subject.device == GPU
    tensors = [*student.parameters.values(), *student.answers.kept.values()]
    return {"student": sorted({str(tensor.device) for tensor in tensors})}


def main(names: list[str]) -> None:
    """Run presets and print the devices of everything that is left."""
    for name in names or list(NARROW):
        with scratch_folder("fake-gpu") as folder:
            packed = small_pack(name, folder)
        prepare()
        with FakeTensorMode(allow_non_fake_inputs=True):
            facts = {**train(name), **calibrate(name), **tune(*packed)}
        print(json.dumps({"preset": name, **facts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
