"""Compiled parts of a model run as they are written, and the compiler is left as it was."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import torch

from squeeze.subject.eager import eager
from squeeze.subject.script import load_script

COMPILED = """
import torch
from torch import nn

def refuse(graph, inputs):
    raise ValueError("compiled")

@torch.compile(backend=refuse)
def doubled(x):
    return x * 2

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(16, 8)
    def forward(self, ids):
        return doubled(self.emb(ids)) @ self.emb.weight.T

length = 8
"""


def compiles() -> bool:
    """Return whether a compiled function reaches its backend."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))
    return bool(graphs)


def test_a_compiled_script_is_run_as_written_and_others_are_compiled_after(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(COMPILED)
    model = load_script(f"{path}:Model")
    assert model.logits(torch.tensor([[1, 2]])).shape == (1, 2, 16)
    assert compiles()


def test_threads_that_leave_in_another_order_leave_the_compiler_as_it_was() -> None:
    inside, left = threading.Event(), threading.Event()

    def first() -> None:
        with eager(load=True):
            inside.wait(60)
        left.set()

    thread = threading.Thread(target=first)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.enter_context(eager(load=True))
        inside.set()
        assert left.wait(60)
        assert not compiles()
    thread.join()
    assert compiles()
