"""Submissions whose script is squeeze's own: what it is made for, and that it runs alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.bundle.build import BundleOptions
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.verify import Check
from squeeze.cli.bundle_cmd import command as bundle_command
from squeeze.score.audit import AuditOptions, Limits, audit, load_data
from squeeze.score.modes import Mode
from squeeze.submit import write as writing
from squeeze.submit.check import Inputs
from squeeze.submit.claims import About
from squeeze.submit.parts import Parts
from squeeze.submit.plain import BadSubmission
from squeeze.submit.script import check_codecs, own_script, specialised, verify_script
from squeeze.submit.write import WriteOptions, write_submission
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from tests.tiny_models import lively
from tests.tiny_text import TEXT, write_text_files

CONFIG = ModelConfig(300, 2, 32, 4, 2, 48, seq_len=32, skips=False)
RECIPE = Recipe(matrix_lr=0.03, budget_seconds=5.0)


def test_the_source_gets_the_models_constants() -> None:
    source = specialised(vars(CONFIG), vars(RECIPE), 5000, Mode("sliding", stride=8))
    found: dict[str, object] = {}
    for line in source.splitlines():
        if line.startswith(("MODEL = ", "RECIPE = ", "LIMIT = ", "MODE = ", "STRIDE = ")):
            exec(line, found)
    assert ModelConfig(**found["MODEL"]) == CONFIG
    assert Recipe(**found["RECIPE"]) == RECIPE
    assert (found["LIMIT"], found["MODE"], found["STRIDE"]) == (5000, "sliding", 8)
    assert 'vocab_size": 8192' not in source
    compile(source, "train_gpt.py", "exec")


@pytest.mark.parametrize(
    "mode", [Mode("documents"), Mode(length=8), Mode("ttt-lora", None, None, {"lr": "1"})]
)
def test_modes_the_script_does_not_score_in_are_refused(mode: Mode) -> None:
    with pytest.raises(BadSubmission, match="does not score so"):
        specialised(vars(CONFIG), vars(RECIPE), 5000, mode)


def test_models_the_script_does_not_decode_are_refused() -> None:
    tensors = {"x": RawTensor(np.arange(64, dtype=np.uint32), "fp32")}
    check_codecs(encode(Artifact({}, tensors), candidates=["context-words"]))
    with pytest.raises(BadSubmission, match=r"zlib.*--codecs context,context-words"):
        check_codecs(encode(Artifact({}, tensors), candidates=["zlib"]))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, its checkpoint, a tokenizer, and text."""
    place = tmp_path_factory.mktemp("inputs")
    weights = {n: w.numpy() for n, w in lively(CONFIG).state_dict().items()}
    save_checkpoint(place / "m.safetensors", CONFIG, lively(CONFIG).state_dict(), RECIPE)
    tensors = {
        name: QuantizedTensor(
            np.clip(np.round(values / 0.05), -127, 127).astype(np.int8),
            np.full(len(values), 0x2A66, np.uint16), values.shape, "uniform", "fp16", "fp32",
        )
        if values.ndim == 2
        else RawTensor(values.astype(np.float16).view(np.uint16), "fp16", "fp32")
        for name, values in weights.items()
    }  # fmt: skip
    only = {"codes": ["context"], "raw": ["context-words"], "step": ["context-words"]}
    config = {"model": json.loads(CONFIG.to_json())}
    (place / "m.sqz").write_bytes(encode(Artifact(config, tensors), candidates=only))
    write_text_files(place, [TEXT * 3, TEXT * 2])
    return place


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode("sliding", stride=8), Mode("ttt-lora")])
def test_the_submission_of_our_own_script_runs_alone_and_passes_the_audit(
    mode: Mode, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(own_script, options=BundleOptions(forms=("plain",), minified=False))
    monkeypatch.setattr(writing, "own_script", quick)
    done = write_submission(
        tmp_path / "s",
        Parts(
            inputs / "m.sqz",
            About("Bread", ("A. Baker",), "abaker"),
            trainings=[inputs / "m.safetensors"],
        ),
        Inputs(inputs / "t.model", [inputs / "d.bin"]),
        WriteOptions(mode=mode, tokens=150),
    )
    assert [run.command[2] for run in done.runs] == ["--eval", "--serve"]
    assert all(abs(run.bpb - done.bpb) <= 1e-6 for run in done.runs)
    assert done.claims["config"]["recipe"]["matrix_lr"] == 0.03
    assert "class Trainer" in (tmp_path / "s" / "code.md").read_text()
    needs = (tmp_path / "s" / "requirements.txt").read_text()
    names = {line.split("==")[0] for line in needs.splitlines()}
    assert names >= {"numba", "numpy", "sentencepiece", "torch"}
    found = audit(
        tmp_path / "s",
        load_data([inputs / "d.bin"], inputs / "t.model", 150),
        AuditOptions(limits=Limits(seconds=300.0)),
    )
    assert found.failures == []


def test_a_script_that_does_not_do_what_its_source_does_is_refused() -> None:
    verify_script("print(1)", b"print( 1 )", Check())
    with pytest.raises(BundleError, match="does not do what its original does"):
        verify_script("print(1)", b"print(2)", Check())


@pytest.mark.slow
def test_the_complete_script_of_record_1493_ships_in_26_900_bytes(tmp_path: Path) -> None:
    out, twin = tmp_path / "train_gpt.py", tmp_path / "flat.py"
    words = ["--preset", "record-1493", "-o", str(out), "--readable", str(twin), "--json"]
    done = CliRunner().invoke(bundle_command, words)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["bytes"] == out.stat().st_size <= 26_900
    assert sum(part["bytes"] for part in facts["parts"]) == facts["bytes"]
    source = twin.read_text()
    for part in (
        "class Trainer",
        "def trellis_gptq",
        "def sliding",
        "def checksum",
    ):
        assert part in source
    # which this preset does not have, or the script does not do
    assert not any(name in source for name in ("SmearGate", "flex_attention", "score_lora"))


@pytest.mark.parametrize("words", [[], ["x.py", "--preset", "tiny"], ["x.py", "--set", "a=1"]])
def test_a_bundle_is_of_an_entry_or_of_a_preset(words: list[str]) -> None:
    done = CliRunner().invoke(bundle_command, words)
    assert done.exit_code == 2 and "give ENTRY, or --preset" in done.output
