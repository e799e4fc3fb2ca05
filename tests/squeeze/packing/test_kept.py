"""What a pack keeps: killed at any moment it goes on and ends with the same bytes; damage is found."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.packing.plan import Plan
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(128, 2, 64, 2, 1, 96, seq_len=32)
LIMIT = 12_000

# Runs the command line, and ends the process the hard way when it is about to finish a file.
KILLER = """
import os, signal, sys
left, replace = int(sys.argv.pop(1)), os.replace

def counted(*names):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return replace(*names)

os.replace = counted
from squeeze.cli import main
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tensors = {name: t.clone() for name, t in GPT(CONFIG, seed=5).state_dict().items()}
    for name, tensor in tensors.items():
        if name.endswith("proj.weight"):
            tensor.normal_(std=0.02)
    save_file(tensors, path, {"squeeze.config": CONFIG.to_json()})
    return path


def arguments(model: Path, out: Path) -> list[str]:
    fixed = ["--preset", "fast", "--tokens", "128", "--limit", str(LIMIT)]
    return ["pack", str(model), "-o", str(out), *fixed]


def pack(model: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, [*arguments(model, out), *more], catch_exceptions=False)


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "model.sqz"
    assert pack(model, out).exit_code == 0
    return out


def test_a_pack_killed_again_and_again_ends_with_the_same_bytes(
    model: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.sqz"
    cache = tmp_path / "model.sqz.cache"
    kept = []
    for finished in (1, 6):  # files of this run before the end: text; the rest and codes
        command = [sys.executable, "-c", KILLER, str(finished), *arguments(model, out)]
        ended = subprocess.run(command, capture_output=True, timeout=300)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        kept.append(len(list(cache.rglob("*.s*"))))
    assert kept == sorted(set(kept))  # every run found what the one before had kept
    assert not out.exists()
    assert pack(model, out).exit_code == 0
    assert out.read_bytes() == uninterrupted.read_bytes()


def test_a_second_pack_of_the_same_settings_searches_nothing(
    model: Path, uninterrupted: Path
) -> None:
    before = uninterrupted.read_bytes()
    again = pack(model, uninterrupted)
    assert again.exit_code == 0
    assert "scale" not in again.stderr
    assert uninterrupted.read_bytes() == before


def test_another_limit_is_another_plan(model: Path, uninterrupted: Path) -> None:
    plan = uninterrupted.with_name("model.sqz.cache") / "plan.json"
    key = Plan.load(plan).key
    result = pack(model, uninterrupted, "--limit", str(LIMIT + 2000))
    assert "scale" in result.stderr
    assert Plan.load(plan).key != key
    assert pack(model, uninterrupted).exit_code == 0  # for the tests that follow


@pytest.mark.parametrize(
    "damaged", ["plan.json", "text.safetensors", "codes", "hessians.safetensors"]
)
def test_damage_is_found_told_and_made_good(model: Path, uninterrupted: Path, damaged: str) -> None:
    before, cache = uninterrupted.read_bytes(), uninterrupted.with_name("model.sqz.cache")
    victim = cache / damaged
    if victim.is_dir():
        victim = min(victim.iterdir())
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    report = json.loads(pack(model, uninterrupted, "--json").stdout)
    assert any(victim.name in note for note in report["notes"])
    assert uninterrupted.read_bytes() == before


def test_folders_among_the_kept_files_are_left_alone(model: Path, uninterrupted: Path) -> None:
    """Such as those that file managers and notebooks make."""
    cache = uninterrupted.with_name("model.sqz.cache")
    odd = [cache / "codes" / ".checkpoints", cache / "other.safetensors"]
    for folder in odd:
        folder.mkdir()
    for more in ([], ["--fresh"]):
        assert pack(model, uninterrupted, *more).exit_code == 0
    for folder in odd:
        folder.rmdir()


def test_kept_files_that_may_not_be_looked_at_are_one_error(
    model: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path.is_file` raises where a folder of another user is closed; nobody closes one to root."""
    stat = os.stat

    def closed(path: Any, **options: Any) -> os.stat_result:
        if "/codes/" in str(path) or str(path).endswith("plan.json"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    before = uninterrupted.read_bytes()
    with monkeypatch.context() as other:
        other.setattr("os.stat", closed)
        with pytest.raises(SqueezeError, match="cannot be written: Permission denied"):
            pack(model, uninterrupted)
    assert uninterrupted.read_bytes() == before


def test_starting_over_uses_nothing_that_was_kept(model: Path, uninterrupted: Path) -> None:
    before = uninterrupted.read_bytes()
    result = pack(model, uninterrupted, "--fresh")
    assert "scale" in result.stderr
    assert uninterrupted.read_bytes() == before


def test_codes_that_other_code_kept_are_made_again(
    model: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = uninterrupted.read_bytes()
    with monkeypatch.context() as other:
        other.setattr("squeeze.packing.target.code_sha256", lambda: "of another version")
        assert "scale" in pack(model, uninterrupted).stderr
    assert uninterrupted.read_bytes() == before
    assert pack(model, uninterrupted).exit_code == 0  # for the tests that follow


def test_only_the_final_codes_stay(uninterrupted: Path) -> None:
    cache = uninterrupted.with_name("model.sqz.cache")
    assert len(list((cache / "codes").iterdir())) == len(Plan.load(cache / "plan.json").scales)


def test_two_packs_to_one_path_do_not_mix(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.sqz"
    cache = tmp_path / "model.sqz.cache"
    cache.mkdir()
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Exception, match="another pack is at work here"):
            pack(model, out)
    assert not out.exists()
