"""A small file that asks for gigabytes is refused, or read, in little memory and time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bombs
from engine import corpus

MOST = 300 << 20  # bytes over a process that has read a small file of the kind
WARM = (("pt", "m.pt"), ("ptz", "m.ptz"), ("sqz", "m.sqz"), ("imports", "train_gpt.py"))
SMALL = 9 << 20  # bytes of a bomb
SECONDS = 240

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read from Linux's /proc"
)


@pytest.fixture(scope="module")
def growth(tmp_path_factory):
    """Bytes and answers by (bomb, reader), all read by one process."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "warm").mkdir()
    for reader, name in WARM:
        (folder / "warm" / name).write_bytes(corpus(reader)[0])
    for bomb, (name, make) in bombs.BOMBS.items():
        path = folder / "bombs" / bomb / name
        path.parent.mkdir(parents=True)
        data = make()
        assert len(data) < SMALL, bomb
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, bombs.__file__, folder], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = map(json.loads, done.stdout.splitlines())
    return {(bomb, reader): (size, answer) for bomb, reader, size, answer in lines}


@pytest.mark.parametrize("bomb", bombs.BOMBS)
def test_a_bomb_is_read_or_refused_in_little_memory(bomb, growth):
    readers = {reader: found for (name, reader), found in growth.items() if name == bomb}
    assert len(readers) == 2
    for reader, (size, answer) in readers.items():
        assert not answer.startswith("CRASH"), (reader, answer)
        assert size < MOST, f"{reader}: {size >> 20} MiB for {answer}"
