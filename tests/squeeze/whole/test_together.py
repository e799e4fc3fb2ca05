"""Commands at work on one path at the same time: they refuse, or leave and see whole files."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from squeeze.artifact.file import decode, encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.files import atomic_writer, held, scratch_folder, write_atomic
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from squeeze.train.model.config import ModelConfig

CONFIG = ModelConfig(300, 1, 16, 2, 1, 16, seq_len=16)


def training(data: Path, out: Path) -> list[str]:
    return ["train", "--data", str(data), "--out", str(out), "--config", CONFIG.to_json(), "--steps",
            "2", "--set", "batch_tokens=32", "--no-plot", "--threads", "1"]  # fmt: skip


def test_a_second_training_to_one_path_is_refused_and_spoils_nothing(tmp_path: Path) -> None:
    data, out, log = (tmp_path / name for name in ("d.bin", "m.safetensors", "m.jsonl"))
    write_shard(data, np.arange(200, dtype=np.uint16))
    log.write_text('{"event": "begin"}\n')
    out.write_bytes(b"a model")
    with held(log, "training"):
        result = CliRunner().invoke(cli, training(data, out))
    assert isinstance(result.exception, SqueezeError)
    assert "another training is at work here" in str(result.exception)
    assert log.read_text() == '{"event": "begin"}\n' and out.read_bytes() == b"a model"
    assert sorted(os.listdir(tmp_path)) == ["d.bin", "m.jsonl", "m.safetensors"]
    assert CliRunner().invoke(cli, training(data, out)).exit_code == 0  # once the first has ended


def artifact(value: float, size: int) -> bytes:
    bits = np.full(size, value, np.float32).view(np.uint32)
    return encode(Artifact({"model": {}}, {"a": RawTensor(bits, "fp32")}))


def test_budget_of_a_file_that_is_written_again_and_again_sees_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "m.sqz"
    files = [artifact(1.5, 64), artifact(2.5, 4096)]
    write_atomic(path, files[0])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            write_atomic(path, files[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for _ in range(30):
            result = CliRunner().invoke(cli, ["budget", str(path), "--json"])
            assert result.exit_code == 0, result.exception
            report = json.loads(result.stdout)
            assert report["unattributed"] == 0
            seen.add(report["total"])
    finally:
        stop.set()
        writer.join()
    assert seen <= {len(data) for data in files}
    decode(path.read_bytes())
    assert os.listdir(tmp_path) == ["m.sqz"]


def test_a_writer_removes_what_a_killed_one_left_but_not_what_another_is_writing(
    tmp_path: Path,
) -> None:
    target = tmp_path / "m"
    abandoned = tmp_path / ".m.abcd1234.unfinished"
    abandoned.write_bytes(b"half of a fi")
    (tmp_path / ".other.abcd1234.unfinished").write_bytes(b"of another file")
    (tmp_path / ".m.settings").write_bytes(b"the user's own")
    with atomic_writer(target) as slow:
        slow.write(b"slow")
        write_atomic(target, b"quick")
        assert target.read_bytes() == b"quick"
    assert target.read_bytes() == b"slow"
    assert sorted(os.listdir(tmp_path)) == [".m.settings", ".other.abcd1234.unfinished", "m"]


def test_folders_of_killed_processes_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    abandoned = tmp_path / "work-abcd1234.unfinished"
    (abandoned / "inside").mkdir(parents=True)
    with scratch_folder("work-", tmp_path) as first:
        with scratch_folder("work-", tmp_path) as second:
            assert first.is_dir() and second.is_dir() and not abandoned.exists()
        assert os.listdir(tmp_path) == [first.name]
    assert os.listdir(tmp_path) == []


def test_many_writers_to_one_path_all_succeed_and_one_file_is_left(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                write_atomic(tmp_path / "m", bytes([number]) * 3000)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert len(set((tmp_path / "m").read_bytes())) == 1
    assert os.listdir(tmp_path) == ["m"]
