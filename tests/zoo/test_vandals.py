"""Adversarial submissions cannot crash or hang the auditor, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from squeeze.score.audit import AuditOptions, Limits, audit, load_data
from squeeze.score.audit.verdict import UNKNOWN
from squeeze.score.box.sandbox import Box, Isolation, isolation
from tests.zoo.animals import HONEST, Animal, Habitat, build, make_habitat
from tests.zoo.offenders import OFFENDERS
from tests.zoo.vandals import VANDALS

LIMITS = Limits(seconds=3, report_seconds=3, memory=1 << 30, disk=32 << 20, processes=32)
ENDLESS = ("loops", "never", "logs")  # what they do needs no time to begin


@pytest.fixture(scope="module")
def habitat(tmp_path_factory: pytest.TempPathFactory) -> Habitat:
    return make_habitat(tmp_path_factory.mktemp("habitat"))


def marked(animal: Animal, folder: Path) -> Animal:
    """The same, with a command line that no other process on the machine has."""
    return replace(animal, claims={"scorer": ["python", "train_gpt.py", str(folder)]})


def left_behind(folder: Path) -> list[str]:
    """Processes that still run what was `marked`."""
    listing = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listing.splitlines() if f"train_gpt.py {folder}" in line]


@pytest.mark.parametrize("animal", VANDALS, ids=lambda animal: animal.name)
def test_a_vandal_fails_and_harms_nothing(animal: Animal, habitat: Habitat, tmp_path: Path) -> None:
    if isolation().level != "namespaces":
        pytest.skip("no namespaces here: some of these would reach other processes")
    data = load_data([habitat.data], habitat.tokenizer, 200)
    started = time.monotonic()
    submission = build(marked(animal, tmp_path), habitat, tmp_path / "s")
    limits = replace(LIMITS, seconds=1) if animal.name.startswith(ENDLESS) else LIMITS
    result = audit(submission, data, AuditOptions(limits=limits))
    assert "runs" in result.failures
    assert max(len(verdict.evidence) for verdict in result.verdicts.values()) < 3000
    assert result.verdicts["runs"].evidence
    assert result.verdicts["score"].status == UNKNOWN
    assert time.monotonic() - started < 60
    assert not left_behind(tmp_path)


def test_left_behind_would_be_seen(tmp_path: Path) -> None:
    code = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code, "train_gpt.py", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):
        assert len(left_behind(tmp_path)) == 1
    assert not left_behind(tmp_path)


def run(tmp_path: Path, code: str, level: Isolation | None = None) -> tuple[int, str]:
    """Exit code and stderr of some code in a box."""
    (tmp_path / "s").mkdir(exist_ok=True)
    command = [sys.executable, "-c", code]
    with Box(tmp_path / "s", command, LIMITS, level or isolation()) as box:
        code_ = box.process.wait(timeout=30)
    return code_, box.stderr


WEAKER = [Isolation("filter"), Isolation("limits")]


@pytest.mark.parametrize("level", [None, *WEAKER], ids=str)
def test_the_environment_is_empty_and_the_folder_a_copy(
    tmp_path: Path, level: Isolation | None
) -> None:
    os.environ["SECRET"] = "1"
    code, told = run(
        tmp_path,
        "import os, sys; open('new', 'w').write('x')\n"
        "print(sorted(set(os.environ) - {'LC_CTYPE'}), file=sys.stderr)",
        level,
    )
    assert code == 0
    assert told.strip() == "['HOME', 'PATH', 'PYTHONPATH', 'TMPDIR']"
    assert not (tmp_path / "s" / "new").exists()


@pytest.mark.parametrize("level", [None, *WEAKER], ids=str)
@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("memory", "bytearray(1 << 31)"),
        ("file size", "f = open('f', 'wb')\nfor _ in range(40): f.write(bytes(1 << 20))"),
    ],
)
def test_a_limit_holds(tmp_path: Path, level: Isolation | None, limit: str, code: str) -> None:
    assert run(tmp_path, code, level)[0] != 0


def test_a_box_has_no_network_and_no_outside_files(tmp_path: Path) -> None:
    if isolation().level != "namespaces":
        pytest.skip("no namespaces here")
    outside = tmp_path / "outside"
    outside.write_text("x")
    code, told = run(
        tmp_path,
        f"import os, sys, socket\nassert not os.path.exists({str(outside)!r})\n"
        f"assert not os.path.exists({__file__!r})\n"
        "assert not [d for d in os.listdir('/proc') if d.isdigit() and int(d) > 50]\n"
        "assert os.getuid() != 0 or open('/proc/self/uid_map').read().split()[1] != '0'\n"
        "try: open('/usr/x', 'w')\nexcept OSError: pass\nelse: raise SystemExit('wrote to /usr')\n"
        "print(socket.if_nameindex(), file=sys.stderr)",
    )
    assert code == 0, told
    assert told.strip() in ("[(1, 'lo')]", "[]")


def test_a_user_namespace_works_as_well(tmp_path: Path) -> None:
    """What an unprivileged auditor uses."""
    level = Isolation("namespaces", user_namespace=True)
    code, told = run(tmp_path, "import os; open('new', 'w'); os.fork()", level)
    if "unshare" in told or "uid_map" in told:
        pytest.skip(f"no user namespaces here: {told.strip()}")
    assert code == 0, told


def filtered() -> Isolation:
    """The second choice, or the reason to skip."""
    level = Isolation("filter")
    with (
        tempfile.TemporaryDirectory() as folder,
        Box(Path(folder), [sys.executable, "-c", "pass"], LIMITS, level) as box,
    ):
        if box.process.wait(timeout=30):
            pytest.skip(f"no filter of system calls here: {box.stderr}")
    return level


def test_without_namespaces_a_filter_refuses_the_network_and_signals(tmp_path: Path) -> None:
    code = (
        "import os, signal, socket, threading\n"
        "def refused(call, *args):\n"
        "    try: call(*args)\n"
        "    except PermissionError: return\n"
        "    raise SystemExit(f'{call} went through')\n"
        "refused(socket.socket, socket.AF_INET)\n"
        "refused(socket.socket, socket.AF_INET6)\n"
        "refused(os.kill, os.getppid(), signal.SIGCONT)\n"
        "refused(os.kill, -1, signal.SIGCONT)\n"
        "socket.socket(socket.AF_UNIX)\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
        "thread = threading.Thread(target=print)\nthread.start()\nthread.join()"
    )
    assert run(tmp_path, code, filtered()) == (0, "")


@pytest.mark.parametrize(
    "animal",
    [a for a in VANDALS if a.name in ("kills its parent", "loops for ever in an answer")],
    ids=lambda animal: animal.name,
)
def test_without_namespaces_the_auditor_survives_as_well(
    animal: Animal, habitat: Habitat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = filtered()
    monkeypatch.setattr("squeeze.score.audit.runs.isolation", lambda: level)
    data = load_data([habitat.data], habitat.tokenizer, 200)
    submission = build(marked(animal, tmp_path), habitat, tmp_path / "s")
    limits = replace(LIMITS, seconds=1)
    result = audit(submission, data, AuditOptions(limits=limits))
    assert "runs" in result.failures
    assert not left_behind(tmp_path)


def test_without_namespaces_the_hook_still_tells_honest_from_not(
    habitat: Habitat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = filtered()
    monkeypatch.setattr("squeeze.score.audit.runs.isolation", lambda: level)
    data = load_data([habitat.data], habitat.tokenizer, 200)
    (reader,) = (a for a in OFFENDERS if a.name == "file outside the folder")
    for animal, expected in ((HONEST[0], []), (reader, ["files"])):
        result = audit(build(animal, habitat, tmp_path / animal.name), data)
        assert result.failures == expected, result.as_json()


def test_the_hook_tells_what_python_opens_and_connects_to(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    code = (
        "import os, socket\n"
        "try: open('/no/such/file')\nexcept OSError: pass\n"
        "try: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError: pass\n"
        "os.system('true')"
    )
    with Box(tmp_path / "s", [sys.executable, "-c", code], LIMITS, isolation()) as box:
        assert box.process.wait(timeout=30) == 0
    assert "/no/such/file" in box.records("open")
    assert "socket.connect 127.0.0.1" in box.records("network")
    assert box.records("program")
    assert box.records("start")
