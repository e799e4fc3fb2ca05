"""Absurd inputs of every command: nested without end, numbers beyond any type, values of other kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.files import parse_json
from squeeze.packing.plan import Plan, tensor_plans
from squeeze.train.metadata import read_metadata
from tests.squeeze.whole.test_paths import CONFIG, artifact, tensors

DEEP = 100_000  # levels
TEXTS = {
    "lists": "[" * DEEP + "]" * DEEP,
    "objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "open lists": "[" * DEEP,
    "a number of 5,000 digits": "9" * 5000,
    "a number of 400 digits": "9" * 400,
    "not a number": "NaN",
    "infinity": "1e999",
    "null": "null",
    "a list": "[]",
    "an object": "{}",
    "nothing": "",
    "no UTF-8": "\udcff\udcfe",
    "half a pair": '"\\ud800"',
}
# JSON in the place of any value of a file that is right otherwise
VALUES = [
    "9" * 400, "-1", "1e308", "-0.0", "true", "null", "[]", "{}", '""', '"\\ud800"',
    "[" * 500 + "]" * 500, '{"a": 1}', "18446744073709551615",
]  # fmt: skip
HASHES = {"model": "m", "tokenizer": "t", "data": {"a": "d"}, "code": "c"}
REPORT = {"bpb": 1.2, "nats_per_token": 2.0, "config": {"a": 1}, "mode": "window",
          "options": {"length": 16}, "tokens": 9, "bytes": 9, "official": None, "device_name": "x",
          "sha256": HASHES, "versions": {"torch": "2"}}  # fmt: skip
PARTS = {"parts": [{"module": "m", "name": "n", "bytes": 5, "chars": 9}]}
SCORING = ["--tokenizer", "t", "--val", "d"]
FETCH = ["data", "fetch", "sp9", "--from", "from", "-o", "out"]
# Where a command reads JSON, and the command.
READERS = {
    "plan": ("plan.json", ["budget", "m.sqz", "--plan", "plan.json"]),
    "kept plan": ("m.sqz.cache/plan.json", ["budget", "m.sqz"]),
    "totals": ("base.json", ["budget", "m.sqz", "--base", "base.json", "--fail-growth", "1%"]),
    "names of code": ("code.json", ["budget", "m.sqz", "--code-report", "code.json"]),
    "report of a score": ("a.json", ["stats", "a.json", "b.json"]),
    "report of another": ("a.json", ["stats", "b.json", "--against", "a.json"]),
    "score beside": ("m.json", ["budget", "--diff", "m.sqz", "folder/model.sqz"]),
    "claims": ("folder/submission.json", ["budget", "--diff", "folder", "folder"]),
    "configuration": ("c.json", ["train", "--data", "d", "-o", "x", "--config", "c.json"]),
    "text": ("t.jsonl", ["data", "tokenizer", "t.jsonl", "-o", "x.model"]),
    "manifest": ("from/manifest.json", FETCH),
    "record of a fetch": ("out/fetched.json", FETCH),
    "submission": ("folder/submission.json", ["submit", "--check", "folder", *SCORING]),
}
RIGHT: dict[str, Any] = {
    "totals": {"a": 1 << 30},
    "names of code": PARTS,
    "report of a score": REPORT,
    "report of another": REPORT,
    "score beside": REPORT,
}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of each kind, which commands run in."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for path in ("m.sqz", "folder/model.sqz"):
        Path(path).write_bytes(artifact())
    state = {name: tensor.bits.view(np.float32) for name, tensor in tensors().items()}
    save_file(state, "m.safetensors", {"squeeze.config": CONFIG.to_json()})
    Path("entry.py").write_text("X = 1\nprint(X)\n")
    Path("b.json").write_text(json.dumps(REPORT | {"sha256": {**HASHES, "model": "n"}}))
    return tmp_path


def plan_facts() -> dict[str, Any]:
    """Return the JSON of a plan of the artifact."""
    data, path = artifact(), Path("plan.json")
    Plan("key", "0" * 64, len(data), 1 << 20, 1, 0.1, 0.1, 2.0, tensor_plans(data)).save(path)
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def run(arguments: list[str]) -> Result:
    """Run a command, which must end with success, one line or a usage page, never a traceback."""
    result = CliRunner().invoke(cli, arguments)
    error = result.exception
    assert isinstance(error, SqueezeError | SystemExit | None), (arguments, result.exc_info)
    assert "\n" not in str(error)
    return result


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", READERS)
def test_json_of_any_kind_ends_in_one_line(name: str, text: str, inputs: Path) -> None:
    path, arguments = READERS[name]
    (inputs / path).parent.mkdir(exist_ok=True)
    (inputs / path).write_bytes(TEXTS[text].encode("utf-8", "surrogateescape"))
    run(arguments)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and key of every value inside a JSON value."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


@pytest.mark.parametrize("name", [*RIGHT, "plan"])
def test_any_value_of_a_file_may_be_absurd(name: str, inputs: Path) -> None:
    path, arguments = READERS[name]
    facts = plan_facts() if name == "plan" else json.loads(json.dumps(RIGHT[name]))
    for container, key in [({"": None}, ""), *places(facts)]:
        before, container[key] = container[key], "VALUE"
        for value in VALUES:
            (inputs / path).write_text(json.dumps(facts).replace('"VALUE"', value))
            run(arguments)
        container[key] = before


@pytest.mark.parametrize(
    "arguments",
    [
        ["bundle", "entry.py", "-o", "b.py", "--define", "X=" + "(" * 1000 + ")" * 1000],
        ["bundle", "entry.py", "-o", "b.py", "--define", "X=" + "[" * DEEP + "]" * DEEP],
        ["bundle", "entry.py", "-o", "b.py", "--define", "X=" + "-" * 5000 + "1"],
        ["inspect", "m.safetensors", "--set", "layer_schedule=0-9999999999999"],
        ["inspect", "m.safetensors", "--layer-schedule", "9" * 5000],
        ["inspect", "m.safetensors", "--heads", "9" * 5000],
        ["inspect", "m.safetensors", "--rope-base", "1e999"],
        ["pack", "m.safetensors", "-o", "p.sqz", "--quant", "all=6:1e999"],
        ["pack", "m.safetensors", "-o", "p.sqz", "--quant", "all=" + "9" * 5000],
        ["pack", "m.safetensors", "-o", "p.sqz", "--codecs", "," * 10_000],
        ["budget", "m.sqz", "--base", "x.json", "--commit", "a", "--fail-growth", "9" * 5000],
        ["eval", "m.sqz", *SCORING, "--seed", "-1"],
        ["prove", "m.sqz", *SCORING, "--seed", "-1"],
        ["train", "--data", "d", "-o", "x", "--seed", "9" * 30],
        ["train", "--data", "d", "-o", "x", "--config", '{"a":' * DEEP],
        ["calibrate", "m.safetensors", "-o", "c", "--tokens", "64", "--length", "9" * 18],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-2]} {arguments[-1][:12]}",
)
def test_options_may_be_absurd(arguments: list[str], inputs: Path) -> None:
    result = run(arguments)
    absurd_growth = "--fail-growth" in arguments  # nothing to compare with, so it is not looked at
    assert result.exit_code in ((0, 1, 2) if absurd_growth else (1, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * DEEP, "name: nested too deeply"),
        ("[NaN]", "name: not JSON; found NaN is no number of 64 bits"),
        ("[-1e999]", "name: not JSON; found -1e999 is no number of 64 bits"),
        ("[123456789012345678901]", "name: not JSON; found 123456789012345678901 is no"),
        ("[", "name: not JSON; found Expecting value"),
        (b"\xff", "name: not JSON; found 'utf-8' codec"),
    ],
)
def test_what_is_wrong_with_json_is_said(text: str | bytes, message: str) -> None:
    with pytest.raises(SqueezeError) as error:
        parse_json(text, "name")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "header",
    ["[" * DEEP, '{"__metadata__": [1]}', '{"__metadata__": {"squeeze.recipe": [1]}}', "9" * 400],
)
def test_metadata_that_is_none_is_empty(header: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    assert read_metadata(path) == {}
