"""Second moments of layer inputs: right sums, shared, resumable, refused when not numbers."""

from __future__ import annotations

import copy
import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from squeeze.calib.statistics import collect as collect_module
from squeeze.calib.statistics import inputs as inputs_module
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.hessian import Hessians
from squeeze.calib.text.sources import Corpus, Sequences
from squeeze.errors import BadCheckpoint, CorruptData
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.recorder import Recorder, Stage
from tests.tapping import tapped

LOOPED = ModelConfig(50, 2, 24, 2, 1, 40, layer_schedule=(0, 1, 0, 1, 1))
UNTIED = ModelConfig(50, 2, 24, 2, 1, 40, tie_embeddings=False)


@functools.cache
def model(config: ModelConfig = LOOPED) -> GPT:
    built, generator = GPT(config), torch.Generator().manual_seed(5)
    for weight in built.parameters():
        scale = weight.size(-1) ** -0.5 if weight.dim() == 2 else 1.0
        weight.data = torch.randn(weight.shape, generator=generator) * scale
    return built.requires_grad_(False)


def text(count: int = 13, length: int = 20) -> Sequences:
    tokens = np.random.default_rng(1).integers(0, 50, count * length).astype(np.uint16)
    return Corpus(tokens, "text", 50).draw(count * length, length)


def naive(model: GPT, text: Sequences) -> dict[str, np.ndarray]:
    """Σ x xᵀ / tokens in float64, one sequence at a time."""
    sums: dict[str, torch.Tensor] = {}

    def add(name: str, x: torch.Tensor) -> None:
        x = x.flatten(0, -2).double()
        sums[name] = sums.get(name, 0) + x.T @ x

    hooks = [
        layer.register_forward_pre_hook(lambda _, args, n=name: add(f"{n}.weight", args[0]))
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    head = "tok_emb.weight" if model.config.tie_embeddings else "lm_head.weight"
    for row in text.ids:
        add(head, model.hidden(torch.from_numpy(row.astype(np.int64))[None]))
    for hook in hooks:
        hook.remove()
    means = {name: (total / text.tokens).numpy() for name, total in sums.items()}
    return {
        "tok_emb.weight": np.eye(model.config.model_dim),
        **means,
    }  # an untied table is looked up


@pytest.mark.parametrize("config", [LOOPED, UNTIED])
def test_hessians_are_the_mean_outer_products_over_all_passes(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "BLOCK", 64)
    found, wanted = collect(tapped(model(config)), text()), naive(model(config), text())
    assert found.matrices.keys() == wanted.keys() and found.tokens == 260
    for name, matrix in found.matrices.items():
        assert matrix.dtype == np.float32 and np.array_equal(matrix, matrix.T)
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(matrix, wanted[name], atol=1e-5 * scale, rtol=1e-4)


def test_every_matrix_has_one_and_layers_of_one_input_share_it() -> None:
    matrices = collect(tapped(model()), text()).matrices
    shapes = LOOPED.parameter_shapes()
    quantized = {name for name, shape in shapes.items() if len(shape) == 2}
    small = {name for name in quantized if name.endswith(("resid_mix", "skip_weights"))}
    assert matrices.keys() == quantized - small
    assert all(matrix.shape == (shapes[name][1],) * 2 for name, matrix in matrices.items())
    attention = [matrices[f"blocks.1.attn.{leaf}.weight"] for leaf in ("c_q", "c_k", "c_v")]
    assert all(matrix is attention[0] for matrix in attention)
    assert len({id(matrix) for matrix in matrices.values()}) == 2 * 4 + 1


class Stop(Exception):
    """Stands for a kill between two blocks."""


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "BLOCK", 40)
    monkeypatch.setattr(collect_module, "SAVE_EVERY", -1.0)
    path, whole = tmp_path / "h.safetensors", collect(tapped(model()), text(), key="w")

    def stop_after(tokens: int) -> None:
        class Stopping(Recorder):
            def advance(self, n: float = 1) -> None:
                super().advance(n)
                if sum(self.stages[-1].counts) > tokens:
                    raise Stop

        with pytest.raises(Stop):
            collect(tapped(model()), text(), path=path, key="w", reporter=Stopping())

    stop_after(100)
    assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    stop_after(200)
    recorder = Recorder()
    resumed = collect(tapped(model()), text(), path=path, key="w", reporter=recorder)
    assert recorder.stages == [Stage("Hessians", 260, "tokens", [200, 40, 20])]
    assert all(np.array_equal(whole.matrices[n], resumed.matrices[n]) for n in whole.matrices)
    assert list(tmp_path.iterdir()) == [path]
    again = collect(tapped(model()), text(), path=path, key="w", reporter=recorder)
    assert len(recorder.stages) == 1  # read, not collected
    assert all(np.array_equal(whole.matrices[n], again.matrices[n]) for n in whole.matrices)


def test_sums_of_other_weights_or_other_text_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "h.safetensors"
    collect(tapped(model()), text(), path=path, key="old weights")
    other = collect(tapped(model()), text(8), path=path, key="old weights")
    assert other.tokens == 160
    recorder = Recorder()
    collect(tapped(model()), text(8), path=path, key="new weights", reporter=recorder)
    assert recorder.stages == [Stage("Hessians", 160, "tokens", [0, 160])]


def test_a_saved_file_loads_back_and_a_damaged_one_is_collected_anew(tmp_path: Path) -> None:
    path, made = tmp_path / "h.safetensors", collect(tapped(model()), text())
    made.save(path, "k")
    loaded = Hessians.load(path, "k")
    assert (loaded.tokens, loaded.source) == (260, "text")
    assert all(np.array_equal(made.matrices[n], loaded.matrices[n]) for n in made.matrices)
    names = [f"blocks.0.attn.{leaf}.weight" for leaf in ("c_q", "c_k")]
    assert loaded.matrices[names[0]] is loaded.matrices[names[1]]
    with pytest.raises(CorruptData, match="of other weights, text or settings"):
        Hessians.load(path, "another")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptData, match="not a file of named arrays"):
        Hessians.load(path, "k")
    assert collect(tapped(model()), text(), path=path).tokens == 260


def test_a_pipe_is_no_file_of_hessians(tmp_path: Path) -> None:
    """Opening it would wait for its writer."""
    path = tmp_path / "h.safetensors"
    os.mkfifo(path)
    with pytest.raises(CorruptData, match="no file"):
        Hessians.load(path, "k")


def test_activations_that_are_not_numbers_are_refused_by_the_layer_s_name() -> None:
    broken = copy.deepcopy(model())
    broken.blocks[1].mlp.fc.weight[3, 3] = float("nan")
    with pytest.raises(BadCheckpoint, match=r"the input of blocks\.1\.mlp\.proj\.weight is not"):
        collect(tapped(broken), text())
    assert not any(module._forward_pre_hooks for module in broken.modules())


def test_a_matrix_that_the_forward_never_reads_keeps_floats_and_is_named() -> None:
    idle = copy.deepcopy(model())
    idle.blocks[0].spare = torch.nn.Linear(4, 4)
    layout = tapped(idle).layout
    assert layout.floats["blocks.0.spare.weight"] == "never used"
    assert "blocks.0.spare.weight" not in collect(tapped(idle), text()).matrices


def test_no_hooks_stay_on_the_model() -> None:
    collect(tapped(model()), text())
    assert not any(module._forward_pre_hooks for module in model().modules())
