"""Scripts that are named by --model: what they may look like, and how each broken one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from squeeze.errors import SqueezeError
from squeeze.subject.script import load_script
from squeeze.subject.subject import Subject
from squeeze.subject.whole import WholeForward

SUBJECTS = Path(__file__).parents[2] / "subjects"
HEAD = "import torch\nfrom torch import nn, Tensor\nimport torch.nn.functional as F\n"
MODEL = """
class Model(nn.Module):
    def __init__(self, vocab_size=16, width=8):
        super().__init__()
        self.emb = nn.Embedding(vocab_size, width)
        self.head = nn.Linear(width, vocab_size)
    def forward(self, ids):
        return self.head(self.emb(ids))
"""


def script(folder: Path, text: str) -> str:
    path = folder / "model.py"
    path.write_text(HEAD + text)
    return str(path)


BROKEN = {
    "class Model(": ("Model", "line 4 is no Python"),
    "raise ValueError('no\\nway')": ("Model", "cannot be imported: ValueError: no"),
    "import sys; sys.exit(3)": ("Model", "cannot be imported: SystemExit: 3"),
    "import nothing_of_that_name": (
        "Model",
        "imports nothing_of_that_name, which is not installed",
    ),
    MODEL: ("Other", "has no Other"),
    MODEL + "made = 3": ("made", "made is no class or function"),
    MODEL + "def build(): return 3": ("build", "build returns no module"),
    MODEL + "def build(width): return Model()": ("build", "build needs arguments; found width"),
    MODEL + "def build(): return Model().to('cuda')": (
        "build",
        r"build\(\) fails: .*Build the model",
    ),
    MODEL + "def build(): raise RuntimeError('Found no NVIDIA driver on your system.')": (
        "build",
        r"build\(\) fails: .*Build the model",
    ),
    MODEL + "w = torch.ones(3, requires_grad=True)\nfor _ in range(9): w.sum().backward()": (
        "Model",
        "trains when it is imported",
    ),
    MODEL.replace("return self.head(self.emb(ids))", "return (ids, 3)"): (
        "Model",
        "returns no logits; expected floats",
    ),
    MODEL.replace("return self.head(self.emb(ids))", "return {}"): ("Model", "returns no logits"),
    MODEL.replace("return self.head(self.emb(ids))", "return self.head(self.emb(ids)) / 0 * 0"): (
        "Model",
        "logits are not numbers",
    ),
    MODEL.replace("return self.head", "return self.tail"): (
        "Model",
        "forward fails: AttributeError",
    ),
    MODEL.replace("(self, ids)", "(self, ids, targets, blocks)"): (
        "Model",
        "asks for more than squeeze knows",
    ),
    MODEL.replace("(self, ids)", "(self, ids, targets)"): ("Model", "shows no logits"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_script_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    name, message = BROKEN[text]
    with pytest.raises(SqueezeError, match=message) as refused:
        load_script(f"{script(tmp_path, text)}:{name}")
    assert "\n" not in str(refused.value) and "model.py" in str(refused.value)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(SqueezeError, match=r"expected FILE\.py:NAME, found model:GPT"):
        load_script("model:GPT")


def test_backward_works_again_after_a_script() -> None:
    load_script(str(SUBJECTS / "decoders.py") + ":Banks")
    weight = torch.ones(3, requires_grad=True)
    weight.sum().backward()
    assert weight.grad is not None


def test_prints_of_a_script_do_not_reach_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_script(script(tmp_path, MODEL + "print('loading')\ndef build(): return Model()"))
    captured = capsys.readouterr()
    assert captured.out == "" and "loading" in captured.err


def test_a_script_may_say_its_window_its_bos_and_its_logits(tmp_path: Path) -> None:
    text = MODEL + (
        "length, bos = 48, 1\ndef build(): return Model()\n"
        "def logits(module, ids): return module(ids) * 2\n"
    )
    model = load_script(script(tmp_path, text))
    assert (model.length, model.bos, model.vocab_size, model.notes) == (48, 1, 16, ())
    ids = torch.tensor([[3, 4]])
    assert torch.equal(model.logits(ids), (model.module(ids) * 2).detach())
    assert model.identity["kind"] == "script" and model.identity["file"] == "model.py"


def test_a_window_that_nobody_tells_is_noted(tmp_path: Path) -> None:
    path = script(tmp_path, MODEL)
    assert "1024 tokens assumed" in " ".join(load_script(f"{path}:Model").notes)
    assert load_script(f"{path}:Model", length=64).notes == ()


def test_arguments_come_from_the_script_s_own_settings(tmp_path: Path) -> None:
    text = MODEL.replace("vocab_size=16, width=8", "vocab_size, width=8")
    text += "class Hyperparameters:\n    vocab_size, width, train_seq_len = 24, 12, 64\n"
    model = load_script(f"{script(tmp_path, text)}:Model")
    assert model.vocab_size == 24 and model.module.head.in_features == 12
    assert "arguments from the script's Hyperparameters: vocab_size" in " ".join(model.notes)


@pytest.mark.parametrize("name", ["Baseline", "FusedQkv", "HalfPrecision"])
def test_logits_are_float32_of_every_token(name: str) -> None:
    model = load_script(f"{SUBJECTS / 'decoders.py'}:{name}")
    logits = model.logits(torch.randint(0, 256, (2, 9)))
    assert logits.shape == (2, 9, 256) and logits.dtype == torch.float32


def test_the_loss_of_a_forward_must_be_that_of_its_logits(tmp_path: Path) -> None:
    text = MODEL.replace("(self, ids)", "(self, ids, targets)").replace(
        "return self.head(self.emb(ids))",
        "return F.cross_entropy(self.head(self.emb(ids)).flatten(0, 1), targets.flatten()) + 0.5",
    )
    with pytest.raises(SqueezeError, match="loss is not the cross-entropy of its logits"):
        load_script(f"{script(tmp_path, text)}:Model")


def test_a_forward_of_mixed_dtypes_runs_under_autocast(tmp_path: Path) -> None:
    text = MODEL.replace("self.head(self.emb(ids))", "self.head(self.emb(ids).bfloat16()).float()")
    model = load_script(f"{script(tmp_path, text)}:Model")
    assert "under autocast to bfloat16" in " ".join(model.notes)
    assert model.logits(torch.tensor([[1, 2]])).dtype == torch.float32


def test_copies_with_other_weights_leave_the_model_alone() -> None:
    model = load_script(f"{SUBJECTS / 'decoders.py'}:Baseline")
    weights = {"tok_emb.weight": model.module.tok_emb.weight.detach().numpy() * 2}
    before = model.logits(torch.tensor([[1, 2, 3]]))
    other = model.with_weights(weights)
    assert not torch.equal(other.logits(torch.tensor([[1, 2, 3]])), before)
    assert torch.equal(model.logits(torch.tensor([[1, 2, 3]])), before)
    assert other.module.blocks[0].c_q.weight is model.module.blocks[0].c_q.weight


def test_whole_forwards_step_as_a_cache_does() -> None:
    model = load_script(f"{SUBJECTS / 'decoders.py'}:Banks")
    ids = torch.randint(0, 256, (2, 7))
    cache = model.new_cache(2, 7)
    steps = torch.cat([cache.step(ids[:, :3]), cache.step(ids[:, 3:])], 1)
    torch.testing.assert_close(steps, model.logits(ids))


def test_a_live_module_of_our_own_is_a_subject_like_any_other() -> None:
    from squeeze.train.model.config import ModelConfig
    from squeeze.train.model.gpt import GPT

    module = GPT(ModelConfig(50, 2, 24, 2, 1, 40, seq_len=16))
    model = Subject.of_module(module)
    assert (model.vocab_size, model.length) == (50, 16)
    assert torch.equal(model.logits(torch.tensor([[1, 2]])), module(torch.tensor([[1, 2]])))


def test_annotations_of_a_script_are_what_it_wrote(tmp_path: Path) -> None:
    text = MODEL + (
        "import dataclasses\n@dataclasses.dataclass\nclass Settings:\n    width: int = 8\n"
        "width = dataclasses.fields(Settings)[0].type('12')\n"
        "def build(): return Model(width=width)\n"
    )
    assert load_script(script(tmp_path, text)).module.head.in_features == 12


def test_a_script_gets_no_arguments_of_the_command_and_no_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["squeeze", "eval", "--width", "4"])
    text = MODEL + (
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--width', type=int, default=8)\n"
        "width = parser.parse_args().width\ndef build(): return Model(width=width)\n"
    )
    assert load_script(script(tmp_path, text)).module.head.in_features == 8
    with pytest.raises(SqueezeError, match="EOFError"):
        load_script(script(tmp_path, MODEL + "input('go on?')\n"))


def test_settings_of_a_script_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = MODEL + (
        "import os\nos.chdir('/')\ntorch.set_default_dtype(torch.bfloat16)\n"
        "torch.set_grad_enabled(False)\ntorch.set_float32_matmul_precision('medium')\n"
        "torch.set_default_device('cpu')\n"
    )
    load_script(f"{script(tmp_path, text)}:Model")
    assert Path.cwd() == tmp_path and torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"


def test_prints_of_a_forward_do_not_reach_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MODEL.replace("        return", "        print('forward')\n        return")
    load_script(f"{script(tmp_path, text)}:Model").logits(torch.tensor([[1, 2]]))
    captured = capsys.readouterr()
    assert captured.out == "" and "forward" in captured.err


def test_a_forward_that_exits_is_refused(tmp_path: Path) -> None:
    text = MODEL.replace("        return", "        raise SystemExit(0)\n        return")
    with pytest.raises(SqueezeError, match="forward fails: SystemExit: 0"):
        load_script(f"{script(tmp_path, text)}:Model")


def test_a_train_that_returns_nothing_is_taken(tmp_path: Path) -> None:
    text = MODEL + "    def train(self, mode=True):\n        super().train(mode)\n"
    assert not load_script(f"{script(tmp_path, text)}:Model").module.training


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nn.Linear(width, vocab_size)", "nn.LazyLinear(vocab_size)", "found a lazy layer"),
        ("nn.Linear(", "nn.Linear(device='meta', in_features=", "found the meta device"),
        ("self.head(self.emb(ids))", "self.head(self.emb(ids)).softmax(-1)", "probabilities"),
        (
            "self.head(self.emb(ids))",
            "F.pad(self.head(self.emb(ids)), (0, 4), value=-torch.inf)",
            r"4 such tokens from 16 to 19.*logits \[\.\.\., :16\]",
        ),
        (
            "self.head(self.emb(ids))",
            "F.pad(self.head(self.emb(ids)), (1, 0), value=-torch.inf)",
            "1 such tokens from 0 to 0.*-1e4 in place of -inf",
        ),
    ],
)
def test_a_module_that_gives_no_logits_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    text = MODEL.replace(old, new)
    if "meta" in new:
        text = text.replace("=width, vocab_size)", "=width, out_features=vocab_size)")
    with pytest.raises(SqueezeError, match=message) as refused:
        load_script(f"{script(tmp_path, text)}:Model")
    assert "\n" not in str(refused.value)


def test_a_table_with_more_rows_than_the_outputs_does_not_hide_logits(tmp_path: Path) -> None:
    padded = MODEL.replace("(vocab_size, width)", "(20, width)")
    padded = padded.replace("nn.Linear(width, vocab_size)", "nn.Linear(width, 20)")
    padded = padded.replace("self.head(self.emb(ids))", "self.head(self.emb(ids))[..., :16]")
    hashed = MODEL.replace(
        "self.head =", "self.pairs = nn.Embedding(64, width)\n        self.head ="
    )
    hashed = hashed.replace(
        "self.head(self.emb(ids))",
        "self.head(self.pairs((F.pad(ids[:, :-1], (1, 0)) * 37 + ids) % 64) + self.emb(ids))",
    )
    for text in (padded, hashed):
        model = load_script(f"{script(tmp_path, text)}:Model")
        assert (model.vocab_size, model.hidden) == (16, False)


def test_a_model_of_buffers_alone_can_be_scored(tmp_path: Path) -> None:
    text = (
        "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('pairs', torch.arange(256.0).view(16, 16) % 7)\n"
        "    def forward(self, ids):\n        return self.pairs[ids]\n"
    )
    model, ids = load_script(f"{script(tmp_path, text)}:Model"), torch.tensor([[1, 2]])
    whole = WholeForward(model)
    assert whole.tok_emb.weight.device == model.device
    assert torch.equal(whole(ids), model.module(ids))
