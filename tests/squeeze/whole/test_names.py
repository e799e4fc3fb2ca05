"""Names and texts of others, printed: nothing in them moves a cursor, hides, reorders or adds a line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from squeeze.cli import cli
from squeeze.errors import SqueezeError, printable
from squeeze.score.audit.report import Audit
from squeeze.score.audit.verdict import Verdict
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from tests.squeeze.whole.test_paths import CONFIG, artifact, tensors

FORGED = "FORGED"  # would begin a line
NAME = (
    f"a\x1b[2J\x1b]0;title\x07b\rc\nnote: {FORGED}\n{FORGED}\td\u202ee\u200bf\x9bg\u2028{FORGED}"
    "[bold]h[/]i:smile:j\x7f"
)
FILE_NAME = NAME.replace("/", "|") + os.fsdecode(b"\xff")
ROWS = np.ones((4, 4), np.float32)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files whose names, and the names in them, are hostile."""
    folder = tmp_path_factory.mktemp("hostile") / FILE_NAME
    folder.mkdir()
    state = {name: tensor.bits.view(np.float32) for name, tensor in tensors().items()}
    config = {"squeeze.config": CONFIG.to_json()}
    save_file(state, folder / f"{FILE_NAME}.safetensors", config)
    save_file({**state, NAME: ROWS}, folder / "more.safetensors", config)
    save_file({NAME: ROWS, f"blocks.0.{NAME}.weight": ROWS}, folder / "names.safetensors")
    torch.save({NAME: torch.ones(4, 4)}, folder / "names.pt")
    (folder / f"{FILE_NAME}.sqz").write_bytes(artifact())
    odd = RawTensor(np.zeros(4, np.uint32), "fp32")
    (folder / "names.sqz").write_bytes(artifact(**{"[bold]h[/]i:smile:j": odd}))
    (folder / f"{FILE_NAME}.py").write_text(f"class C:\n    pass\nprint({NAME!r})\n")
    (folder / f"{FILE_NAME}.json").write_text(json.dumps({"mode": NAME, "bpb": NAME}))
    (folder / "code.json").write_text(json.dumps({"parts": [{"module": NAME, "name": NAME}]}))
    write_shard(folder / f"{FILE_NAME}.bin", np.ones(99, np.uint16))
    (folder / "damaged.sqz").write_bytes(artifact()[:-9])
    return folder


COMMANDS = {
    "inspect": ["inspect", "{in}/{name}.safetensors"],
    "inspect more": ["inspect", "{in}/more.safetensors", "-v"],
    "inspect names": ["inspect", "{in}/names.safetensors", "-v"],
    "inspect pt": ["inspect", "{in}/names.pt"],
    "inspect two": ["inspect", "{in}/{name}.safetensors", "{in}/{name}.sqz"],
    "budget": ["budget", "{in}/{name}.sqz", "--depth", "9", "--floors"],
    "budget names": ["budget", "{in}/names.safetensors", "--depth", "9"],
    "budget pt": ["budget", "{in}/names.pt", "--depth", "9", "--squeezed"],
    "budget sqz": ["budget", "{in}/names.sqz", "--depth", "9"],
    "budget script": ["budget", "{in}/{name}.py", "--depth", "9"],
    "budget folder": ["budget", "{in}"],
    "budget report": ["budget", "{in}/{name}.py", "--code-report", "{in}/code.json"],
    "budget --diff": ["budget", "--diff", "{in}/names.safetensors", "{in}/names.pt", "--by", "tensor"],
    "budget what-if": ["budget", "{in}/{name}.sqz", "--what-if", "{name}=3bit"],
    "budget page": ["budget", "{in}/names.safetensors", "--html", "{out}/{name}.html"],
    "budget base": ["budget", "{in}/names.pt", "--base", "{out}/b.json", "--commit", "{name}"],
    "unpack": ["unpack", "{in}/{name}.sqz", "-o", "{out}/{name}"],
    "unpack names": ["unpack", "{in}/names.sqz", "-o", "{out}/{name}"],
    "pack": ["pack", "{in}/{name}.safetensors", "--lossless", "-o", "{out}/{name}", "--code", "{in}"],
    "pack more": ["pack", "{in}/more.safetensors", "-o", "{out}/{name}"],
    "pack names": ["pack", "{in}/names.safetensors", "-o", "{out}/{name}"],
    "bundle": ["bundle", "{in}/{name}.py", "-o", "{out}/{name}", "--readable", "{out}/flat.py"],
    "stats": ["stats", "{in}/{name}.json"],
    "data check": ["data", "check", "{in}/{name}.bin", "--val", "{in}/{name}.bin"],
    "data tokenizer": ["data", "tokenizer", "{in}/{name}.bin", "-o", "{out}/{name}"],
    "damaged": ["inspect", "{in}/damaged.sqz"],
    "missing": ["budget", "{in}/{name}.nothing"],
    "settings": ["inspect", "{in}/names.pt", "--set", "{name}={name}"],
    "command": ["{name}"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_hostile_names_are_escaped_wherever_they_are_printed(
    name: str, hostile: Path, tmp_path: Path
) -> None:
    arguments = [
        text.replace("{in}", str(hostile)).replace("{out}", str(tmp_path)).replace("{name}", FILE_NAME)
        for text in COMMANDS[name]
    ]  # fmt: skip
    result = CliRunner().invoke(cli, arguments)
    told = result.stdout + result.stderr
    if isinstance(result.exception, SqueezeError):
        told += str(result.exception)
    else:
        assert isinstance(result.exception, SystemExit | None), (told, result.exc_info)
    assert told
    assert told.replace("\n", "").isprintable(), repr(told)
    assert not re.search(rf"^\W*(note: )?{FORGED}", told, re.MULTILINE), told
    for path in tmp_path.rglob("*"):
        if path.suffix in (".html", ".py"):
            text = path.read_text()
            assert text.replace("\n", "").replace("\t", "").isprintable(), path
            assert not re.search(f"^{FORGED}", text, re.MULTILINE)


def test_a_wrong_use_of_options_is_told_without_what_it_names_doing_harm() -> None:
    command = [sys.executable, "-m", "squeeze", "unpack", "a", FILE_NAME]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 4 and done.stderr.replace("\n", "").isprintable()


def test_json_holds_names_as_they_are(hostile: Path) -> None:
    result = CliRunner().invoke(cli, ["budget", str(hostile / "names.safetensors"), "--json"])
    rows = json.loads(result.stdout)["rows"]
    assert NAME in {row["tensor"] for row in rows}
    assert result.stdout.isascii()


def test_a_report_for_a_pull_request_is_a_table_whatever_a_submission_says() -> None:
    audit = object.__new__(Audit)
    evidence = f"{NAME} | {NAME} <img> [x](http://y) `z`"
    from squeeze.score.audit.rules import RULES

    class Told:
        def __getattr__(self, name: str) -> object:
            return self

        def facts(self) -> dict[str, str]:
            return {"network": "none"}

        def __len__(self) -> int:
            return 9

        def __format__(self, spec: str) -> str:
            return "9"

    values = {"evidence": Told(), "seconds": 1.0,
              "verdicts": {rule.id: Verdict("pass", evidence) for rule in RULES}}  # fmt: skip
    for field, value in values.items():
        object.__setattr__(audit, field, value)
    text = audit.markdown()
    rows = [line for line in text.splitlines() if line.startswith("| ✅")]
    assert len(rows) == len(RULES)
    assert text.replace("\n", "").isprintable()
    assert not any(re.search(r"<img>|(?<!\\)[`\[]", row) for row in rows)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_printable_text_is_left_alone() -> None:
    text = "ünï 字 → ≤ 1.5 × σ² \\ [x]"
    assert printable(text) is text
