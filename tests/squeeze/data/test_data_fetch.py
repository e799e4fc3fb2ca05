"""Fetching from a local stand-in: layout, resumption, checksums, and every way a source can be wrong."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from squeeze.cli import cli
from squeeze.data import fetch as fetching
from squeeze.data import sources
from squeeze.data.fetch import FetchOptions, read_manifest
from squeeze.data.sources import SUMS, open_source, parse_sums
from squeeze.errors import BadData, CorruptData, SqueezeError
from squeeze.train.data.shards import read_shard, write_shard

MANIFEST = {
    "datasets": [
        {
            "name": "fineweb10B_sp1024",
            "tokenizer_name": "sp1024",
            "stats": {"files_train": 3, "files_val": 1},
        },
        {"name": "fineweb10B_sp9", "tokenizer_name": "gone", "stats": {"files_train": 1}},
    ],
    "tokenizers": [{"name": "sp1024", "model_path": "tokenizers/sp1024.model"}],
}
TRAIN, VAL = "datasets/fineweb10B_sp1024/fineweb_train_", "datasets/fineweb10B_sp1024/fineweb_val_"


def fetch(out: Path, variant: str, *options: object, **more: object) -> dict[str, Any]:
    return fetching.fetch(out, variant, FetchOptions(*options, **more))  # type: ignore[arg-type]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A copy of the challenge's layout, with checksums."""
    folder = tmp_path / "origin"
    (folder / "datasets/fineweb10B_sp1024").mkdir(parents=True)
    (folder / "tokenizers").mkdir()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "tokenizers/sp1024.model").write_bytes(b"pieces")
    for number in range(3):
        write_shard(folder / f"{TRAIN}{number:06d}.bin", np.full(5000, number, np.uint16))
    write_shard(folder / f"{VAL}000000.bin", np.arange(700, dtype=np.uint16))
    write_sums(folder)
    return folder


def write_sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*.bin"))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n"
        for path in files
    ]
    (folder / SUMS).write_text("".join(lines))


class Server:
    """Serves a folder with ranges; may break connections, forget ranges, or refuse."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: dict[str, int] = {}  # bytes of a path before the connection breaks, once
        self.ranges = True
        self.status = 200
        self.tag: str | None = None  # of all files
        self.conditions = True  # heeds If-Range
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, wanted = self.path.lstrip("/"), self.headers.get("Range")
                server.requests.append((path, wanted))
                file = folder / path
                if server.status != 200 or not file.is_file():
                    self.send_error(server.status if server.status != 200 else 404)
                    return
                data, start = file.read_bytes(), 0
                condition = self.headers.get("If-Range")
                changed = server.conditions and condition not in (None, server.tag)
                if wanted and server.ranges and not changed:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                if server.tag is not None:
                    self.send_header("ETag", server.tag)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                stop = server.break_after.pop(path, None)
                self.wfile.write(data[start:stop])

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(origin: Path) -> Iterator[Server]:
    running = Server(origin)
    yield running
    running.close()


def same_files(out: Path, origin: Path, train: int) -> None:
    for number in range(train):
        path = f"{TRAIN}{number:06d}.bin"
        assert (out / path).read_bytes() == (origin / path).read_bytes()
    assert (read_shard(out / f"{VAL}000000.bin") == np.arange(700)).all()
    assert (out / "tokenizers/sp1024.model").read_bytes() == b"pieces"


def test_a_folder_is_copied_and_checked(origin: Path, tmp_path: Path) -> None:
    report = fetch(tmp_path / "out", "sp1024", 2, str(origin))
    same_files(tmp_path / "out", origin, train=2)
    assert report["train"] == {"shards": 2, "tokens": 10_000}
    assert report["validation"] == {"shards": 1, "tokens": 700, "canonical": False}
    assert report["fetched"] == 5 and report["kept"] == 0  # with the manifest
    assert len(report["checked_against_source"]) == 3
    assert not (tmp_path / "out" / ".partial").exists()


def test_what_is_there_is_not_fetched_again(server: Server, origin: Path, tmp_path: Path) -> None:
    fetch(tmp_path, "sp1024", 1, server.url)
    server.requests.clear()
    report = fetch(tmp_path, "sp1024", None, server.url)
    same_files(tmp_path, origin, train=3)
    assert report["kept"] == 3 and report["fetched"] == 3
    asked = [path for path, _ in server.requests]
    assert f"{TRAIN}000000.bin" not in asked and f"{TRAIN}000002.bin" in asked


def test_a_broken_connection_is_taken_up_where_it_broke(
    server: Server, origin: Path, tmp_path: Path
) -> None:
    path = f"{TRAIN}000000.bin"
    server.break_after[path] = 3000
    fetch(tmp_path, "sp1024", 1, server.url)
    same_files(tmp_path, origin, train=1)
    assert (path, "bytes=3000-") in server.requests


def test_a_fetch_that_was_killed_goes_on(server: Server, origin: Path, tmp_path: Path) -> None:
    path = f"{TRAIN}000000.bin"
    partial = tmp_path / ".partial" / path.replace("/", "__")
    partial.parent.mkdir()
    partial.write_bytes((origin / path).read_bytes()[:4321])
    fetch(tmp_path, "sp1024", 1, server.url)
    same_files(tmp_path, origin, train=1)
    assert (path, "bytes=4321-") in server.requests


def broken_off(server: Server, origin: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fetch without checksums until the first shard breaks off, then put another in its place."""
    path = f"{TRAIN}000000.bin"
    (origin / SUMS).unlink()
    server.break_after[path] = 3000
    monkeypatch.setattr(sources, "TRIES", 1)
    with pytest.raises(SqueezeError, match="closed early"):
        fetch(out, "sp1024", 1, server.url)
    monkeypatch.undo()
    server.requests.clear()
    return path


def test_a_file_that_is_still_the_same_goes_on(
    server: Server, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tag = '"one"'
    path = broken_off(server, origin, tmp_path, monkeypatch)
    fetch(tmp_path, "sp1024", 1, server.url)
    assert (path, "bytes=3000-") in server.requests
    same_files(tmp_path, origin, train=1)
    assert not (tmp_path / ".partial").exists()


@pytest.mark.parametrize("tag", [None, '"two"', 'W/"one"'])
@pytest.mark.parametrize("conditions", [True, False])
def test_bytes_of_two_files_are_not_joined(
    server: Server,
    origin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tag: str | None,
    conditions: bool,
) -> None:
    server.tag, server.conditions = tag if tag is None else '"one"', conditions
    path = broken_off(server, origin, tmp_path, monkeypatch)
    write_shard(origin / path, np.full(5000, 99, np.uint16))
    server.tag = tag
    fetch(tmp_path, "sp1024", 1, server.url)
    same_files(tmp_path, origin, train=1)


@pytest.mark.parametrize("tag", [None, '"one"'])
def test_bytes_of_two_servers_are_not_joined(
    server: Server,
    origin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tag: str | None,
) -> None:
    server.tag = tag
    path = broken_off(server, origin, tmp_path / "out", monkeypatch)
    mirror = tmp_path / "mirror"
    shutil.copytree(origin, mirror)
    write_shard(mirror / path, np.full(5000, 99, np.uint16))
    other = Server(mirror)
    other.tag = tag
    fetch(tmp_path / "out", "sp1024", 1, other.url)
    other.close()
    same_files(tmp_path / "out", mirror, train=1)


@pytest.mark.parametrize("ranges", [True, False])
def test_leftovers_of_another_file_do_not_stay(
    server: Server, origin: Path, tmp_path: Path, ranges: bool
) -> None:
    server.ranges = ranges
    partial = tmp_path / ".partial" / f"{TRAIN}000000.bin".replace("/", "__")
    partial.parent.mkdir()
    partial.write_bytes(bytes(60_000))  # longer than the shard
    fetch(tmp_path, "sp1024", 1, server.url)
    same_files(tmp_path, origin, train=1)


def test_checksums_beside_names_that_are_not_utf8_are_read(origin: Path, tmp_path: Path) -> None:
    listed = (origin / SUMS).read_bytes()
    (origin / SUMS).write_bytes(b"a" * 64 + b"  caf\xe9.bin\n" + listed)
    assert fetch(tmp_path / "out", "sp1024", 2, str(origin))["checked_against_source"]


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(origin: Path, tmp_path: Path) -> None:
    write_shard(origin / f"{TRAIN}000001.bin", np.full(5000, 77, np.uint16))
    with pytest.raises(CorruptData, match="wrong checksum"):
        fetch(tmp_path / "out", "sp1024", 2, str(origin))
    assert (tmp_path / "out" / f"{TRAIN}000000.bin").exists()
    assert not (tmp_path / "out" / f"{TRAIN}000001.bin").exists()


def test_a_shard_that_is_none_is_refused_without_checksums_too(
    origin: Path, tmp_path: Path
) -> None:
    (origin / SUMS).unlink()
    data = (origin / f"{TRAIN}000000.bin").read_bytes()
    (origin / f"{TRAIN}000000.bin").write_bytes(data[:-2])
    with pytest.raises(CorruptData, match="truncated"):
        fetch(tmp_path / "out", "sp1024", 1, str(origin))


def test_damage_after_the_fetch_is_repaired(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch(out, "sp1024", 1, str(origin))
    shard = out / f"{TRAIN}000000.bin"
    data = bytearray(shard.read_bytes())
    shard.write_bytes(data[:-4])  # another size: seen at once
    assert fetch(out, "sp1024", 1, str(origin))["kept"] == 2
    data[-1] ^= 1
    shard.write_bytes(data)  # the same size: seen by its hash
    assert fetch(out, "sp1024", 1, str(origin))["kept"] == 3
    assert fetch(out, "sp1024", 1, str(origin), verify=True)["kept"] == 2
    same_files(out, origin, train=1)


def test_files_of_unknown_origin_are_kept_when_their_checksum_is_right(
    origin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(out, "sp1024", 1, str(origin))
    (out / fetching.RECORD).write_text("not JSON")
    report = fetch(out, "sp1024", 1, str(origin))
    assert report["kept"] == 2  # the tokenizer has no checksum at the source


def test_the_official_total_is_told_from_others(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fetching.VALIDATION_TOKENS, "sp1024", 700)
    report = fetch(tmp_path / "out", "sp1024", 0, str(origin))
    assert report["validation"]["canonical"] is True


def test_more_shards_than_there_are_is_an_error(origin: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="≤ 3"):
        fetch(tmp_path / "out", "sp1024", 4, str(origin))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"{", "not a manifest"),
        (b"[]", "not a manifest"),
        (b'{"datasets":[{}],"tokenizers":[]}', "not a manifest"),
        (json.dumps(MANIFEST).encode(), "no such variant"),
    ],
)
def test_malformed_manifests_are_refused(manifest: bytes, message: str) -> None:
    with pytest.raises(BadData, match=message):
        read_manifest(manifest, "sp77", None)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "a\0b",
        "a" * 300,
        "fetched.json",
        ".partial/a",
    ],
)
def test_a_manifest_cannot_point_outside_the_folder(path: str) -> None:
    hostile = json.loads(json.dumps(MANIFEST))
    hostile["tokenizers"][0]["model_path"] = path
    with pytest.raises(BadData, match="outside"):
        read_manifest(json.dumps(hostile).encode(), "sp1024", 1)
    with pytest.raises(BadData, match="incomplete"):
        read_manifest(json.dumps(MANIFEST).encode(), "sp9", 1)
    hostile["datasets"][0]["stats"]["files_train"] = 1 << 40
    with pytest.raises(BadData, match="number of shards"):
        read_manifest(json.dumps(hostile).encode(), "sp1024", None)


def test_servers_that_fail_are_reported(server: Server, tmp_path: Path) -> None:
    server.status = 503  # which says nothing about whether it has checksums
    with pytest.raises(SqueezeError, match="cannot be asked for checksums"):
        fetch(tmp_path, "sp1024", 1, server.url)
    server.status = 403
    with pytest.raises(BadData, match="not there"):
        fetch(tmp_path, "sp1024", 1, server.url)
    server.close()
    with pytest.raises(SqueezeError, match="cannot be reached"):
        fetch(tmp_path, "sp1024", 1, server.url)


def test_a_source_is_a_folder_or_an_address(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no source"):
        open_source(str(tmp_path / "nothing"))
    assert parse_sums("nonsense\n" + "a" * 64 + " *x/y.bin\n") == {"x/y.bin": "a" * 64}


def test_the_hub_is_used_through_its_library(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the library replaced by one that serves the folder: no test reaches the network."""
    calls = []

    def list_repo_tree(self, repository, root, *, recursive, repo_type, revision):  # type: ignore[no-untyped-def]
        assert (repository, root, repo_type, revision) == ("us/them", "datasets", "dataset", "v2")
        for path in origin.rglob("*.bin"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            name = f"datasets/{path.relative_to(origin)}"
            yield SimpleNamespace(path=name, lfs=SimpleNamespace(sha256=digest))
        yield SimpleNamespace(path="datasets/manifest.json", lfs=None)

    def hf_hub_download(repository, name, *, repo_type, revision, local_dir):  # type: ignore[no-untyped-def]
        calls.append(name)
        target = Path(local_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((origin / name.removeprefix("datasets/")).read_bytes())
        return str(target)

    hub = SimpleNamespace(
        HfApi=type("HfApi", (), {"list_repo_tree": list_repo_tree}), hf_hub_download=hf_hub_download
    )
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", hub)
    report = fetch(tmp_path / "out", "sp1024", 1, None, "us/them", "v2")
    same_files(tmp_path / "out", origin, train=1)
    assert report["source"] == "hub:us/them@v2/datasets"
    assert len(report["checked_against_source"]) == 2
    assert "datasets/manifest.json" in calls


def test_without_the_hubs_library_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(SqueezeError, match=r"pip install '.\[data\]'"):
        fetch(tmp_path, "sp1024", 1)


def test_the_command_reports_what_it_did(origin: Path, tmp_path: Path) -> None:
    arguments = ["data", "fetch", "sp1024", "-o", str(tmp_path / "o"), "--from", str(origin)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "NOT the official total" in result.output and "6 files fetched" in result.output
    again = CliRunner().invoke(cli, [*arguments, "--json"])
    assert json.loads(again.stdout)["kept"] == 5
    assert sources.TRIES > 1
