"""Files that are the model, and files that are only about it: by content, whatever they are called."""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import squeeze
from squeeze.cli import cli
from squeeze.errors import NoModel, SqueezeError
from squeeze.ledger.submission import shipped_bytes
from squeeze.review.review import review
from squeeze.views.totals import totals
from tests.squeeze.outside.exports import int8_export

SCRIPT = b"import torch\nprint('trains')\n"
CODES = np.arange(-31, 32, dtype=np.int8).repeat(20)


def numpy_archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, codes=CODES)
    return file.getvalue()


# Models in formats that the ledger does not take apart, or under a name that says nothing.
MODELS: dict[str, Callable[[], bytes]] = {
    "model.npz": numpy_archive,
    "model.pkl": lambda: pickle.dumps({"codes": CODES}),
    "model.gguf": lambda: b"GGUF\3\0\0\0" + CODES.tobytes(),
    "weights": CODES.tobytes,
    "codes.dat": lambda: zlib.compress(int8_export()),
}


def folder_of(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "entry"
    for name, data in {"train_gpt.py": SCRIPT, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_any_format_counts_in_all_three_totals(tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    counts = totals(folder_of(tmp_path, **{name: model}))
    assert counts.rule.bytes == counts.shipped.bytes == len(SCRIPT) + len(model)
    assert name in counts.rule.counted
    assert (counts.virtual.bytes or 0) > len(model)


@pytest.mark.parametrize("name", ["plot.png", "notes.md", "weights.log", "submission.json"])
@pytest.mark.parametrize("known", [True, False])
def test_weights_that_are_called_like_papers_count(tmp_path: Path, name: str, known: bool) -> None:
    model = zlib.compress(int8_export()) if known else CODES.tobytes()
    ledger = squeeze.budget(folder_of(tmp_path, **{name: model, "README.md": b"# about\n"}))
    assert ledger.has_model and shipped_bytes(ledger) == len(SCRIPT) + len(model)
    assert ledger.papers == {"entry/README.md": 8}


def test_papers_are_text_and_pictures(tmp_path: Path) -> None:
    papers = {
        "loss.PNG": b"\x89PNG\r\n\x1a\n\0\0",
        "loss.jpg": b"\xff\xd8\xff\xe0\0",
        "Readme.MD": b"# exec decompress\n",
        "train.log": "loss 1 é\n".encode("utf-16"),
        "LICENSE.txt": b"MIT",
        "page.html": b"<!doctype html>",
        "submission.json": b'{"blurb": "decompress and exec"}',
    }
    ledger = squeeze.budget(folder_of(tmp_path, **papers))
    assert set(ledger.papers) == {f"entry/{name}" for name in papers}
    assert shipped_bytes(ledger) == len(SCRIPT) and not ledger.has_model


@pytest.mark.parametrize("call", ['open("codes.csv").read()', 'Path("codes.csv").read_bytes()'])
def test_a_paper_that_the_script_reads_counts_as_the_review_counts_it(
    tmp_path: Path, call: str
) -> None:
    files = {"codes.csv": b"7" * 5000, "notes.csv": b"8" * 400, "m.ptz": CODES.tobytes()}
    folder = folder_of(tmp_path, **files | {"train_gpt.py": f"codes = {call}\n".encode()})
    ledger = squeeze.budget(folder)
    assert shipped_bytes(ledger) == sum(map(len, files.values())) + 2 + len(call) + 7 - 400
    assert [note for note in ledger.notes if "codes.csv: read by train_gpt.py" in note]
    (size,) = [row for row in review(folder).findings if row.id == "bytes"]
    assert size.data["total"] == shipped_bytes(ledger)


@pytest.mark.parametrize(
    "name", ["__pycache__/train_gpt.cpython-311.pyc", ".git/index", ".git/objects/ab/cdef"]
)
def test_what_tools_leave_behind_is_no_model(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, **{name: zlib.compress(bytes(99))})
    with pytest.raises(NoModel):
        squeeze.budget(folder, limit=1000)
    result = CliRunner().invoke(cli, ["budget", str(folder)])
    assert isinstance(result.exception, NoModel) and "no model" in result.stdout


def test_a_model_that_is_not_taken_apart_has_no_weights_of_zero_bits(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, **{"model.npz": numpy_archive()})
    said = CliRunner().invoke(cli, ["budget", str(folder)]).stdout
    assert "no weights told apart" in said and "0 weights" not in said


def test_a_ledger_of_nothing_is_refused() -> None:
    with pytest.raises(SqueezeError, match="no paths"):
        squeeze.budget([], limit=1)


def test_an_error_about_an_artifact_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "cut.sqz").write_bytes(b"SQZ\x1a")
    for call in (squeeze.budget, squeeze.load, squeeze.inspect):
        with pytest.raises(SqueezeError, match=r"cut\.sqz: file ends"):
            call(tmp_path / "cut.sqz")
