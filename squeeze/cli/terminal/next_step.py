"""The last line of a command in a terminal: what usually comes next. Logs and pipes do not get it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from squeeze.cli.terminal.printing import print_line

SCORING = (
    "--tokenizer",
    "TOKENIZER",
    "--val",
    "SHARDS",
)  # what is left to the reader is in capitals
Options = Mapping[str, Any]
Words = Sequence[object]


SCRIPT = {"script": "--model", "shim": "--shim"}  # flags by the names of a command's options
MODEL = {
    **SCRIPT,
    "entry": "--entry",
    "like": "--like",
    "settings_file": "--settings",
    "assume": "--assume",
    "seq_len": "--seq-len",
    "settings": "--set",
}


def _repeated(options: Options, flags: Mapping[str, str]) -> Words:
    """Return options of a command as they were given, for the next one to get them, too."""
    words: list[object] = []
    for name, flag in flags.items():
        given = options.get(name)
        values = given if isinstance(given, tuple) else (given,)
        for value in values:
            words.extend((flag,) if value is True else (flag, value) if value else ())
    return words


def _artifact(options: Options) -> Path:
    return options["out"] or Path(options["model"]).with_suffix(".sqz")


def _scored(options: Options) -> Words:
    """Return tokenizer and validation shards as a command got them."""
    shards = [word for path in options["data"] for word in ("--val", path)]
    return ("--tokenizer", options["tokenizer"] or "TOKENIZER", *(shards or ("--val", "SHARDS")))


def _after_eval(options: Options) -> Words:
    model = options["model"]
    if Path(model).suffix == ".sqz":
        return ("audit", model, *_scored(options))
    return _packed(options, model)


def _packed(options: Options, model: object) -> Words:
    return ("pack", model, *_repeated(options, MODEL), "--preset", "best")


def _after_pack(options: Options) -> Words:
    artifact = _artifact(options)
    if options["squeezed"]:  # there may be no model that runs these weights
        return ("budget", artifact, "--depth", 3)
    tokenizer = ("--tokenizer", options["tokenizer"] or "TOKENIZER")
    return ("eval", artifact, *_repeated(options, SCRIPT), *tokenizer, *SCORING[2:])


# The command that comes after each one, by its options; None: nothing in particular.
NEXT: dict[str, Callable[[Options], Words | None]] = {
    "demo": lambda o: ("budget", o["out"] / "model.sqz", "--depth", 3),
    "config": lambda o: None,
    "fetch": lambda o: ("train", "--data", o["out"] / "datasets/*/*_train_*.bin", "-o", "MODEL"),
    "tokenizer": lambda o: ("data", "tokenize", *o["text"], "--tokenizer", o["out"], "-o", "FOLDER"),
    "tokenize": lambda o: (
        "train", "--data", o["out"] / "train_*.bin", "--tokenizer", o["tokenizer"], "-o", "MODEL",
    ),
    "check": lambda o: None,
    "train": lambda o: ("pack", o["out"], "--preset", "best"),
    "calibrate": lambda o: _packed(o, o["model"]),
    "pack": _after_pack,
    "unpack": lambda o: ("inspect", o["out"] or Path(o["artifact"]).with_suffix(".safetensors")),
    "inspect": lambda o: (
        ("unpack", o["models"][0]) if o["models"][0].endswith(".sqz")
        else _packed(o, o["models"][0])
    ),
    "budget": lambda o: (
        ("budget", *o["paths"], "--html", "report.html") if o["html"] is None and not o["diff"] else None
    ),
    "bundle": lambda o: ("budget", o["out"] or "train_gpt.py", "--depth", 3),
    "eval": _after_eval,
    "prove": lambda o: (
        ("prove", o["model"], "--tokenizer", o["tokenizer"], "--decode", o["output"])
        if o["output"] and not o["encoded"] else None
    ),
    "audit": lambda o: ("prove", o["submission"], *_scored(o)),
    "submit": lambda o: ("audit", o["out"] or o["check"], *_scored(o)),
    "review": lambda o: ("stats", o["folder"]),
    "stats": lambda o: None,
}  # fmt: skip


def print_next(name: str, options: Options) -> None:
    """Print the command that usually comes after the command `name`, where a person reads along."""
    words = NEXT[name](options)
    if words is not None and sys.stderr.isatty() and not options.get("as_json"):
        print_line(f"next: squeeze {' '.join(map(_quoted, words))}", err=True)


def _quoted(word: object) -> str:
    return shlex.quote(str(word))
