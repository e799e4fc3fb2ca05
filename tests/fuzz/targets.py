"""Every reader of files that strangers write, each as a function of bytes. Readers may only refuse.

A target returns, or raises SqueezeError; any other exception, a hang or a giant allocation is a crash.
`repair` makes mutated bytes pass a checksum, so that what lies behind it is reached.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """read: the reader. text: whether its files are JSON or lines of text. repair: see above."""

    name: str
    read: Read
    text: bool = False
    repair: Callable[[bytes], bytes] = bytes


def folder() -> Path:
    """This process's folder for files that readers open by path."""
    global _folder
    if _folder is None:
        room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        _folder = tempfile.TemporaryDirectory(prefix="squeeze-fuzz-", dir=room)
    return Path(_folder.name)


_folder: tempfile.TemporaryDirectory[str] | None = None


def by_path(read: Callable[[Path], object], name: str) -> Read:
    """A reader of paths as one of bytes."""

    def target(data: bytes) -> object:
        path = folder() / name
        path.write_bytes(data)
        return read(path)

    return target


def _sqz(data: bytes) -> object:
    from squeeze.artifact.file import decode
    from squeeze.ledger.attribute import artifact_rows

    artifact_rows("m.sqz", data)
    return decode(data)


def _repair_sqz(data: bytes) -> bytes:
    """The checksum of docs/format.md §1."""
    if len(data) < 22:
        return data
    checksum = zlib.crc32(data[14:], zlib.crc32(data[:10]))
    return data[:10] + checksum.to_bytes(4, "little") + data[14:]


def _checkpoint(path: Path) -> object:
    from squeeze.checkpoint.read import load_checkpoint

    return load_checkpoint(path)


def _outside(name: str) -> Read:
    def target(data: bytes) -> object:
        from squeeze.outside.registry import read

        found = read(name, data, with_floors=True)
        assert found is None or sum(row.bytes for row in found.rows) == len(data)
        return found

    return target


def _zlib_inside(data: bytes) -> bytes:
    """Mutations of what is compressed, not only of the stream."""
    return zlib.compress(data, 1) if data[:4] == b"PK\x03\x04" else data


def _shard(path: Path) -> object:
    from squeeze.train.data.shards import map_shard, read_shard

    return read_shard(path, 64), map_shard(path)


def _tokenizer(path: Path) -> object:
    from squeeze.score.tokenizer import Tokenizer

    return Tokenizer(path)


def _plan(path: Path) -> object:
    from squeeze.packing.plan import Plan
    from squeeze.views.what_if import foresee

    plan = Plan.load(path)
    return plan.as_json(), foresee(plan, {})


def _gate(path: Path) -> object:
    from squeeze.ledger.gate import gate

    return gate(path, 5, "1%", "key")


def _code_report(path: Path) -> object:
    from squeeze.views.code import parts_csv, read_parts

    return parts_csv(read_parts(path))


def _report(path: Path) -> object:
    from squeeze.score.seeds.compare import read_seeds, spread

    seeds = read_seeds([path])
    return spread([report.bpb for report in seeds.reports])


def _proof(data: bytes) -> object:
    from squeeze.score.proof.file import Proof
    from squeeze.score.proof.predictor import read_mode

    return read_mode(Proof.from_bytes(data).mode)


def _repair_proof(data: bytes) -> bytes:
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def _hello(data: bytes) -> object:
    from squeeze.score.audit.client import Hello

    return Hello.parse(data)


def _answers(data: bytes) -> object:
    """A conversation in which the submission says these bytes: a hello, a row of scores, a report."""
    from types import SimpleNamespace

    import numpy as np

    from squeeze.score.audit.client import Session

    path = folder() / "answers"
    path.write_bytes(data)
    with path.open("rb") as said, open(os.devnull, "wb") as heard:
        box = SimpleNamespace(
            process=SimpleNamespace(stdin=heard, stdout=said, wait=lambda timeout: 0),
            limits=SimpleNamespace(seconds=5.0, report_seconds=5.0),
            stderr="",
            was_over=False,
            input_path=str,
        )
        session = Session(box, 2)  # type: ignore[arg-type]
        rows = session.score(np.zeros(1, np.uint16))
        return rows, session.report("data", "tokenizer", 2)


def _claims(data: bytes) -> object:
    from squeeze.score.audit.submission import load_submission

    inside = folder() / "submission"
    inside.mkdir(exist_ok=True)
    (inside / "train_gpt.py").write_bytes(b"")
    (inside / "submission.json").write_bytes(data)
    return load_submission(inside)


def _entrant(name: str) -> Read:
    """Return a reader that reviews a folder of an entrant in which one file is its bytes."""

    def read(data: bytes) -> object:
        from squeeze.review.review import review
        from tests.entries import Log, make_entry

        inside = folder() / "entrant"
        make_entry(inside, {f"train_seed{seed}.log": Log(seed) for seed in (1, 2)})
        (inside / name).write_bytes(data)
        result = review(inside)
        assert json.dumps(result.as_json()) and result.markdown()
        return True

    return read


def _parent(data: bytes) -> object:
    from squeeze.submit.parent import read_parent

    inside = folder() / "parent"
    inside.mkdir(exist_ok=True)
    (inside / "submission.json").write_bytes(data)
    return read_parent(inside).as_json({"model": {"num_layers": 2}})


def _papers(data: bytes) -> object:
    """submission.json as what is checked of it alone, and the page that would be written of it."""
    from squeeze.ledger.table import Ledger
    from squeeze.submit.card import card
    from squeeze.submit.claims import check_fields
    from squeeze.submit.plain import parse_object
    from squeeze.views.totals import Total, Totals

    claims = parse_object(data, "submission.json")
    check_fields(claims)
    none = Total(0, "")
    return card(claims, Ledger((), {}), Totals(none, none, none, {}, ""))


def _run_log(path: Path) -> object:
    from squeeze.submit.seeds import read_seed_runs

    return [run.as_json() for run in read_seed_runs([f"1={path}"]).runs]


def _training(path: Path) -> object:
    from squeeze.submit.seeds import read_training

    return read_training(path)


def _requirements(data: bytes) -> object:
    from squeeze.submit.imports import imports_of_script

    return imports_of_script(data)


def _state(path: Path) -> object:
    from squeeze.train.run.state import load_state

    return load_state(path)


def _metadata(path: Path) -> object:
    from squeeze.train.metadata import read_metadata

    return read_metadata(path)


def _log(path: Path) -> object:
    from squeeze.train.run.log import read_steps

    return read_steps(path)


def _model_config(data: bytes) -> object:
    from squeeze.train.model.config import ModelConfig

    return ModelConfig.from_json(data.decode("utf-8", "replace"))


def _manifest(data: bytes) -> object:
    from squeeze.data.fetch import read_manifest

    return read_manifest(data, "sp1024", 1)


def _hessians(path: Path) -> object:
    from squeeze.calib.statistics.hessian import Hessians

    return Hessians.load(path, "key")


def _gradients(path: Path) -> object:
    from squeeze.calib.statistics.fisher import OutputGradients

    return OutputGradients.load(path, "key")


def _calibration_text(path: Path) -> object:
    from squeeze.calib.text.sources import Sequences

    return Sequences.load(path, "key")


def _tokenizing(data: bytes) -> object:
    """What a killed `squeeze data tokenize` goes on from."""
    from squeeze.data.tokenize import PENDING, Job, _Shards

    inside = folder() / "shards"
    inside.mkdir(exist_ok=True)
    (inside / PENDING).write_bytes(data)
    return _Shards(inside, Job((), "", 0.5, 100, None, "text")).report()


def _fetched(data: bytes) -> object:
    from squeeze.data.fetch import _read_record

    return _read_record(data)


def _sums(data: bytes) -> object:
    from squeeze.data.sources import parse_sums

    return parse_sums(data.decode("utf-8", "replace"))


TARGETS = {
    target.name: target
    for target in (
        Target("sqz", _sqz, repair=_repair_sqz),
        Target("ptz", by_path(_checkpoint, "m.ptz")),
        Target("ptz-inside", by_path(_checkpoint, "m.ptz"), repair=_zlib_inside),
        Target("pt", by_path(_checkpoint, "m.pt")),
        Target("safetensors", by_path(_checkpoint, "m.safetensors")),
        Target("foreign", _outside("m.ptz")),
        Target("foreign-inside", _outside("m.ptz"), repair=_zlib_inside),
        Target("llama-bin", _outside("m.bin")),
        Target("script", _outside("train_gpt.py")),
        Target("shard", by_path(_shard, "s.bin")),
        Target("tokenizer", by_path(_tokenizer, "t.model")),
        Target("plan", by_path(_plan, "plan.json"), text=True),
        Target("gate", by_path(_gate, "base.json"), text=True),
        Target("code-report", by_path(_code_report, "code.json"), text=True),
        Target("eval-report", by_path(_report, "report.json"), text=True),
        Target("proof", _proof, repair=_repair_proof),
        Target("hello", _hello, text=True),
        Target("answers", _answers),
        Target("submission", _claims, text=True),
        Target("entrant-claims", _entrant("submission.json"), text=True),
        Target("entrant-log", _entrant("train_seed1.log"), text=True),
        Target("parent", _parent, text=True),
        Target("papers", _papers, text=True),
        Target("run-log", by_path(_run_log, "train.log"), text=True),
        Target("training", by_path(_training, "train.json"), text=True),
        Target("imports", _requirements, text=True),
        Target("run-state", by_path(_state, "run.state")),
        Target("metadata", by_path(_metadata, "m.safetensors")),
        Target("log", by_path(_log, "log.jsonl"), text=True),
        Target("model-config", _model_config, text=True),
        Target("manifest", _manifest, text=True),
        Target("sums", _sums, text=True),
        Target("hessians", by_path(_hessians, "hessians.safetensors")),
        Target("gradients", by_path(_gradients, "gradients.safetensors")),
        Target("calibration-text", by_path(_calibration_text, "text.safetensors")),
        Target("tokenizing", _tokenizing),
        Target("fetched", _fetched, text=True),
    )
}
