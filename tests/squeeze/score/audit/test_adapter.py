"""Audits of models that do not speak the protocol, wrapped by a script of the auditor's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.score.audit import Adapter, AuditOptions, Limits, audit, load_data
from squeeze.score.audit.machine import lacking
from squeeze.score.audit.submission import load_submission
from squeeze.score.audit.verdict import PASS, UNKNOWN
from squeeze.score.modes import Mode
from squeeze.score.serving.serve import open_subject, scorer
from squeeze.train.data.shards import write_shard
from tests.zoo.animals import VOCAB, Habitat, make_habitat

RECORD = f"""import fused_kernels
import torch
from torch import nn

class GPT(nn.Module):
    def __init__(self, ahead=0):
        super().__init__()
        self.table = nn.Embedding({VOCAB}, 16)
        self.head = nn.Linear(16, {VOCAB})
        self.ahead = ahead

    def forward(self, ids):
        seen = torch.roll(ids, -self.ahead, dims=1) if self.ahead else ids
        return self.head(self.table(ids) + 3 * self.table(seen))

if __name__ == "__main__":
    raise SystemExit("needs eight GPUs")
"""
ADAPTER = """import train_gpt
print("a line that is no answer")
length, bos = 32, 1
def build(): return train_gpt.GPT()
def peeking(): return train_gpt.GPT(ahead=1)
"""


@pytest.fixture(scope="module")
def habitat(tmp_path_factory: pytest.TempPathFactory) -> Habitat:
    return make_habitat(tmp_path_factory.mktemp("habitat"))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A folder as entrants hand them in, and weights beside its script."""
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "train_gpt.py").write_text(RECORD)
    torch.manual_seed(0)
    tensors = {
        "table.weight": torch.randn(VOCAB, 16),
        "head.weight": torch.randn(VOCAB, 16) / 4,
        "head.bias": torch.zeros(VOCAB),
    }
    save_file(tensors, folder / "weights.safetensors")
    (tmp_path / "adapter.py").write_text(ADAPTER)
    return folder


def test_the_script_is_an_input_of_every_box_unless_it_lies_in_the_folder(record: Path) -> None:
    adapter = Adapter(f"{record.parent}/adapter.py:build", "weights.safetensors", shim=True)
    submission = load_submission(record, ("--length", "16"), adapter)
    assert submission.command[3:] == (
        *("squeeze.score.serving.serve", "--adapter", "{inputs}/adapter.py:build", "--shim"),
        *("{folder}/weights.safetensors", "--length", "16"),
    )
    assert submission.inputs == {"adapter.py": record.parent / "adapter.py"}
    assert not submission.trusted  # a stranger's script runs: it gets a user of its own
    inside = load_submission(record, (), Adapter(f"{record}/train_gpt.py:GPT"))
    assert "{folder}/train_gpt.py:GPT" in inside.command
    assert inside.inputs == {}


@pytest.mark.parametrize(
    ("script", "weights", "message"),
    [
        ("nothing.py:GPT", None, "names no script"),
        ("adapter.txt", None, "names no script"),
        ("adapter.py", "more.pt", "holds no file more.pt"),
    ],
)
def test_an_adapter_that_cannot_be_is_one_clear_error(
    record: Path, monkeypatch: pytest.MonkeyPatch, script: str, weights: str | None, message: str
) -> None:
    monkeypatch.chdir(record.parent)
    with pytest.raises(SqueezeError, match=message):
        load_submission(record, (), Adapter(script, weights))


def test_weights_without_an_adapter_are_one_clear_error(habitat: Habitat, record: Path) -> None:
    known = ["--tokenizer", str(habitat.tokenizer), "--val", str(habitat.data)]
    result = CliRunner().invoke(cli, ["audit", str(record), *known, "--shim"])
    assert isinstance(result.exception, SqueezeError)
    assert "--adapter" in str(result.exception)


def test_a_wrapped_model_answers_as_its_own_forward(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(record)
    monkeypatch.syspath_prepend(str(record.parent))  # undone: the script's folder joins the path
    weights = record / "weights.safetensors"
    subject = open_subject(weights, str(record.parent / "adapter.py"), shim=True)
    served = scorer(subject, Mode("sliding", 16, 8))
    assert served.hello(99)["window"] == 16
    ids = np.arange(12, dtype=np.uint16)
    expected = subject.logits(torch.arange(12)[None])[0].log_softmax(-1).numpy()
    served.reset()
    assert np.allclose(served.feed(ids), expected, atol=1e-5)
    with pytest.raises(SqueezeError, match="a model of squeeze's own"):
        scorer(subject, Mode("ttt-lora", 16))


def test_the_report_of_a_padded_model_counts_the_bytes_of_the_text(
    habitat: Habitat, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = RECORD.replace(f"{VOCAB})", f"{VOCAB + 64})").replace(f"({VOCAB}", f"({VOCAB + 64}")
    (record / "padded.py").write_text(f"{code}\nlength, bos = 32, 1\n")
    monkeypatch.chdir(record)
    subject = open_subject(None, f"{record}/padded.py:GPT", shim=True)
    served = scorer(subject, Mode("window", 16))
    data = load_data([habitat.data], habitat.tokenizer, 200)
    write_shard(record / "span.bin", data.span)
    nats, size, tokens, losses = served.report(str(record / "span.bin"), str(habitat.tokenizer))
    assert (size, tokens) == (int(data.table.of_targets(data.span).sum()), 200)
    assert nats == pytest.approx(losses.sum(dtype=np.float64))


def test_a_script_that_lacks_a_module_names_it() -> None:
    said = "/inputs/adapter.py: imports flash_attn, which is not installed. Install it"
    assert lacking(said, {}) == "no module flash_attn"


def audited(habitat: Habitat, submission: Path, **options: Any) -> Any:
    data = load_data([habitat.data], habitat.tokenizer, 300)
    limits = Limits(seconds=120, report_seconds=120)
    return audit(submission, data, AuditOptions(limits=limits, seed=3, **options))


@pytest.mark.slow
def test_a_record_is_audited_through_its_own_class(habitat: Habitat, record: Path) -> None:
    script = str(record.parent / "adapter.py")
    for name, failures in (("build", []), ("peeking", ["causality"])):
        adapter = Adapter(f"{script}:{name}", "weights.safetensors", shim=True)
        result = audited(habitat, record, adapter=adapter)
        assert result.failures == failures, result.as_json()
        assert any("--adapter" in note for note in result.notes)
    # without the shim it does not start: this machine lacks a module, and papers are judged all the same
    lacks = audited(habitat, record, adapter=Adapter(script, "weights.safetensors"))
    assert lacks.verdicts["runs"].data["lacks"] == "no module fused_kernels"
    # a bare file of weights does as well
    weights = shutil.copy(record / "weights.safetensors", record.parent)
    (record.parent / "alone.py").write_text(RECORD.replace("import fused_kernels\n", ""))
    adapter = Adapter(str(record.parent / "alone.py:GPT"))
    assert audited(habitat, Path(weights), adapter=adapter).failures == []


@pytest.mark.slow
def test_a_transformers_folder_is_audited_without_a_script(
    habitat: Habitat, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="an optional extra")
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    result = audited(habitat, tmp_path / "llama")
    assert result.failures == [], result.as_json()
    assert {result.verdicts[name].status for name in ("causality", "score", "size")} == {PASS}


def test_a_record_that_does_not_speak_is_offered_an_adapter(
    habitat: Habitat, tmp_path: Path
) -> None:
    (tmp_path / "train_gpt.py").write_text("raise RuntimeError('no CUDA device is there')")
    runs = audited(habitat, tmp_path).verdicts["runs"]
    assert runs.status == UNKNOWN and "--adapter FILE.py:NAME" in runs.evidence
