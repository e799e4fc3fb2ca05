"""Outputs that are devices, pipes, sockets, folders or inputs: one clear error before any work."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from squeeze.cli import COMMANDS, cli
from squeeze.cli.parsing.values import Shards
from squeeze.errors import SqueezeError
from squeeze.files import atomic_writer, check_outputs, held, write_atomic
from squeeze.train.data.shards import write_shard
from tests.squeeze.whole.test_paths import artifact

# A command, its option or none where the path follows from an input, and what else it needs.
# {in}: a folder of inputs; what is read need not be valid, for outputs are checked first.
MODEL, DATA = "{in}/m.sqz", ["--tokenizer", "{in}/t.model", "--val", "{in}/d.bin"]
FILES = {
    "unpack -o": ["unpack", MODEL, "-o"],
    "pack -o": ["pack", MODEL, "-o"],
    "pack --preset -o": ["pack", MODEL, "--preset", "fast", "-o"],
    "pack --frontier": ["pack", MODEL, "--preset", "fast", "-o", "new.sqz", "--frontier"],
    "bundle -o": ["bundle", "{in}/entry.py", "-o"],
    "bundle --preset -o": ["bundle", "--preset", "tiny", "-o"],
    "bundle --readable": ["bundle", "{in}/entry.py", "-o", "{in}/small.py", "--readable"],
    "budget --html": ["budget", MODEL, "--html"],
    "budget --base": ["budget", MODEL, "--commit", "a", "--base"],
    "stats --plot": ["stats", "{in}/a.json", "--plot"],
    "review --markdown": ["review", "{in}", "--markdown"],
    "audit --markdown": ["audit", MODEL, *DATA, "--markdown"],
    "prove -o": ["prove", MODEL, *DATA, "-o"],
    "prove --decode -o": ["prove", MODEL, *DATA[:2], "--decode", "{in}/proof", "-o"],
    "data tokenizer -o": ["data", "tokenizer", "{in}/text.txt", "-o"],
    "train -o": ["train", "--data", "{in}/d.bin", "--steps", "1", "-o"],
}
FOLDERS = {
    "calibrate -o": ["calibrate", MODEL, "-o"],
    "data tokenize -o": ["data", "tokenize", "{in}/text.txt", *DATA[:2], "-o"],
    "data fetch -o": ["data", "fetch", "sp9", "--from", "{in}", "-o"],
    "demo --out": ["demo", "--seconds", "1", "--out"],
    "submit -o": ["submit", MODEL, *DATA, "--name", "x", "--author", "x", "--github-id", "x", "-o"],
    "train --tensorboard": ["train", "--data", "{in}/d.bin", "--steps", "1", "-o", "{in}/new",
                            "--tensorboard"],
}  # fmt: skip
# Options with a path that is read, or written through another option of the table.
READ = {
    "audit": "submission tokenizer data train_data",
    "budget": "paths code_report plan",
    "bundle": "entry",
    "calibrate": "model data settings_file",
    "data check": "train validation tokenizer",
    "data tokenize": "text tokenizer",
    "data tokenizer": "text",
    "eval": "model tokenizer data settings_file",
    "inspect": "models settings_file",
    "pack": "model code data tokenizer settings_file",
    "prove": "model tokenizer data encoded settings_file",
    "review": "folder parent",
    "stats": "run against",
    "submit": "model check tokenizer data trainings logs parents script files",
    "train": "data val tokenizer",
    "unpack": "artifact",
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "m.sqz").write_bytes(artifact())
    write_shard(folder / "d.bin", np.ones(99, np.uint16))
    for name in ("t.model", "proof", "text.txt", "a.json"):
        (folder / name).write_bytes(b"precious")
    (folder / "entry.py").write_text("import helper\nprint(helper.X)\n")
    (folder / "helper.py").write_text("X = 1\n")
    return folder


def run(arguments: list[str], inputs: Path) -> Result:
    return CliRunner().invoke(cli, [text.replace("{in}", str(inputs)) for text in arguments])


def refusal(result: Result) -> str:
    """Return the message of the one error a command must have ended with."""
    assert isinstance(result.exception, SqueezeError), (result.output, result.exc_info)
    assert result.exception.exit_code == 1
    return str(result.exception)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        pytest.skip("only root makes devices")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        server.bind(path.name)  # a whole path may be too long


KINDS: dict[str, Callable[[Path], None]] = {
    "device": make_device,
    "pipe": os.mkfifo,
    "socket": make_socket,
    "folder": os.mkdir,
    "link to a pipe": lambda path: (os.mkfifo(f"{path}.pipe"), path.symlink_to(f"{path}.pipe"))[1],
    "link to a stream": lambda path: path.symlink_to("/proc/self/fd/1"),
}


@pytest.fixture(params=KINDS)
def odd_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A path of a kind that must stay what it is."""
    before = os.getcwd()
    path = tmp_path / "odd"
    KINDS[request.param](path)
    mode = path.lstat().st_mode, path.lstat().st_ino
    yield request.param, path
    os.chdir(before)
    assert (path.lstat().st_mode, path.lstat().st_ino) == mode


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_not_written_over_what_is_none(
    name: str, odd_path: tuple[str, Path], inputs: Path
) -> None:
    kind, path = odd_path
    message = refusal(run([*FILES[name], str(path)], inputs))
    assert message.startswith(f"{path}: cannot be written; expected a regular file")
    assert kind.removeprefix("link to ").removeprefix("a ") in message


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_not_made_of_what_is_none(
    name: str, odd_path: tuple[str, Path], inputs: Path
) -> None:
    kind, path = odd_path
    if kind == "folder":
        return
    message = refusal(run([*FOLDERS[name], str(path)], inputs))
    assert message.startswith(f"{path}: cannot be") and "expected a folder" in message


def test_the_writers_themselves_refuse(odd_path: tuple[str, Path]) -> None:
    path = odd_path[1]
    for write in (
        lambda: write_atomic(path, b"x"),
        lambda: held(path, "work").__enter__(),
        lambda: atomic_writer(path).__enter__(),
    ):
        with pytest.raises(SqueezeError, match="cannot be written"):
            write()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["same path", "hard link", "symbolic link"])
def test_an_input_is_not_written_over(name: str, way: str, inputs: Path) -> None:
    arguments = FILES[name]
    names = [text for text in arguments if text.startswith("{in}/") and "small.py" not in text]
    if not names:
        return
    for read in names:
        source = Path(read.replace("{in}", str(inputs)))
        before = source.read_bytes()
        path = source if way == "same path" else inputs / "other"
        path.unlink(missing_ok=True) if path != source else None
        if way == "hard link":
            os.link(source, path)
        elif way == "symbolic link":
            path.symlink_to(source)
        message = refusal(run([*arguments, str(path)], inputs))
        assert "does not use yet" in message and "same file as" in message
        assert source.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["pack", "{in}/m.sqz"],  # whose output would be m.sqz
        ["bundle", "{in}/entry.py", "-o", "{in}/helper.py"],  # read, but named nowhere
        ["bundle", "{in}/entry.py", "-o", "{in}/new.py", "--readable", "{in}/new.py"],
        ["budget", "{in}/m.sqz", "--html", "{in}/x", "--base", "{in}/x", "--commit", "a"],
        ["train", "--data", "{in}/d.bin", "--steps", "1", "-o", "{in}/m.jsonl"],  # the log's name
        ["train", "--data", "{in}/d.bin", "--steps", "1", "-o", "{in}/m.state"],
        ["pack", "{in}/m.sqz", "--code", "{in}/entry.py", "-o", "{in}/entry.py"],
    ],
)
def test_no_two_uses_of_one_path(arguments: list[str], inputs: Path) -> None:
    before = {path: path.read_bytes() for path in inputs.iterdir()}
    assert "same file as" in refusal(run(arguments, inputs))
    assert {path: path.read_bytes() for path in inputs.iterdir()} == before


def test_standard_output_and_missing_folders_are_refused_before_the_work(inputs: Path) -> None:
    assert "./-" in refusal(run(["unpack", MODEL, "-o", "-"], inputs))
    assert not Path("-").exists()
    message = refusal(run(["unpack", MODEL, "-o", "{in}/no/m.safetensors"], inputs))
    assert "no such folder" in message
    check_outputs([inputs / "new", None], [inputs / "missing", None])


def every_path_option() -> set[tuple[str, str]]:
    """Return (command, parameter) of everything that takes a path."""
    found = set()

    def visit(name: str, command: click.Command) -> None:
        for parameter in command.params:
            if isinstance(parameter.type, click.Path | Shards):
                found.add((name, str(parameter.name)))
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                visit(f"{name} {inner.name}", inner)

    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        visit(name, command)
    return found


def test_every_option_with_a_path_is_one_that_is_read_or_one_tried_here() -> None:
    read = {(name, option) for name, options in READ.items() for option in options.split()}
    written = every_path_option() - read
    tried = {name for table in (FILES, FOLDERS) for name in table}
    options = {"out": ("-o", "--out"), "output": ("-o",)}
    for command, parameter in written:
        spelled = options.get(parameter, (f"--{parameter.replace('_', '-')}",))
        assert any(f"{command} {option}" in tried for option in spelled), (command, parameter)
    assert read <= every_path_option()


@pytest.mark.parametrize("name", ["m.sqz", "README.md", "train_gpt.py"])
@pytest.mark.parametrize("call", ["budget {in} --html", "review {in} --markdown"])
def test_a_file_of_a_folder_that_is_read_is_not_written_over(
    name: str, call: str, tmp_path: Path
) -> None:
    folder = tmp_path / "submission"
    folder.mkdir()
    contents = {"m.sqz": artifact(), "README.md": b"# Nine\n", "train_gpt.py": b"print(1)\n"}
    for other, content in contents.items():
        (folder / other).write_bytes(content)
    (tmp_path / "link").symlink_to(folder)
    command = call.replace("{in}", str(folder)).split()
    for target in (folder / name, tmp_path / "link" / name):
        result = CliRunner().invoke(cli, [*command, str(target)])
        assert isinstance(result.exception, SqueezeError)
        assert "cannot be written; expected a path outside of" in str(result.exception)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    for _ in range(2):  # a page of its own is made again
        CliRunner().invoke(cli, [*command, str(folder / "page.md")])
        assert (folder / "page.md").stat().st_size


def test_a_model_is_not_packed_into_the_code_that_ships_beside_it(tmp_path: Path) -> None:
    (tmp_path / "m.sqz").write_bytes(artifact())
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train_gpt.py").write_text("print(1)\n")
    target = str(tmp_path / "code" / "model.sqz")
    command = ["pack", str(tmp_path / "m.sqz"), "--code", str(tmp_path / "code"), "-o", target]
    assert "expected a path outside of" in str(CliRunner().invoke(cli, command).exception)
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["train_gpt.py"]
