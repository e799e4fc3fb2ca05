"""Weights of a file in a script's module: what runs is what the file holds, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from squeeze.errors import SqueezeError
from squeeze.packing.pack import pack_model
from squeeze.packing.request import PackRequest
from squeeze.subject.copies import check_copies
from squeeze.subject.script import load_script
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\nlength = 16\n"
BASE = """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(32, 8), nn.Linear(8, 32, bias=False)
        self.mix = nn.Linear(8, 8)
    def forward(self, ids):
        x = self.emb(ids)
        return self.head(x + torch.tanh(self.mix(x)))
"""
SUBCLASS = BASE + "class Model(Base):\n    def __init__(self):\n        super().__init__()\n"
KEPT = {
    "closure": SUBCLASS
    + """
        self.mixed = lambda x: torch.tanh(self.mix(x))
    def forward(self, ids):
        x = self.emb(ids)
        return self.head(x + self.mixed(x))
""",
    "hook": SUBCLASS
    + """
        self.emb.register_forward_hook(lambda module, ids, x: x + self.mix(x))
""",
    "alias": SUBCLASS
    + """
        self.table = self.emb.weight.data
    def forward(self, ids):
        return F.linear(F.embedding(ids, self.table), self.table)
""",
    "scripted": BASE.replace("(self, ids)", "(self, ids: torch.Tensor)")
    + "def Model(): return torch.jit.script(Base())\n",
}
TIED = SUBCLASS + "        self.head.weight = self.emb.weight\n"
NAMES = {
    "part": """
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Linear(8, 8)
    def forward(self, x):
        return x + torch.tanh(self.module(x))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.layers = nn.Embedding(32, 8), nn.ModuleList([Residual(), Residual()])
    def forward(self, ids):
        x = self.emb(ids)
        for layer in self.layers:
            x = layer(x)
        return x @ self.emb.weight.T
""",
    "front": """
class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_emb, self.lm_head = nn.Embedding(32, 8), nn.Linear(8, 32, bias=False)
        self.blocks = nn.ModuleList([nn.Linear(8, 8)])
        self.lm_head.weight.data.copy_(self.tok_emb.weight)
    def forward(self, ids):
        return self.lm_head(torch.tanh(self.blocks[0](self.tok_emb(ids))))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Inner()
    def forward(self, ids):
        return self.model(ids)
""",
    "parallel": BASE + "def Model(): return nn.DataParallel(Base())\n",
}
IDS = torch.arange(16)[None] * 7 % 32


def saved(folder: Path, text: str) -> tuple[str, nn.Module]:
    """Return the reference of a script, and its model with the weights that `weights.pt` holds."""
    path = folder / "model.py"
    path.write_text(HEAD + text)
    torch.manual_seed(1)
    module = load_script(f"{path}:Model").module
    torch.save(module.state_dict(), folder / "weights.pt")
    torch.manual_seed(2)
    return f"{path}:Model", module


def opened(folder: Path, reference: str) -> Subject:
    return ModelSource(folder / "weights.pt", reference).open().subject


@pytest.mark.parametrize(
    "text", [*KEPT.values(), TIED, *NAMES.values()], ids=[*KEPT, "tied", *NAMES]
)
def test_a_script_s_model_computes_with_the_weights_of_the_file(text: str, tmp_path: Path) -> None:
    reference, module = saved(tmp_path, text)
    with torch.no_grad():
        assert torch.equal(opened(tmp_path, reference).logits(IDS), module(IDS))


@pytest.mark.parametrize("name", KEPT)
def test_a_model_whose_copies_use_the_original_s_weights_is_not_calibrated(
    name: str, tmp_path: Path
) -> None:
    reference, module = saved(tmp_path, KEPT[name])
    subject = opened(tmp_path, reference)
    with pytest.raises(
        SqueezeError, match="copies of the model compute with weights of the original"
    ):
        check_copies(subject)
    own = module.state_dict()
    assert all(torch.equal(own[n], t) for n, t in subject.module.state_dict().items())


def test_a_model_whose_outputs_are_weights_themselves_passes() -> None:
    class Frequencies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.randn(32))

        def forward(self, ids: Tensor) -> Tensor:
            return self.logits.expand(*ids.shape, 32)

    check_copies(Subject.of_module(Frequencies()))


@pytest.mark.parametrize("text", [TIED, *NAMES.values()], ids=["tied", *NAMES])
def test_a_model_whose_copies_use_their_own_weights_passes(text: str, tmp_path: Path) -> None:
    reference, _ = saved(tmp_path, text)
    subject = opened(tmp_path, reference)
    before = subject.logits(IDS)
    check_copies(subject)
    assert torch.equal(subject.logits(IDS), before)


def test_a_tied_tensor_takes_new_weights_under_its_first_name(tmp_path: Path) -> None:
    reference, module = saved(tmp_path, TIED)
    table = module.emb.weight.detach() * 2
    other = load_script(reference).with_weights({"emb.weight": table.numpy()}).module
    assert torch.equal(other.emb.weight, table) and other.head.weight is other.emb.weight


def test_two_values_for_one_tied_tensor_are_refused(tmp_path: Path) -> None:
    reference, module = saved(tmp_path, TIED)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["head.weight"] += 1
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(SqueezeError, match="shares its memory with another in the model, not in"):
        opened(tmp_path, reference)


def test_what_the_file_does_not_hold_is_noted(tmp_path: Path) -> None:
    order = '        self.register_buffer("order", torch.arange(32))\n'
    reference, module = saved(tmp_path, SUBCLASS + order)
    state = {name: t for name, t in module.state_dict().items() if name != "order"}
    torch.save(state, tmp_path / "weights.pt")
    notes = ModelSource(tmp_path / "weights.pt", reference).open().notes
    assert "not in the file, as the script makes them: order" in notes


def test_an_artifact_run_by_another_script_than_packed_it_says_so(tmp_path: Path) -> None:
    reference, _ = saved(tmp_path, SUBCLASS)
    piece = ModelSource(tmp_path / "weights.pt", reference).open()
    pack_model(piece, PackRequest(1 << 20, "lossless")).save(tmp_path / "m.sqz")
    (tmp_path / "other.py").write_text((tmp_path / "model.py").read_text() + "# more\n")

    def notes(script: str) -> list[str]:
        opened_notes = ModelSource(tmp_path / "m.sqz", f"{tmp_path / script}:Model").open().notes
        return [note for note in opened_notes if note.startswith("packed with")]

    assert notes("model.py") == []
    (note,) = notes("other.py")
    assert note.startswith("packed with model.py:Model (") and "run with other.py:Model (" in note


def test_weights_of_another_model_are_an_error_that_names_their_file(tmp_path: Path) -> None:
    reference, module = saved(tmp_path, SUBCLASS)
    torch.save({**module.state_dict(), "more": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(SqueezeError, match=r"^weights\.pt: tensor more does not fit the model"):
        opened(tmp_path, reference)


def test_a_window_that_is_assumed_and_too_long_is_named(tmp_path: Path) -> None:
    table = "        self.at = nn.Embedding(16, 8)\n"
    forward = "    def forward(self, ids):\n        at = torch.arange(ids.size(1))\n"
    text = SUBCLASS + table + forward + "        return self.head(self.emb(ids) + self.at(at))\n"
    (tmp_path / "net.py").write_text(HEAD.replace("length = 16\n", "") + text)
    subject = load_script(f"{tmp_path / 'net.py'}:Model")
    with pytest.raises(SqueezeError, match="1,024 tokens are assumed: say how many"):
        subject.logits(torch.zeros(1, 1024, dtype=torch.int64))
    told = load_script(f"{tmp_path / 'net.py'}:Model", 16)
    with pytest.raises(SqueezeError, match=r"out of range in self$"):
        told.logits(torch.zeros(1, 1024, dtype=torch.int64))


EMPTY = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        # stands for torch.empty, which holds whatever was in memory
        self.tok_emb, self.lm_head = nn.Embedding(32, 8), nn.Linear(8, 32, bias=False)
        self.mix = nn.Parameter(torch.full((8, 8), torch.nan))
        self.lm_head.weight = nn.Parameter(torch.full((32, 8), torch.nan))
    def forward(self, ids):
        return self.lm_head(self.tok_emb(ids) @ self.mix)
"""


@pytest.mark.parametrize("front", ["", "model."])
def test_a_script_that_leaves_values_to_the_file_runs_with_those_of_the_file(
    tmp_path: Path, front: str
) -> None:
    (tmp_path / "net.py").write_text(HEAD + EMPTY)
    table, mix = torch.randn(32, 8), torch.randn(8, 8)
    # the head is the table bit by bit, which the reader of files leaves out
    tensors = {"tok_emb.weight": table, "lm_head.weight": table, "mix": mix}
    torch.save({front + name: tensor for name, tensor in tensors.items()}, tmp_path / "m.pt")
    piece = ModelSource(tmp_path / "m.pt", f"{tmp_path / 'net.py'}:Model").open()
    subject, ids = piece.subject, torch.arange(16)[None]
    assert ("model. removed from names" in piece.notes) == bool(front)
    assert torch.allclose(subject.logits(ids), (table[ids] @ mix @ table.T), atol=1e-5)
