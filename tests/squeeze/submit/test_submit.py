"""`squeeze submit`: the folder it writes, what it refuses, and what a crash leaves."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.errors import BadData, OverBudget, SqueezeError
from squeeze.files import sha256
from squeeze.ledger.attribute import attribute_paths
from squeeze.score.audit import Limits, audit, load_data
from squeeze.score.evaluate import evaluate
from squeeze.score.serving import protocol
from squeeze.submit import folder as folders
from squeeze.submit.check import check_papers, check_submission, sums
from squeeze.submit.claims import About
from squeeze.submit.imports import check_requirements, imports_of_script, requirements
from squeeze.submit.parent import differences, read_parent
from squeeze.submit.plain import BadSubmission, parse_object, read_plain, safe_name, shown
from squeeze.submit.seeds import read_seed_runs, read_training
from squeeze.submit.write import Parts, write_submission
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

CONFIG = ModelConfig(300, 1, 16, 2, 1, 16, seq_len=32)
TEXT = "Bread rises while it is warm, and falls when it has risen for too long. "
ABOUT = About("Bread", ("A. Baker", "B. Miller"), "abaker", date="2026-03-18", assistance=("none",))

# A model of zeros predicts every token alike, so this script scores it exactly as squeeze does.
SCRIPT = """
import json, os, sys
import numpy as np
import sentencepiece
from protocol import serve

V = 300

def score(data, tokenizer):
    tokens = np.fromfile(data, "<u2", offset=1024)
    pieces = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    size = 0
    for before, token in zip(tokens[:-1].tolist(), tokens[1:].tolist()):
        if pieces.is_byte(token):
            size += 1
        elif not pieces.is_control(token) and not pieces.is_unknown(token):
            piece = pieces.id_to_piece(token)
            after = not pieces.is_control(before) and not pieces.is_unknown(before)
            size += len(piece.removeprefix("▁").encode()) + (piece.startswith("▁") and after)
    losses = np.full(len(tokens) - 1, np.log(V), np.float32)
    return (len(tokens) - 1) * np.log(V), size, len(losses), losses

class Scorer:
    report = staticmethod(score)
    def hello(self, targets):
        return {"protocol": 1, "vocab_size": V, "stateful": False, "isolated": False,
                "window": 32, "stride": 32}
    def reset(self): pass
    def feed(self, tokens):
        return np.full((len(tokens), V), -np.log(V), np.float32)

if "--serve" in sys.argv:
    serve(Scorer())
else:
    data = os.environ["DATA_PATH"] + "/fineweb_val_000000.bin"
    nats, size, *_ = score(data, os.environ["TOKENIZER_PATH"])
    print("val_bpb:", nats / np.log(2) / size)
"""


def packed(config: ModelConfig = CONFIG) -> bytes:
    zeros = {n: np.zeros(shape, np.uint32) for n, shape in config.parameter_shapes().items()}
    tensors = {name: RawTensor(words, "fp32") for name, words in zeros.items()}
    return encode(Artifact({"model": json.loads(config.to_json())}, tensors))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def make_inputs(place: Path) -> Path:
    """A model, a script that scores it, and what they need."""
    (place / "m.sqz").write_bytes(packed())
    (place / "code.py").write_text(SCRIPT)
    shutil.copy(protocol.__file__, place / "protocol.py")
    (place / "train.jsonl").write_text('{"step": 1}\n')
    train_tokenizer([TEXT * 30], 300, place / "t.model")
    write_shard(place / "d.bin", encode_documents([TEXT * 3, TEXT * 2], place / "t.model"))
    return place


def parts(inputs: Path, **changes: Any) -> Parts:
    given = {
        "script": inputs / "code.py",
        "files": [inputs / "protocol.py"],
        "logs": [inputs / "train.jsonl"],
        "evaluate": ("python", "train_gpt.py", "--eval"),
    }
    return Parts(**{**given, **changes})


def write(inputs: Path, target: Path, model: Path | None = None, **changes: Any) -> Any:
    given = {
        name: changes.pop(name) for name in ("limit", "force", "mode", "limits") if name in changes
    }
    return write_submission(
        target,
        model or inputs / "m.sqz",
        parts(inputs, **changes),
        ABOUT,
        tokenizer=inputs / "t.model",
        data=[inputs / "d.bin"],
        **given,
    )


@pytest.fixture(scope="module")
def written(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that passed; tests take copies of it."""
    target = tmp_path_factory.mktemp("written") / "submission"
    write(inputs, target)
    return target


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change submission.json, with hashes that fit it."""
    path = folder / "submission.json"
    claims = json.loads(path.read_text())
    change(claims)
    path.write_text(json.dumps(claims))
    rehash(folder)


def rehash(folder: Path) -> None:
    content = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(sums(content))


def eval_report(inputs: Path, path: Path, **changes: Any) -> Path:
    report = evaluate(inputs / "m.sqz", inputs / "t.model", [inputs / "d.bin"])
    model = changes.pop("model", None)
    if model is not None:
        report["sha256"]["model"] = model
    path.write_text(json.dumps({**report, **changes}))
    return path


def train_report(path: Path, seed: int, **changes: Any) -> Path:
    from dataclasses import asdict

    rows = [("compile and warm-up", 3.0, False), ("training", 20.5, True)]
    report = {
        "seed": seed,
        "config": asdict(CONFIG),
        "recipe": asdict(Recipe()),
        "clock": [dict(zip(("stage", "seconds", "inside"), row, strict=True)) for row in rows],
    }
    path.write_text(json.dumps({**report, **changes}))
    return path


def refused(match: str, kind: type[SqueezeError] = BadSubmission) -> Any:
    return pytest.raises(kind, match=match)


# what it writes


def test_the_folder_holds_code_model_papers_and_hashes_of_all(written: Path, inputs: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == [
        "README.md", "SHA256SUMS", "model.sqz", "protocol.py", "requirements.txt",
        "submission.json", "train.log", "train_gpt.py",
    ]  # fmt: skip
    assert (written / "model.sqz").read_bytes() == (inputs / "m.sqz").read_bytes()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=written, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert written.stat().st_mode & 0o777 == 0o755


def test_the_stated_score_is_that_of_squeeze_eval_and_of_the_script(
    written: Path, inputs: Path
) -> None:
    claims = json.loads((written / "submission.json").read_text())
    report = evaluate(inputs / "m.sqz", inputs / "t.model", [inputs / "d.bin"])
    uniform = report["tokens"] * math.log2(300) / report["bytes"]
    assert claims["val_bpb"] == report["bpb"] == pytest.approx(uniform, abs=1e-6)
    done = check_submission(written, tokenizer=inputs / "t.model", data=[inputs / "d.bin"])
    assert [run.command[2] for run in done.runs] == ["--eval", "--serve"]
    assert all(abs(run.bpb - report["bpb"]) <= 1e-6 for run in done.runs)


def test_the_stated_bytes_are_those_on_disk(written: Path) -> None:
    claims = json.loads((written / "submission.json").read_text())
    ships = ["train_gpt.py", "model.sqz", "protocol.py", "requirements.txt"]
    assert claims["bytes_total"] == sum((written / name).stat().st_size for name in ships)
    assert claims["totals"]["rule"] == sum((written / name).stat().st_size for name in ships[:2])
    assert attribute_paths([written]).unattributed == 0
    assert f"| total | {claims['bytes_total']:,} |" in (written / "README.md").read_text()


def test_the_audit_finds_nothing_in_it(written: Path, inputs: Path) -> None:
    found = audit(written, load_data([inputs / "d.bin"], inputs / "t.model", 200))
    assert found.failures == []
    passed = {name for name, verdict in found.verdicts.items() if verdict.status == "pass"}
    assert {"runs", "score", "size", "files", "coverage", "bytes"} <= passed


def test_requirements_pin_what_the_script_imports(written: Path) -> None:
    lines = (written / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == ["numpy", "sentencepiece"]
    assert all(line.split("==")[1] for line in lines)


def test_the_same_inputs_give_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.score.provenance.code_sha256", lambda: "0" * 64)
    for name in ("one", "two"):
        write(inputs, tmp_path / name, evaluate=None)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_page_shows_three_totals_people_and_hashes(written: Path) -> None:
    page = (written / "README.md").read_text()
    assert page.startswith("# Bread\n")
    for text in ("| shipped |", "| rule |", "| virtual |", "A. Baker, B. Miller (abaker)",
                 "Assistance: none.", sha256((written / "model.sqz").read_bytes())):  # fmt: skip
        assert text in page


def test_no_path_of_this_machine_is_in_the_papers(written: Path, inputs: Path) -> None:
    for name in ("README.md", "submission.json"):
        assert str(inputs) not in (written / name).read_text()


# seeds


def test_seeds_get_a_mean_a_spread_and_a_file_each(inputs: Path, tmp_path: Path) -> None:
    first = eval_report(inputs, tmp_path / "a.json")
    bpb = json.loads(first.read_text())["bpb"]
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64, bpb=bpb + 0.02, seed=7)
    trained = [train_report(tmp_path / f"t{seed}.json", seed) for seed in (7, 1337)]
    runs = [f"1337={first}", str(other)]
    write(inputs, tmp_path / "s", seed_runs=runs, trainings=trained)
    claims = json.loads((tmp_path / "s" / "submission.json").read_text())
    assert [row["seed"] for row in claims["seeds"]] == [1337, 7]
    assert claims["val_bpb"] == bpb
    assert claims["val_bpb_mean"] == pytest.approx(bpb + 0.01)
    assert claims["val_bpb_std"] == pytest.approx(0.02 / math.sqrt(2))
    assert claims["training_seconds"] == 20.5 and claims["clock"][0]["inside"] is False
    assert (
        claims["config"]["recipe"]["muon_lr" if hasattr(Recipe(), "muon_lr") else "warmup"]
        is not None
    )
    page = (tmp_path / "s" / "README.md").read_text()
    assert "standard deviation" in page and "inside the budget" in page
    verdicts = audit(
        tmp_path / "s", load_data([inputs / "d.bin"], inputs / "t.model", 100)
    ).verdicts
    assert verdicts["seeds"].status == verdicts["clock"].status == "pass"


SEEDS: dict[str, tuple[dict[str, Any], str]] = {
    "another configuration": ({"config": {"vocab_size": 9}}, "not seeds of one configuration"),
    "another mode": ({"mode": "sliding"}, "not seeds of one configuration"),
    "a score that is none": ({"bpb": float("nan")}, "finite number"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_that_do_not_belong_together_are_refused(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    changes, message = SEEDS[name]
    first = eval_report(inputs, tmp_path / "a.json")
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64, **changes)
    with refused(message, BadData):
        read_seed_runs([f"1={first}", f"2={other}"])


def test_one_seed_or_one_model_twice_is_refused(inputs: Path, tmp_path: Path) -> None:
    first = eval_report(inputs, tmp_path / "a.json")
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64)
    with refused("a seed twice is one seed"):
        read_seed_runs([f"1={first}", f"1={other}"])
    with refused("the same model twice", BadData):
        read_seed_runs([f"1={first}", f"2={first}"])
    with refused("does not say its seed"):
        read_seed_runs([str(first), f"1={other}"])


def test_seeds_of_other_models_than_the_one_that_ships_are_refused(
    inputs: Path, tmp_path: Path
) -> None:
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64)
    with refused("no seed run is of the model that ships"):
        write(inputs, tmp_path / "s", seed_runs=[f"1={other}"])


def test_a_training_of_another_model_or_recipe_is_refused(inputs: Path, tmp_path: Path) -> None:
    run = f"1={eval_report(inputs, tmp_path / 'a.json')}"
    other = train_report(tmp_path / "t.json", 1, config={"vocab_size": 9})
    with refused("training of seed 1 is of another model"):
        read_seed_runs([run], [other])
    clock = train_report(tmp_path / "c.json", 1, clock=[{"stage": "x", "seconds": -1}])
    with refused("clock"):
        read_seed_runs([run], [clock])


def log(inputs: Path, path: Path, code: bytes, **changes: Any) -> Path:
    """What a script that trains and scores by itself leaves."""
    report = evaluate(inputs / "m.sqz", inputs / "t.model", [inputs / "d.bin"])
    facts = {name: report[name] for name in ("bpb", "nats", "tokens", "bytes", "mode")}
    facts["clock"] = [{"stage": "training", "seconds": 9.5, "inside": True}]
    facts["sha256"] = {"train_gpt.py": sha256(code), "model.sqz": report["sha256"]["model"]}
    path.write_text("step:1\n" + json.dumps({**facts, **changes}) + "\n")
    return path


def test_logs_of_the_script_are_seeds_when_that_script_ships(inputs: Path, tmp_path: Path) -> None:
    code = (inputs / "code.py").read_bytes()
    hashes = {"train_gpt.py": sha256(code), "model.sqz": "1" * 64}
    runs = [
        str(log(inputs, tmp_path / "train1.log", code, seed=1)),
        str(log(inputs, tmp_path / "train2.log", code, seed=2, bpb=9.0, sha256=hashes)),
    ]
    write(inputs, tmp_path / "s", seed_runs=runs)
    claims = json.loads((tmp_path / "s" / "submission.json").read_text())
    assert [(row["seed"], row["val_bpb"]) for row in claims["seeds"]] == [
        (1, claims["val_bpb"]),
        (2, 9.0),
    ]
    assert claims["training_seconds"] == 9.5
    assert json.loads((tmp_path / "s" / "seed2.json").read_text())["config"]["code"] == sha256(code)
    other = log(inputs, tmp_path / "o.log", b"other", seed=1)
    with refused("made by another train_gpt.py"):
        write(inputs, tmp_path / "o", seed_runs=[str(other)])
    with refused("not seeds of one configuration", BadData):
        read_seed_runs([runs[0], str(log(inputs, tmp_path / "p.log", b"p", seed=3))])
    with refused("bits per byte"):
        better = log(inputs, tmp_path / "b.log", code, seed=1, bpb=1.0)
        write(inputs, tmp_path / "b", seed_runs=[str(better)])


@pytest.mark.parametrize("text", ["", "step:1", "{}", '{"bpb": NaN}', "{" * 100_000])
def test_a_log_that_tells_nothing_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(text)
    with refused("train.log"):
        read_seed_runs([str(tmp_path / "train.log")])


def test_a_checkpoint_tells_the_recipe(inputs: Path, tmp_path: Path) -> None:
    from squeeze.train.checkpoint import save_checkpoint
    from squeeze.train.model.gpt import GPT

    recipe = Recipe(matrix_lr=0.03)
    save_checkpoint(tmp_path / "m.safetensors", CONFIG, GPT(CONFIG).state_dict(), recipe)
    found = read_training(tmp_path / "m.safetensors")
    assert found.recipe["matrix_lr"] == 0.03 and found.seed is None
    save_checkpoint(tmp_path / "n.safetensors", CONFIG, GPT(CONFIG).state_dict())
    with refused("does not say how it was trained"):
        read_training(tmp_path / "n.safetensors")
    with refused("nothing says how it was trained"):
        write(inputs, tmp_path / "s", script=None)


# parents


def test_a_parent_is_compared_setting_by_setting(
    written: Path, inputs: Path, tmp_path: Path
) -> None:
    wider = ModelConfig(300, 1, 16, 2, 1, 24, seq_len=32)
    (tmp_path / "wide.sqz").write_bytes(packed(wider))
    write(inputs, tmp_path / "s", model=tmp_path / "wide.sqz", parents=[written])
    (parent,) = json.loads((tmp_path / "s" / "submission.json").read_text())["parents"]
    assert parent["changed"] == {"model.mlp_hidden": [16, 24]}
    assert (parent["name"], parent["author"]) == ("Bread", "A. Baker, B. Miller")
    assert "| model.mlp_hidden | 16 | 24 |" in (tmp_path / "s" / "README.md").read_text()
    alone = read_parent(inputs / "m.sqz")  # a model instead of a folder
    assert alone.as_json({"model": {"mlp_hidden": 24}})["changed"]["model.mlp_hidden"] == [16, 24]


def test_a_parent_of_the_field_tells_what_it_can(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    entry.mkdir()
    claims = {"name": "x|y\x1b[31m", "val_bpb": 1.2, "val_loss": 2.0, "github_id": ["no", "text"]}
    (entry / "submission.json").write_text(json.dumps(claims))
    parent = read_parent(entry)
    assert parent.config is None and parent.facts["val_bpb"] == 1.2
    assert parent.facts["name"] == "x\\|y \\[31m" and "github_id" not in parent.facts
    (entry / "seed1.json").write_text('{"seed": 1, "config": {"lr": 0.1}}')
    assert read_parent(entry).config == {"config": {"lr": 0.1}}
    assert differences({"config": {"lr": 1}}, {"model": {"lr": 2}}) == {}


HOSTILE = {
    "not JSON": (b"{", "a JSON object"),
    "a list": (b"[]", "a JSON object"),
    "deep": (b'{"config":' + b"[" * 100_000, "a JSON object"),
    "not UTF-8": (b'{"a": "\xff"}', "a JSON object"),
    "a lone surrogate": (b'{"a": "\\ud800"}', "a JSON object"),
    "NaN": (b'{"val_bpb": NaN}', "a number that is none"),
    "infinity": (b'{"val_bpb": 1e999}', "a number that is none"),
    "a key twice": (b'{"a": 1, "a": 2}', "a field twice"),
    "a number of many digits": (b'{"a": ' + b"9" * 5000 + b"}", "a JSON object"),
    "too many fields": (
        json.dumps({"config": {str(i): i for i in range(2001)}}).encode(), "too many fields"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_parent_is_one_clear_error(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    (tmp_path / "submission.json").write_bytes(data)
    with refused(message):
        read_parent(tmp_path)
    with refused(message):
        read_parent(tmp_path / "submission.json")


def test_a_strangers_text_cannot_break_the_page() -> None:
    assert shown("a|b\n# c <script> [x](y) `d` \x1b[2J") == (
        "a\\|b # c &lt;script> \\[x](y) 'd' \\[2J"
    )
    assert len(shown("x" * 1000)) == 80


# what may be in a folder


def test_links_devices_and_pipes_are_refused_as_parts(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "link.sqz").symlink_to(inputs / "m.sqz")
    os.mkfifo(tmp_path / "pipe.sqz")
    (tmp_path / "folder.sqz").mkdir()
    for name, what in {"link": "a symbolic link", "pipe": "a pipe", "folder": "a folder"}.items():
        with refused(what):
            write(inputs, tmp_path / "s", model=tmp_path / f"{name}.sqz")
    with refused("a device"):
        write(inputs, tmp_path / "s", files=[Path("/dev/null")])
    with refused("No such file"):
        write(inputs, tmp_path / "s", logs=[tmp_path / "nothing.log"])
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "a/b", "/etc/passwd", "-rf", "", "a\nb", "ü.py", "x" * 200, "a\\b"]
)
def test_names_that_escape_are_refused(name: str) -> None:
    with refused("a name that must not be"):
        safe_name(name)


def test_two_parts_of_one_name_are_refused(inputs: Path, tmp_path: Path) -> None:
    for name in ("model.sqz", "Protocol.py", "submission.json"):
        (tmp_path / name).write_text("x")
        with refused("two files of one name"):
            write(inputs, tmp_path / "s", files=[inputs / "protocol.py", tmp_path / name])


def test_a_file_larger_than_can_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 40)
    with refused("too large"):
        read_plain(tmp_path / "big")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda f: (f / "x.py").symlink_to("train_gpt.py"), "a symbolic link"),
    "a link out": (lambda f: (f / "x.py").symlink_to("/etc/passwd"), "a symbolic link"),
    "a folder": (lambda f: (f / "more").mkdir(), "a folder"),
    "a pipe": (lambda f: os.mkfifo(f / "x.py"), "a pipe"),
    "a hidden file": (lambda f: (f / ".x").write_text(""), "a name that must not be"),
    "a file nobody lists": (lambda f: (f / "x.py").write_text(""), "files"),
    "a file that is gone": (lambda f: (f / "train_gpt.py").unlink(), "no train_gpt.py"),
    "another model": (lambda f: (f / "model.sqz").write_bytes(b"SQZ1"), "is not the file"),
    "another page": (lambda f: (f / "README.md").write_text(""), "SHA256SUMS is not"),
    "other requirements": (lambda f: (f / "requirements.txt").write_text(""), "is not the file"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_folder_with_something_odd_is_one_clear_error(name: str, copy: Path) -> None:
    change, message = ODD[name]
    change(copy)
    with refused(message):
        check_papers(copy)


CLAIMS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field missing": (lambda c: c.pop("author"), "author"),
    "an empty name": (lambda c: c.update(name=" "), "name is empty"),
    "no authors": (lambda c: c.update(authors=[]), "authors is empty"),
    "a score of text": (lambda c: c.update(val_bpb="1.0"), "val_bpb"),
    "a score below zero": (lambda c: c.update(val_bpb=-1), "val_bpb"),
    "a score that is no seed's": (lambda c: c.update(val_bpb=1.0), "val_bpb is not that of"),
    "a score true": (lambda c: c.update(val_bpb=True), "val_bpb"),
    "a date that is none": (lambda c: c.update(date="yesterday"), "date"),
    "a limit of nothing": (lambda c: c.update(limit=0), "limit"),
    "fewer bytes": (lambda c: c.update(bytes_total=5), "bytes_total"),
    "a seed twice": (lambda c: c.update(seeds=2 * c["seeds"]), "a seed twice"),
    "a seed without its number": (lambda c: c["seeds"][0].pop("seed"), "seeds"),
    "no seeds": (lambda c: c.update(seeds=[]), "no seed"),
    "a path in files": (
        lambda c: c["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "must not be in",
    ),
    "an absolute path": (lambda c: c["versions"].update(python="/home/me/py"), "path of a machine"),
    "an absolute key": (lambda c: c["versions"].update({"/home/me": "1"}), "path of a machine"),
    "a command elsewhere": (lambda c: c.update(scorer=["/bin/sh", "x"]), "program"),
    "a script elsewhere": (lambda c: c.update(scorer=["python", "/x.py"]), "must not be in"),
    "a command of numbers": (lambda c: c.update(scorer=["python", 1]), "scorer"),
    "no command": (lambda c: (c.pop("scorer"), c.pop("evaluate")), "no command"),
    "a mode that is none": (lambda c: c["score"].update(mode="best"), "mode"),
    "another configuration": (lambda c: c["config"]["model"].update(num_layers=2), "config"),
    "another hash of the model": (lambda c: c["sha256"].update(model="0" * 64), "sha256 of model"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_papers_that_lie_are_one_clear_error(name: str, copy: Path) -> None:
    change, message = CLAIMS[name]
    edit(copy, change)
    with refused(message):
        check_papers(copy)


def test_nan_in_the_papers_is_one_clear_error(copy: Path) -> None:
    path = copy / "submission.json"
    score = json.loads(path.read_text())["val_bpb"]
    path.write_text(path.read_text().replace(str(score), "NaN"))
    rehash(copy)
    with refused("a number that is none"):
        check_papers(copy)


def test_other_data_or_tokenizer_is_one_clear_error(written: Path, inputs: Path) -> None:
    with refused("not the tokenizer"):
        check_submission(written, tokenizer=inputs / "d.bin", data=[inputs / "d.bin"])
    with refused("not the data"):
        check_submission(written, tokenizer=inputs / "t.model", data=[inputs / "t.model"])


def test_over_the_limit_says_by_how_much_and_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"over the limit by [\d,]+ bytes") as error:
        write(inputs, tmp_path / "s", limit=1000)
    assert error.value.exit_code == 3
    assert "squeeze pack --limit 1000" in str(error.value)
    assert list(tmp_path.iterdir()) == []


# requirements


def test_imports_are_found_in_functions_and_in_scripts_that_unpack_themselves() -> None:
    from squeeze.bundle.build import smallest

    source = "def f():\n    import torch.nn as nn, os\n    from numba import njit\n"
    long = source + "".join(f"print({7919 * i % 10007})\n" for i in range(300))
    assert imports_of_script(source.encode()).needed == {"torch", "numba"}
    for form in ("literal", "archive"):
        shipped = smallest(long, forms=(form,)).data
        assert b"torch" not in shipped
        assert imports_of_script(shipped).needed == {"torch", "numba"}
    with refused("runs text that cannot be read"):
        imports_of_script(b"import zlib\nexec(zlib.decompress(b'x'))")


def test_imports_that_may_be_absent_need_not_be_installed() -> None:
    source = (
        b"try:\n    import flash_attn_interface\nexcept ImportError:\n    import numpy\n"
        b"import beside\nfrom . import x\n"
    )
    found = imports_of_script(source, ["beside.py"])
    assert (found.needed, found.optional) == ({"numpy"}, {"flash_attn_interface"})
    assert requirements(found).startswith("numpy==")


def test_imports_that_cannot_be_met_are_refused() -> None:
    with refused("imports no_such_module_anywhere, which is not installed"):
        requirements(imports_of_script(b"import no_such_module_anywhere"))
    with refused("imports squeeze"):
        requirements(imports_of_script(b"import squeeze.codecs"))
    with refused("neither Python"):
        imports_of_script(b"import (")
    needed = imports_of_script(b"import numpy, torch")
    with refused("does not cover"):
        check_requirements("torch==2.9.0\n", needed)
    with refused("not a pinned requirement"):
        check_requirements("torch>=2\nnumpy==2.0", needed)


# the run


def test_a_script_with_another_score_is_refused_and_nothing_is_left(
    inputs: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.py"
    for old, new in {
        '"val_bpb:", nats': '"val_bpb:", 1e-5 + nats',
        "return (len(tokens) - 1) * np.log(V)": "return (len(tokens) - 1) * np.log(V - 1)",
    }.items():
        wrong.write_text(SCRIPT.replace(old, new))
        with refused("gives another score than squeeze eval"):
            write(inputs, tmp_path / "s", script=wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wrong.py"]


FAILING = {
    "an exception": ("raise ValueError('no bread')", "exit code 1; found ValueError: no bread"),
    "silence": ("pass", "prints no score"),
    "a word": ("print('val_bpb: good')", "prints no score"),
    "NaN": ("print('val_bpb: nan')", "gives another score"),
    "an end too early": ("import os; os._exit(7)", "exit code 7"),
    "no end": ("while True: print('x' * 1000)", "not done within 2 s"),
    "sleep": ("import time; time.sleep(60)", "not done within 2 s"),
    "squeeze": ("__import__('squeeze')", "No module named 'squeeze'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_script_that_fails_is_one_clear_error(name: str, inputs: Path, tmp_path: Path) -> None:
    code, message = FAILING[name]
    (tmp_path / "bad.py").write_text(code)
    with refused(message):
        write(
            inputs, tmp_path / "s", script=tmp_path / "bad.py", scorer=None,
            limits=Limits(report_seconds=2.0),
        )  # fmt: skip
    assert not (tmp_path / "s").exists()


# atomic


def test_an_existing_folder_is_replaced_only_by_force(copy: Path, inputs: Path) -> None:
    (copy / "README.md").write_text("old")
    with refused("exists", SqueezeError):
        write(inputs, copy)
    assert (copy / "README.md").read_text() == "old"
    write(inputs, copy, force=True)
    assert (copy / "README.md").read_text() != "old"
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_what_is_no_submission_is_never_replaced(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").write_text("dear")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("home")
    for name, message in {"home": "no submission", "file": "a file", "link": "a symbolic"}.items():
        with refused(message, SqueezeError):
            write(inputs, tmp_path / name, force=True)
    assert (tmp_path / "home" / "letters").read_text() == "dear"


def test_replacing_in_two_steps_is_completed_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the kernel cannot exchange folders."""
    target = tmp_path / "s"

    def fill(text: str, force: bool = False) -> None:
        with folders.built_folder(target, force) as folder:
            (folder / "submission.json").write_text(text)

    fill("1")
    monkeypatch.setattr(folders, "_exchange", folders._in_two_steps)
    fill("2", force=True)
    assert (target / "submission.json").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    os.rename(target, tmp_path / ".s.replaced")  # killed between the two steps
    with refused("exists", SqueezeError):
        fill("3")
    assert (target / "submission.json").read_text() == "2"


KILLED = """
import os, signal, sys
from pathlib import Path
from squeeze.submit import folder
moment = sys.argv[2]
def die(*unused):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "sync":
    folder._sync = die
if moment == "before":
    folder._exchange = die
with folder.built_folder(Path(sys.argv[1]), True) as place:
    (place / "submission.json").write_text("new")
    if moment == "inside":
        die()
    if moment == "after":
        real = folder._exchange
        folder._exchange = lambda a, b: (real(a, b), die())
"""


@pytest.mark.parametrize(
    ("moment", "left"), [("inside", "old"), ("sync", "old"), ("before", "old"), ("after", "new")]
)
def test_a_killed_run_leaves_the_old_folder_or_the_new_one(
    moment: str, left: str, tmp_path: Path
) -> None:
    target = tmp_path / "s"
    target.mkdir()
    (target / "submission.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), moment])
    assert done.returncode == -9
    assert (target / "submission.json").read_text() == left
    assert len(list(tmp_path.iterdir())) == 2  # and what it was building
    with folders.built_folder(target, True) as place:
        (place / "submission.json").write_text("next")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert (target / "submission.json").read_text() == "next"


def test_a_folder_that_another_run_is_building_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "s"
    with folders.built_folder(target) as first:
        (first / "submission.json").write_text("first")
        with refused("exists", SqueezeError), folders.built_folder(target) as second:
            (second / "submission.json").write_text("second")
            os.rename(first, tmp_path / "elsewhere")
            os.rename(tmp_path / "elsewhere", first)
            (tmp_path / "s").mkdir()
        assert first.is_dir()
        (tmp_path / "s").rmdir()
    assert (target / "submission.json").read_text() == "first"


# the command


def run(inputs: Path, *arguments: str | Path) -> Result:
    known = ["--tokenizer", inputs / "t.model", "--data", inputs / "d.bin"]
    return CliRunner().invoke(cli, ["submit", *map(str, [*arguments, *known])])


def test_the_command_writes_and_checks(inputs: Path, tmp_path: Path) -> None:
    target = tmp_path / "s"
    about = ["--name", "Bread", "--author", "A. Baker", "--github-id", "abaker"]
    code = ["--script", inputs / "code.py", "--file", inputs / "protocol.py"]
    runs = ["--run", "python train_gpt.py --eval", "--run", "python train_gpt.py --serve"]
    result = run(inputs, inputs / "m.sqz", "-o", target, *about, *code, *runs)
    assert result.exit_code == 0, result.output
    assert "in a fresh process" in result.stdout and f"wrote {target}" in result.stdout
    result = run(inputs, "--check", target, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["submission"]["name"] == "Bread"
    assert [r["command"][2] for r in facts["checked"]["runs"]] == ["--eval", "--serve"]
    assert facts["checked"]["runs"][0]["bpb"] == pytest.approx(facts["checked"]["bpb"], abs=1e-6)
    result = run(inputs, "--check", target, "--limit", "1000")
    assert isinstance(result.exception, OverBudget)


def test_the_command_says_what_it_lacks(inputs: Path, tmp_path: Path) -> None:
    result = run(inputs, inputs / "m.sqz", "-o", tmp_path / "s")
    assert result.exit_code == 2 and "--name, --author" in result.output
    assert run(inputs).exit_code == 2
    assert run(inputs, inputs / "m.sqz", "--check", tmp_path).exit_code == 2


def test_json_is_read_as_everyone_reads_it() -> None:
    assert parse_object(b'{"a": [1.5, "\xc3\xa4"]}', "x") == {"a": [1.5, "ä"]}
