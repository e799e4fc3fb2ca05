"""Parents of a submission: what is compared with them, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeeze.submit.parent import differences, read_parent
from squeeze.submit.plain import parse_object, shown
from squeeze.train.model.config import ModelConfig
from tests.squeeze.submit.bread import packed, refused, write


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


def test_json_is_read_as_everyone_reads_it() -> None:
    assert parse_object(b'{"a": [1.5, "\xc3\xa4"]}', "x") == {"a": [1.5, "ä"]}
