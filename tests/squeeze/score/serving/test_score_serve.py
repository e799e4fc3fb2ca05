"""Our own artifacts through the scoring protocol: what is fed, what is reported, and audits of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from squeeze.cli import cli
from squeeze.errors import BadConfig
from squeeze.score.audit import AuditOptions, Limits, audit, load_data
from squeeze.score.audit.verdict import UNKNOWN
from squeeze.score.modes import Mode
from squeeze.score.serving.serve import Adapting, Windows, scorer
from squeeze.score.tokenizer import Text, Tokenizer
from squeeze.score.window import score_windows
from squeeze.subject.subject import Subject
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.model.gpt import GPT
from tests.tiny_models import PLAIN, lively
from tests.zoo.animals import VOCAB, Habitat, make_habitat

CONFIG = replace(PLAIN, vocab_size=VOCAB, num_layers=2)
MODES = {
    "window": Mode("window", 16),
    "sliding": Mode("sliding", 16, 4),
    "documents": Mode("documents", 16, 8),
    "ttt-lora": Mode("ttt-lora", 16, settings={"chunk": "8"}),
    "ttt-chunk": Mode("ttt-chunk", 16, 8, {"chunk": "32"}),
}


@pytest.fixture(scope="module")
def habitat(tmp_path_factory: pytest.TempPathFactory) -> Habitat:
    folder = tmp_path_factory.mktemp("habitat")
    habitat = make_habitat(folder)
    write_shard(folder / "short.bin", habitat.validation[:400])
    return habitat


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.set_num_threads(1)
    return lively(CONFIG)


def served(model: GPT, mode: str, targets: int = 399) -> Windows | Adapting:
    found = scorer(Subject.of_gpt(model), MODES[mode])
    assert found.hello(targets)["vocab_size"] == VOCAB
    found.reset()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_reported_losses_sum_to_the_engine_s_nats(model: GPT, habitat: Habitat, mode: str) -> None:
    shard = habitat.folder / "short.bin"
    nats, num_bytes, tokens, losses = served(model, mode).report(str(shard), str(habitat.tokenizer))
    assert len(losses) == tokens
    assert losses.sum(dtype=np.float64) == pytest.approx(nats, rel=1e-5)
    table = Tokenizer(habitat.tokenizer).table
    assert num_bytes == table.of_targets(read_shard(shard)).sum()


@pytest.mark.parametrize("mode", MODES)
def test_rows_are_distributions_and_do_not_depend_on_how_they_are_asked(
    model: GPT, habitat: Habitat, mode: str
) -> None:
    tokens, found = habitat.validation[:60], served(model, mode)
    whole = found.feed(tokens)
    assert whole.shape == (60, VOCAB)
    assert np.abs(np.exp(whole.astype(np.float64)).sum(1) - 1).max() < 1e-5
    found.reset()
    pieces = np.concatenate([found.feed(part) for part in np.split(tokens, [1, 20, 33])])
    assert np.abs(pieces - whole).max() < 1e-4
    found.reset()
    assert np.array_equal(found.feed(tokens), whole)


def test_windows_report_what_eval_says(model: GPT, habitat: Habitat) -> None:
    shard, table = habitat.folder / "short.bin", Tokenizer(habitat.tokenizer).table
    score = score_windows(model, Text(read_shard(shard), table), 16)
    report = served(model, "window").report(str(shard), str(habitat.tokenizer))
    assert report[:3] == (score.nats, score.bytes, score.tokens)


@pytest.mark.parametrize("mode", ["documents", "ttt-lora"])
def test_isolated_modes_forget_at_a_document_s_start(
    model: GPT, habitat: Habitat, mode: str
) -> None:
    found, begin = served(model, mode), int(np.flatnonzero(habitat.validation == 1)[1])
    document = habitat.validation[begin : begin + 20]
    alone = found.feed(document)
    found.reset()
    found.feed(habitat.validation[begin - 30 : begin])
    assert np.abs(found.feed(document) - alone).max() < 1e-5


def test_a_mode_that_scores_out_of_order_is_refused(model: GPT) -> None:
    with pytest.raises(BadConfig, match="longest documents first"):
        scorer(Subject.of_gpt(model), Mode("ttt-phased", 16))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_artifact_passes_its_audit_in_every_mode(
    model: GPT, habitat: Habitat, mode: str, tmp_path: Path
) -> None:
    checkpoint, artifact = tmp_path / "m.safetensors", tmp_path / "model.sqz"
    save_checkpoint(checkpoint, CONFIG, model.state_dict())
    packed = CliRunner().invoke(cli, ["pack", str(checkpoint), "-o", str(artifact), "--lossless"])
    assert packed.exit_code == 0, packed.output
    chosen = MODES[mode]
    options = [f"--mode={chosen.name}", f"--length={chosen.length}"]
    options += [f"--stride={chosen.stride}"] if chosen.stride else []
    options += [f"--ttt={name}={value}" for name, value in chosen.settings.items()]
    result = audit(
        artifact,
        load_data([habitat.data], habitat.tokenizer, 400),
        AuditOptions(
            train_data=(habitat.folder / "train.bin",),
            limits=Limits(seconds=120, report_seconds=120),
            serve_options=tuple(options),
        ),
    )
    unstated = [name for name, v in result.verdicts.items() if v.status == UNKNOWN]
    assert result.failures == [], {n: result.verdicts[n].evidence for n in result.failures}
    assert unstated == ["clock", "seeds"]
