"""Links and names that lead elsewhere: nothing outside the named output is written or removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.files import scratch_folder, write_atomic
from squeeze.packing.kept import KeptCodes
from squeeze.tensors.quantized import RawTensor
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(300, 1, 16, 2, 1, 16, seq_len=16)
LEADING_OUT = [
    "../../escaped",
    "/tmp/escaped",
    "~/escaped",
    "a/../../escaped",
    "..",
    "con",
    "a\\..\\b",
]


def tensors() -> dict[str, RawTensor]:
    state = GPT(CONFIG, seed=1).state_dict()
    return {name: RawTensor(t.numpy().view(np.uint32), "fp32") for name, t in state.items()}


def artifact(**more: RawTensor) -> bytes:
    return encode(Artifact({"model": json.loads(CONFIG.to_json())}, {**tensors(), **more}))


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two levels down, to work in."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_tensor_whose_name_is_a_path_writes_no_file(
    name: str, inside: Path, tmp_path: Path
) -> None:
    odd = RawTensor(np.zeros(4, np.uint32), "fp32")
    (inside / "m.sqz").write_bytes(artifact(**{name: odd}))
    result = CliRunner().invoke(cli, ["unpack", "m.sqz", "-o", "m.safetensors"])
    assert isinstance(result.exception, SqueezeError)  # the configuration has no such tensor
    assert everything(tmp_path) == ["a", "a/b", "a/b/m.sqz"]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_codes_are_kept_under_hashes_of_names(name: str, inside: Path, tmp_path: Path) -> None:
    from squeeze.tensors.quantized import QuantizedTensor

    steps = np.full(2, 0x3C00, np.uint16)
    tensor = QuantizedTensor(np.ones((2, 4), np.int8), steps, (2, 4), "uniform", "fp16", "fp32")
    kept = KeptCodes(inside / "codes", "key")
    kept.code(name, 1.0, 0, tensor)
    (only,) = (path.name for path in (inside / "codes").iterdir())
    assert len(only) == 36 and kept.find(name, 1.0, 0) is not None
    assert everything(tmp_path) == ["a", "a/b", "a/b/codes", f"a/b/codes/{only}"]


@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_is_a_link_is_replaced_and_what_it_leads_to_is_not(
    there: bool, inside: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"precious")
    (inside / "m.sqz").write_bytes(artifact())
    (inside / "m.safetensors").symlink_to(victim)
    assert CliRunner().invoke(cli, ["unpack", "m.sqz", "-o", "m.safetensors"]).exit_code == 0
    assert not (inside / "m.safetensors").is_symlink()
    assert (victim.read_bytes() if there else victim.exists()) == (b"precious" if there else False)


def test_unpacking_over_a_folder_is_one_clear_error(inside: Path) -> None:
    (inside / "m.sqz").write_bytes(artifact())
    (inside / "m.safetensors").mkdir()
    result = CliRunner().invoke(cli, ["unpack", "m.sqz"])
    assert isinstance(result.exception, SqueezeError)
    assert "cannot be written" in str(result.exception)
    assert everything(inside) == ["m.safetensors", "m.sqz"]


def test_unpacking_without_a_name_leaves_the_checkpoint_that_was_packed(inside: Path) -> None:
    (inside / "m.sqz").write_bytes(artifact())
    (inside / "m.safetensors").write_bytes(b"precious")
    result = CliRunner().invoke(cli, ["unpack", "m.sqz"])
    assert isinstance(result.exception, SqueezeError) and "-o" in str(result.exception)
    assert (inside / "m.safetensors").read_bytes() == b"precious"


def test_clearing_up_follows_no_link(inside: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x")
    (inside / ".m.abcd1234.unfinished").symlink_to(tmp_path / "precious" / "file")
    (inside / "work-abcd1234.unfinished").symlink_to(tmp_path / "precious")
    (inside / "work-wxyz1234.unfinished").mkdir()
    (inside / "work-wxyz1234.unfinished" / "out").symlink_to(tmp_path / "precious")
    write_atomic(inside / "m", b"new")
    with scratch_folder("work-", inside):
        pass
    assert (tmp_path / "precious" / "file").read_bytes() == b"x"
    assert not (inside / "work-wxyz1234.unfinished").exists()


def test_a_checkpoint_may_be_read_through_a_link(inside: Path, tmp_path: Path) -> None:
    (tmp_path / "real.sqz").write_bytes(artifact())
    (inside / "m.sqz").symlink_to(tmp_path / "real.sqz")
    assert CliRunner().invoke(cli, ["unpack", "m.sqz"]).exit_code == 0
    assert (inside / "m.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "real.sqz"]


def test_an_input_that_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, kind in ((tmp_path / "pipe", "a pipe"), ("/dev/null", "a device")):
        result = CliRunner().invoke(cli, ["budget", str(name)])
        assert isinstance(result.exception, SqueezeError) and f"found {kind}" in str(
            result.exception
        )


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/mem", "/dev/stdin", "/"])
def test_what_is_no_regular_file_is_never_read(name: str) -> None:
    for arguments in (["unpack", name], ["inspect", name], ["data", "check", name], ["pack", name]):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code != 0 and (
            isinstance(result.exception, SqueezeError) or "no such file" in result.output
        ), (arguments, result.output, result.exception)
