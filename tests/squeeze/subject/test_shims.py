"""Kernels that a machine lacks, replaced by what they compute, or refused when they are called."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch
from torch import Tensor

from squeeze.errors import SqueezeError
from squeeze.subject.script import load_script
from squeeze.subject.shims import flash_attn_func, flash_attn_varlen_func, shimmed
from squeeze.train.model.attention import plain_attention

PROGRAM = """
import torch
from torch import nn
from flash_attn_interface import flash_attn_func as attention
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

@triton.autotune(configs=[triton.Config({})], key=["n"])
@triton.jit
def doubling(x, y, n: tl.constexpr):
    pass

class Model(nn.Module):
    kernel = False
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(16, 16)
    def forward(self, ids):
        x = self.emb(ids)
        q = x.unflatten(-1, (2, 8))
        y = attention(q, q, q, causal=True).flatten(2)
        if self.kernel:
            doubling[(1,)](x, y, 3)
        return y @ self.emb.weight.T

class Launching(Model):
    kernel = True

length = 16
"""


@pytest.fixture(autouse=True)
def _no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide Triton where it is installed."""
    find = PathFinder.find_spec
    hidden = [name for name in sys.modules if name.partition(".")[0] == "triton"]
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(
        PathFinder, "find_spec", lambda name, *rest: None if name == "triton" else find(name, *rest)
    )


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [-1, 3])
def test_flash_attention_is_softmax_attention(window: int) -> None:
    q, k, v = some(2, 9, 4, 8), some(2, 9, 2, 8, seed=1), some(2, 9, 2, 8, seed=2)
    at = torch.arange(9)
    mask = at[None, :] <= at[:, None]
    if window >= 0:
        mask &= at[None, :] >= at[:, None] - window
    expected = plain_attention(*(x.transpose(1, 2) for x in (q, k, v)), mask[None])
    mixed = flash_attn_func(q, k, v, causal=True, window_size=(window, 0 if window >= 0 else -1))
    torch.testing.assert_close(mixed, expected.transpose(1, 2))
    assert flash_attn_func(q.bfloat16(), k, v, causal=True).dtype == torch.bfloat16


def test_sequences_of_varying_length_do_not_see_one_another() -> None:
    q, k, v = some(9, 4, 8), some(9, 2, 8, seed=1), some(9, 2, 8, seed=2)
    bounds = torch.tensor([0, 4, 9, 9], dtype=torch.int32)
    mixed = flash_attn_varlen_func(q, k, v, bounds, bounds, 5, 5, causal=True)
    for begin, end in ((0, 4), (4, 9)):
        alone = flash_attn_func(*(x[None, begin:end] for x in (q, k, v)), causal=True)[0]
        torch.testing.assert_close(mixed[begin:end], alone)


def test_a_capped_score_is_capped() -> None:
    q, k, v = some(1, 5, 2, 8) * 9, some(1, 5, 2, 8, seed=1) * 9, some(1, 5, 2, 8, seed=2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * 8**-0.5
    scores = (5.0 * torch.tanh(scores / 5.0)).masked_fill(
        torch.ones(5, 5).triu(1).bool(), -torch.inf
    )
    expected = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v)
    torch.testing.assert_close(flash_attn_func(q, k, v, causal=True, softcap=5.0), expected)


def test_a_script_runs_with_kernels_replaced_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM)
    with pytest.raises(SqueezeError, match=r"flash_attn_interface, which is not installed.*--shim"):
        load_script(f"{path}:Model")
    model = load_script(f"{path}:Model", shim=True)
    notes = " ".join(model.notes)
    assert "flash_attn_interface is not installed, replaced by exact softmax attention" in notes
    assert "triton is not installed, replaced by nothing" in notes
    assert "flash_attn_interface" not in sys.modules


def test_a_script_that_unpacks_itself_gets_them_too(tmp_path: Path) -> None:
    path = tmp_path / "packed.py"
    path.write_text(f"exec({PROGRAM!r})")
    assert "replaced by exact" in " ".join(load_script(f"{path}:Model", shim=True).notes)


def test_libraries_do_not_find_shims_of_what_they_can_do_without(tmp_path: Path) -> None:
    notes: list[str] = []
    with shimmed(notes, tmp_path), pytest.raises(ModuleNotFoundError):
        import nothing_of_that_name  # noqa: F401
    assert notes == []


def test_nor_do_those_of_an_environment_in_the_folder_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, script = tmp_path / ".venv" / "lib", "import nothing_of_that_name\n"
    library.mkdir(parents=True)
    (library / "choosy.py").write_text(script)
    (tmp_path / "model.py").write_text(script)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"purelib": str(library)})
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.syspath_prepend(str(tmp_path))
    with shimmed([], tmp_path):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("choosy")
        importlib.import_module("model")


def test_a_kernel_without_an_equivalent_is_refused_when_it_is_launched(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM)
    with pytest.raises(SqueezeError, match="the kernel doubling has no equivalent here"):
        load_script(f"{path}:Launching", shim=True)
