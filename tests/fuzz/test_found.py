"""What fuzzing found once: each damaged file has its error, with the words that name the damage."""

import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine import corpus
from targets import TARGETS

from squeeze.errors import SqueezeError


def with_json(name, **changes):
    return json.dumps(json.loads(corpus(name)[0]) | changes).encode()


def with_text(name, old, new):
    data = corpus(name)[0]
    assert old in data and len(old) == len(new)
    return data.replace(old, new)


def torch_pickle(pickled):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def manifest(**changes):
    facts = json.loads(corpus("manifest")[0])
    facts["datasets"][0] |= changes
    return json.dumps(facts).encode()


FOUND = {
    "a plan whose size is text": ("plan", lambda: with_json("plan", size="9"), "size is '9'"),
    "a plan whose size is infinite": ("plan", lambda: with_json("plan", size=1e999), "Infinity"),
    "a plan whose cost is a list": ("plan", lambda: with_json("plan", expected=[]), "expected is"),
    "a plan nested too deep": ("plan", lambda: b"[" * 100_000, "nested too deeply"),
    "a code report with endless bytes": (
        "code-report",
        lambda: b'{"parts": [{"module": "m", "name": "n", "bytes": 1e999}]}',
        "not JSON",
    ),
    "a report whose data are a number": (
        "eval-report",
        lambda: with_json("eval-report", sha256={"model": "a", "tokenizer": "b", "data": 5}),
        "no sha256 of model, tokenizer and data",
    ),
    "a state whose facts are not JSON": (
        "run-state", lambda: with_text("run-state", b'{\\"step', b'?\\"step'),
        "not the state of a run",
    ),
    "a state whose facts are a list": (
        "run-state",
        lambda: with_text("run-state", b'{\\"step\\": 3, \\"version\\": 2}', b"[3]".ljust(29)),
        "not the state of a run",
    ),
    "a manifest whose data set has no text for a name": (
        "manifest", lambda: manifest(name=None), "not a manifest",
    ),
    "a manifest with endless shards": (
        "manifest", lambda: manifest(stats={"files_train": 1e999, "files_val": 1}), "incomplete",
    ),
    "a tokenizer with a piece that is not UTF-8": (
        "tokenizer", lambda: with_text("tokenizer", "▁t".encode(), b"\xff\xff\xfft"),
        "not a tokenizer",
    ),
    "a pickle that pops from nothing": ("pt", lambda: torch_pickle(b"\x80\x02R."), "damaged"),
    "a pickle that ends early": ("pt", lambda: torch_pickle(b"\x80\x02}q"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_a_file_that_once_crashed_a_reader_is_refused(case):
    name, make, words = FOUND[case]
    with pytest.raises(SqueezeError, match=words):
        TARGETS[name].read(make())


def test_a_log_keeps_its_good_lines_whatever_stands_between():
    good = b'{"step": 1, "loss": 2.5}\n'
    lines = [b"\xff\xfe\n", b"3\n", b'{"step": "x"}\n', b"[" * 100_000 + b"\n"]
    assert TARGETS["log"].read(good + b"".join(lines)) == [{"step": 1, "loss": 2.5}]
