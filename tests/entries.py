"""Submission folders in the style of the challenge's entrants, small and of our own making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = 'import os\n\nlr = float(os.environ.get("LR", 0.04))\nprint("train", lr)\n'
SOURCE = '''"""A trainer."""
import os

class Settings:
    matrix_lr = float(os.environ.get("MATRIX_LR", 0.01))
    num_layers=3

def main() -> None:
    matrix_lr=0.99
    print(f"step:{1}/{2} val_loss:{3.0:.4f} val_bpb:{4.0:.4f}")

if __name__ == "__main__":
    main()
'''
RULE = "=" * 100


@dataclass(frozen=True)
class Log:
    """A training log: what it prints of one run. nats: those of a text of one length, unless given."""

    seed: int = 1
    bpb: float = 1.2
    nats: float | None = None
    model: int = 15_000_000
    code: int = len(SCRIPT)
    milliseconds: float = 600_020.0
    step: int = 10_000
    timer: str = "train_time:{}ms"
    settings: Mapping[str, object] = field(
        default_factory=lambda: {"matrix_lr": 0.04, "num_layers": 9, "train_seq_len": 1024}
    )
    source: str = SOURCE
    score: str = "final_int8_roundtrip_exact"

    def text(self) -> str:
        """Return the log."""
        clock = self.timer.format(f"{self.milliseconds:g}")
        half = self.timer.format(f"{self.milliseconds / 2:g}")
        nats = self.bpb / 0.6 if self.nats is None else self.nats
        settings = " ".join(f"{name}:{value}" for name, value in self.settings.items())
        lines = [
            *([self.source, RULE] if self.source else []),
            "Running Python 3.12.3",
            RULE,
            settings,
            f"seed:{self.seed}",
            "warmup_step:1/20",
            f"step:0/{2 * self.step} val_loss:6.9300 val_bpb:4.1000 {self.timer.format(0)}",
            f"step:{self.step // 2}/{2 * self.step} train_loss:2.3000 {half} step_avg:60.00ms",
            f"step:{self.step}/{2 * self.step} val_loss:2.0100 val_bpb:1.2100 {clock}",
            f"stopping_early: wallclock_cap {clock} step:{self.step}/{2 * self.step}",
            "Serialized model: 67224983 bytes",
            f"Code size: {self.code} bytes",
            f"Serialized model int8+zlib: {self.model} bytes (payload:17178912 raw_torch:17224025)",
            f"Total submission size int8+zlib: {self.model + self.code} bytes",
            f"{self.score.removesuffix('_exact')} val_loss:{nats:.4f} val_bpb:{self.bpb:.4f}"
            " eval_time:1400ms",
            f"{self.score} val_loss:{nats:.8f} val_bpb:{self.bpb:.8f}",
        ]
        return "\n".join(lines) + "\n"


def claims(**changed: Any) -> dict[str, Any]:
    """Return the fields of a submission.json; those given replace its own, None removes one."""
    fields: dict[str, Any] = {
        "author": "A. Baker",
        "github_id": "abaker",
        "name": "Nine Loaves",
        "val_loss": 2.0,
        "val_bpb": 1.2,
        "bytes_total": 15_000_000 + len(SCRIPT),
        "bytes_code": len(SCRIPT),
    }
    return {name: value for name, value in (fields | changed).items() if value is not None}


def make_entry(
    folder: Path,
    logs: Mapping[str, Log | str] | None = None,
    files: Mapping[str, str] | None = None,
    **changed: Any,
) -> Path:
    """Write a folder of entrants: logs by name, other files by name, changed fields of its claims."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = claims(**changed)
    content = {
        "README.md": f"# Nine Loaves\n\nval_bpb {stated.get('val_bpb')}\n",
        "submission.json": json.dumps(stated, indent=2),
        "train_gpt.py": SCRIPT,
    }
    for name, log in ({"train.log": Log()} if logs is None else logs).items():
        content[name] = log.text() if isinstance(log, Log) else log
    for name, text in (content | dict(files or {})).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
