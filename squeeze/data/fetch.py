"""Fetch token shards and tokenizer of the challenge: whole, checked, and never twice."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.data.sources import Hub, Source, open_source
from squeeze.errors import BadData, CorruptData, SqueezeError
from squeeze.files import check_replaceable, file_sha256, make_folder, read_file, write_atomic
from squeeze.reporter import SILENT, Reporter
from squeeze.train.data.shards import shard_length

REPOSITORY, REVISION, ROOT = "willdepueoai/parameter-golf", "main", "datasets"
MANIFEST, RECORD, WORK = "manifest.json", "fetched.json", ".partial"
MAX_MANIFEST = 16 << 20  # bytes
MAX_SHARDS = 100_000
MAX_PATH = 200  # characters
# tokens of the whole validation set, where the challenge's totals are known (docs/rules.md)
VALIDATION_TOKENS = {"sp1024": 62_021_632, "sp8192": 40_540_160}


@dataclass(frozen=True)
class Variant:
    """Files of one variant by the manifest, as relative paths of shards and tokenizer."""

    dataset: str
    train: list[str]
    validation: list[str]
    tokenizer: list[str]

    @property
    def paths(self) -> list[str]:
        """All files, small ones first."""
        return self.tokenizer + self.validation + self.train


@dataclass(frozen=True)
class FetchOptions:
    """Options of a fetch.

    train_shards: number of training shards, from the first on; None: all. origin: folder or address
    of a copy; None: the Hub's `repository` at `revision`. verify: hash the files that are there, too.
    """

    train_shards: int | None = None
    origin: str | None = None
    repository: str = REPOSITORY
    revision: str = REVISION
    verify: bool = False


def fetch(
    out: Path,
    variant: str,
    options: FetchOptions = FetchOptions(),
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Bring a variant (`sp1024`) to the folder `out`, and return what it has.

    A file that an earlier call brought stays if its size is unchanged, and with `verify` its SHA-256.
    Every file is written under its name only when it is whole and right. Raises BadData for a variant
    or number that the source does not have, CorruptData for a wrong checksum or a malformed shard.
    """
    work = out / WORK
    make_folder(work)
    source: Source
    if options.origin:
        source = open_source(options.origin)
    else:
        source = Hub(options.repository, options.revision, ROOT, work / "hub")
    fetching = _Fetching(source, out, options.verify, reporter)
    fetching.bring(MANIFEST, always=True)
    manifest = read_file(out / MANIFEST, MAX_MANIFEST)
    wanted = read_manifest(manifest, variant, options.train_shards)
    for path in wanted.paths:
        fetching.bring(path)
    counts = {
        kind: [shard_length(out / path) for path in paths]
        for kind, paths in (("train", wanted.train), ("validation", wanted.validation))
    }
    expected, tokens = VALIDATION_TOKENS.get(variant), sum(counts["validation"])
    canonical = None if expected is None else tokens == expected
    with contextlib.suppress(OSError):
        work.rmdir()  # unless the hub's library keeps its own records there
    return {
        "source": source.name,
        "dataset": wanted.dataset,
        "folder": str(out),
        "train": {"shards": len(counts["train"]), "tokens": sum(counts["train"])},
        "validation": {
            "shards": len(counts["validation"]),
            "tokens": tokens,
            "canonical": canonical,
        },
        "tokenizer": [str(out / path) for path in wanted.tokenizer],
        "fetched": fetching.fetched,
        "kept": fetching.present,
        "sha256": {path: fetching.record[path]["sha256"] for path in wanted.paths},
        "checked_against_source": sorted(set(wanted.paths) & set(fetching.sums)),
    }


def read_manifest(data: bytes, variant: str, train_shards: int | None) -> Variant:
    """Return the files of a variant.

    data: the manifest, JSON. train_shards: None: all. Raises BadData for a malformed manifest, for a
    variant that it lacks, and for more shards than it has.
    """
    try:
        manifest = json.loads(data)
        datasets = {entry["name"]: entry for entry in manifest["datasets"]}
        tokenizers = {entry["name"]: entry for entry in manifest["tokenizers"]}
        if not all(isinstance(name, str) for name in (*datasets, *tokenizers)):
            raise TypeError("a name that is not text")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadData(f"{MANIFEST}: not a manifest of data sets", found=str(error)[:80]) from None
    name = next((n for n in (variant, f"fineweb10B_{variant}") if n in datasets), None)
    if name is None:
        raise BadData(f"{variant}: no such variant", expected=f"one of {', '.join(datasets)}")
    entry = datasets[name]
    try:
        train, validation = int(entry["stats"]["files_train"]), int(entry["stats"]["files_val"])
        tokenizer = tokenizers[entry["tokenizer_name"]]
        files = [
            tokenizer[key] for key in ("model_path", "vocab_path", "path") if tokenizer.get(key)
        ]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadData(f"{MANIFEST}: {name} is incomplete", found=f"{error!r}"[:80]) from None
    if not 0 <= train <= MAX_SHARDS or not 0 <= validation <= MAX_SHARDS:
        raise BadData(f"{MANIFEST}: number of shards", found=f"{train} and {validation}")
    if train_shards is not None and train_shards > train:
        raise BadData(f"{name}: training shards", expected=f"≤ {train}", found=train_shards)
    for path in [name, *files]:
        if not _inside(path):
            raise BadData(f"{MANIFEST}: a path outside the folder", found=str(path)[:80])
    count = train if train_shards is None else train_shards
    return Variant(
        name,
        [f"datasets/{name}/fineweb_train_{i:06d}.bin" for i in range(count)],
        [f"datasets/{name}/fineweb_val_{i:06d}.bin" for i in range(validation)],
        files,
    )


def _inside(path: object) -> bool:
    """Return whether a name of the manifest is a file below the folder and none of fetch's own."""
    if not isinstance(path, str) or not path.isprintable() or len(path) > MAX_PATH:
        return False
    parts = Path(path).parts
    return bool(parts) and parts[0] not in ("/", WORK, RECORD, MANIFEST) and ".." not in parts


class _Fetching:
    """A folder being filled; files present by the record of earlier calls are not fetched again."""

    def __init__(self, source: Source, out: Path, verify: bool, reporter: Reporter) -> None:
        self._source, self._out, self._work = source, out, out / WORK
        self._verify, self._reporter = verify, reporter
        self.sums = source.sums()
        self.fetched = self.present = 0
        self.record: dict[str, dict[str, Any]] = {}
        if (out / RECORD).is_file():
            self.record = _read_record(read_file(out / RECORD, MAX_MANIFEST))

    def bring(self, path: str, always: bool = False) -> None:
        """Bring a file to its path, whole and checked, unless it is there."""
        target = self._out / path
        if not always and self._is_here(path, target):
            self.present += 1
            return
        partial = self._work / path.replace("/", "__")
        make_folder(target.parent)
        check_replaceable(target)
        expected = self.sums.get(path)
        self._source.fetch(path, partial, expected, self._reporter)
        digest = file_sha256(partial)
        if expected is not None and digest != expected:
            partial.unlink()
            raise CorruptData(
                f"{path}: wrong checksum",
                expected=f"SHA-256 {expected}",
                found=digest,
                fix="It was deleted; run the command again.",
            )
        if path.endswith(".bin"):
            try:
                shard_length(partial)
            except BadData as error:
                partial.unlink()
                raise CorruptData(f"{path}: not a token shard: {error}") from None
        with _writing(target):
            size = partial.stat().st_size
            os.replace(partial, target)
        self.fetched += 1
        self.record[path] = {"sha256": digest, "bytes": size, "source": self._source.name}
        write_atomic(self._out / RECORD, json.dumps(self.record, indent=1).encode())

    def _is_here(self, path: str, target: Path) -> bool:
        """Return whether an earlier call brought the file; hash and record one of unknown origin."""
        if not target.is_file():
            return False
        recorded, expected = self.record.get(path), self.sums.get(path)
        if recorded is not None and expected in (None, recorded["sha256"]) and not self._verify:
            return bool(target.stat().st_size == recorded["bytes"])
        digest = file_sha256(target)
        if digest != (expected or (recorded or {}).get("sha256")):
            return False
        size = target.stat().st_size
        self.record[path] = {"sha256": digest, "bytes": size, "source": self._source.name}
        return True


def _read_record(data: bytes) -> dict[str, dict[str, Any]]:
    """Return the files that earlier calls brought; {} for a damaged record, so that all are checked."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        record = json.loads(data)
        for entry in record.values():
            entry["sha256"], entry["bytes"]
        return dict(record)
    return {}


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be written: {error.strerror or error}") from None
