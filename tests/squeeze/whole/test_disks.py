"""Full disks, read-only folders, and two writers at once: one clear error, or one whole file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from squeeze.artifact.file import decode, encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import write_shard
from squeeze.train.model.config import ModelConfig
from tests.disks import KINDS, refusing_disk
from tests.tiny_text import TEXT, write_text_files

CONFIG = ModelConfig(300, 2, 16, 2, 1, 16, seq_len=32)
OLD = ("m.sqz", "m.safetensors", "proof", "train_gpt.py", "page.html", "text.txt", "t.model",
       "seeds.svg")  # fmt: skip
BEFORE = b"what was there before"


def weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.2, shape).astype(np.float32)
        for name, shape in CONFIG.parameter_shapes().items()
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for seed in (0, 1):
        save_file(
            weights(seed), folder / f"m{seed}.safetensors", {"squeeze.config": CONFIG.to_json()}
        )
    tensors = {name: RawTensor(w.view(np.uint32), "fp32") for name, w in weights(0).items()}
    data = encode(Artifact({"model": json.loads(CONFIG.to_json())}, tensors))
    (folder / "m.sqz").write_bytes(data)
    write_text_files(folder, [TEXT])
    (folder / "entry.py").write_text("print('hello')\n")
    (folder / "text.txt").write_text(TEXT * 30)
    report = {"bpb": 1.2, "nats_per_token": 2.0, "config": {}, "mode": "window", "options": {},
              "tokens": 9, "bytes": 9, "official": None, "device_name": "x",
              "sha256": {"model": "m", "tokenizer": "t", "data": {"a": "d"}, "code": "c"},
              "versions": {"torch": "2"}}  # fmt: skip
    for name in ("a", "b"):
        report["sha256"] |= {"model": name}  # type: ignore[operator]
        (folder / f"{name}.json").write_text(json.dumps(report | {"nats_per_token": len(name)}))
    origin = folder / "origin"
    dataset = {"name": "fineweb10B_sp9", "tokenizer_name": "sp9",
               "stats": {"files_train": 1, "files_val": 1}}  # fmt: skip
    (origin / "datasets" / "fineweb10B_sp9").mkdir(parents=True)
    (origin / "manifest.json").write_text(
        json.dumps({"datasets": [dataset], "tokenizers": [{"name": "sp9"}]})
    )
    for side in ("train", "val"):
        write_shard(origin / f"datasets/fineweb10B_sp9/fineweb_{side}_000000.bin",
                    np.zeros(9, np.uint16))  # fmt: skip
    return folder


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with refusing_disk(tmp_path / "disk", request.param, dict.fromkeys(OLD, BEFORE)) as place:
        yield place


COMMANDS = {
    "pack": ["pack", "{in}/m0.safetensors", "-o", "{out}/m.sqz"],
    "pack to a target": ["pack", "{in}/m0.safetensors", "-o", "{out}/m.sqz", "--preset", "fast",
                         "--limit", "9000", "--tokens", "64"],
    "calibrate": ["calibrate", "{in}/m0.safetensors", "-o", "{out}/cache", "--tokens", "64"],
    "unpack": ["unpack", "{in}/m.sqz", "-o", "{out}/m.safetensors"],
    "train": [
        "train", "--data", "{in}/d.bin", "--out", "{out}/m.safetensors", "--steps", "1", "--set",
        "batch_tokens=64", "--set", "num_layers=1", "--set", "model_dim=16", "--set", "num_heads=2",
        "--set", "num_kv_heads=1", "--set", "mlp_hidden=16", "--set", "seq_len=16",
    ],
    "prove": [
        "prove", "{in}/m.sqz", "--tokenizer", "{in}/t.model", "--val", "{in}/d.bin", "-o",
        "{out}/proof",
    ],
    "prove --decode": [
        "prove", "{in}/m.sqz", "--tokenizer", "{in}/t.model", "--decode", "{in}/proof", "-o",
        "{out}/text.txt",
    ],
    "bundle": ["bundle", "{in}/entry.py", "-o", "{out}/train_gpt.py"],
    "stats": ["stats", "{in}/a.json", "{in}/b.json", "--plot", "{out}/seeds.svg"],
    "data tokenizer": ["data", "tokenizer", "{in}/text.txt", "-o", "{out}/t.model", "--vocab", "300"],
    "data tokenize": ["data", "tokenize", "{in}/text.txt", "--tokenizer", "{in}/t.model", "-o",
                      "{out}/shards"],
    "data fetch": ["data", "fetch", "sp9", "-o", "{out}/data", "--from", "{in}/origin"],
    "demo": ["demo", "--seconds", "1", "--out", "{out}/demo"],
    "page": ["budget", "{in}/m.sqz", "--html", "{out}/page.html"],
    "gate": ["budget", "{in}/m.sqz", "--base", "{out}/base.json", "--commit", "a"],
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "demo" else ()) for n in COMMANDS]
)
def test_a_disk_that_takes_nothing_is_one_clear_error(name: str, disk: Path, inputs: Path) -> None:
    before = sorted(path.name for path in disk.iterdir())
    if name == "prove --decode" and not (inputs / "proof").exists():
        made = [text.replace("{in}", str(inputs)).replace("{out}", str(inputs))
                for text in COMMANDS["prove"]]  # fmt: skip
        assert CliRunner().invoke(cli, made).exit_code == 0
    arguments = [text.replace("{in}", str(inputs)).replace("{out}", str(disk))
                 for text in COMMANDS[name]]  # fmt: skip
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, SqueezeError), (result.output, result.exc_info)
    message = str(result.exception)
    assert result.exception.exit_code == 1
    assert re.search("cannot be (written|made|copied)", message) and str(disk) in message
    assert "No space left" in message or "Read-only" in message
    assert "\n" not in message
    for old in OLD:
        assert (disk / old).read_bytes() == BEFORE
    assert not [path for path in disk.rglob("*") if path.name.endswith(".unfinished")]
    new = {path.name for path in disk.iterdir()}.difference(before)
    assert new <= {"m.sqz.cache", "cache", "shards", "data", "demo"}  # folders to go on with


def test_two_packs_to_one_path_leave_one_whole_file(tmp_path: Path, inputs: Path) -> None:
    target = tmp_path / "m.sqz"
    command = [sys.executable, "-m", "squeeze", "pack"]
    packs = [
        subprocess.Popen(
            [*command, str(inputs / f"m{seed}.safetensors"), "-o", str(target), "--json"],
            stdout=subprocess.DEVNULL,
        )
        for seed in (0, 1)
    ]
    seen = set()
    while any(pack.poll() is None for pack in packs):
        if target.exists():
            seen.add(target.read_bytes())
    assert [pack.returncode for pack in packs] == [0, 0]
    seen.add(target.read_bytes())
    assert len(seen) <= 2
    for data in seen:
        decode(data)  # whole, by its checksum and digest
    assert [path.name for path in tmp_path.iterdir()] == ["m.sqz"]


def test_two_writers_that_take_turns_at_every_write_do_not_mix(tmp_path: Path) -> None:
    from squeeze.files import atomic_writer

    target = tmp_path / "m"
    with atomic_writer(target) as first, atomic_writer(target) as second:
        for _ in range(50):
            first.write(b"a" * 99)
            second.write(b"b" * 99)
            first.flush()
            second.flush()
            assert not target.exists()
    assert target.read_bytes() in (b"a" * 4950, b"b" * 4950)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
