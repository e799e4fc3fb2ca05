"""Attempts to get out of a box, or to carry something from one to the next: none succeeds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from squeeze.score.box.memory import ControlGroup, find_parent
from squeeze.score.box.sandbox import Box, Isolation, Limits, isolation

LIMITS = Limits(seconds=10, report_seconds=10, memory=256 << 20, disk=8 << 20, processes=32)
# each goes through when it raises nothing and is true
ATTEMPTS = """
import ctypes, fcntl, glob, mmap, os, resource, signal, socket, stat, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        s.connect(address)
        return s.send(b"x") == 1
def write(path, text="1"):
    with open(path, "w") as file:
        file.write(text)
    return True
def unmapped():
    with open("/proc/self/status") as file:
        capable = [line.split()[1] for line in file if line.startswith("CapEff")]
    return int(capable[0], 16) != 0
def raised(limit):
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (resource.RLIM_INFINITY,) * 2)
    return resource.getrlimit(limit)[1] != hard
outside = {outside!r}
attempts = {{
    "TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", 80)),
    "TCP away": lambda: connect(socket.AF_INET, ("192.0.2.1", 80)),
    "TCP 6": lambda: connect(socket.AF_INET6, ("::1", 80)),
    "UDP away": lambda: connect(socket.AF_INET, ("192.0.2.1", 53), socket.SOCK_DGRAM),
    "names": lambda: socket.getaddrinfo("example.invalid", 80),
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
    "packets": lambda: socket.socket(17, socket.SOCK_RAW),
    "raw sockets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "kernel crypto": lambda: socket.socket(38, socket.SOCK_SEQPACKET),
    "bluetooth": lambda: socket.socket(31, socket.SOCK_RAW),
    "abstract socket": lambda: connect(socket.AF_UNIX, "\\0squeeze-test"),
    "a file outside": lambda: open(outside).read(),
    "its folder": lambda: os.listdir(os.path.dirname(outside)),
    "outside by the root of process 1": lambda: open("/proc/1/root" + outside).read(),
    "outside by the parent's folder": lambda: open(f"/proc/{{os.getppid()}}/cwd" + outside).read(),
    "home": lambda: os.listdir("/root/.ssh"),
    "shadow": lambda: open("/etc/shadow").read(),
    "boot": lambda: os.listdir("/boot"),
    "sys": lambda: os.listdir("/sys"),
    "inputs": lambda: set(os.listdir("/inputs")) - {{"hook"}},
    "hook": lambda: write("/inputs/hook/sitecustomize.py"),
    "writing to usr": lambda: write("/usr/x"),
    "writing to the interpreter": lambda: write(os.path.join(sys.prefix, "x")),
    "writing to packages": lambda: write(os.path.join(os.path.dirname(os.__file__), "x.py")),
    "a link outside": lambda: os.link("/usr/bin/env", "x") or write("x"),
    "memory of the machine": lambda: open("/dev/mem", "rb").read(1),
    "kernel log": lambda: open("/dev/kmsg").read(1),
    "disks": lambda: glob.glob("/dev/[sv]d*") + glob.glob("/dev/nvme*"),
    "a new device": lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)) or True,
    "core pattern": lambda: write("/proc/sys/kernel/core_pattern", "|/x"),
    "sysrq": lambda: write("/proc/sysrq-trigger", "h"),
    "host name": lambda: socket.sethostname("x") or True,
    "root": lambda: os.setuid(0) or os.getuid() == 0 and unmapped(),
    "groups": lambda: os.setgroups([0]) or True,
    "capabilities": unmapped,
    "chroot": lambda: os.chroot(".") or True,
    "mount": lambda: call(165, b"x", b"/tmp", b"tmpfs", 0, 0),
    "fsopen": lambda: call(430, b"tmpfs", 0),
    "namespaces": lambda: call(272, 0x10000000),
    "another's namespaces": lambda: call(308, os.open("/proc/1/ns/net", os.O_RDONLY), 0),
    "modules": lambda: call(175, b"", 0, b""),
    "kexec": lambda: call(246, 0, 0, 0, 0),
    "restart": lambda: call(169, 0, 0, 0, 0),
    "clock": lambda: call(164, (ctypes.c_long * 2)(0, 0), 0),
    "swap": lambda: call(167, b"/tmp/x", 0),
    "handles": lambda: call(304, -100, 0, 0),
    "tracing process 1": lambda: call(101, 16, 1, 0, 0),
    "descriptors of process 1": lambda: os.listdir("/proc/1/fd"),
    "environment of process 1": lambda: open("/proc/1/environ").read(),
    "processes of the machine": lambda: [d for d in os.listdir("/proc") if d.isdigit() and int(d) > 50],
    "signals to process 1": lambda: os.kill(1, signal.SIGKILL) or True,
    "keys": lambda: call(248, b"user", b"squeeze", b"x", 1, -4),
    "finding keys": lambda: call(250, 10, -4, b"user", b"squeeze", 0),
    "a file in memory": lambda: call(319, b"x", 0),
    "shared memory": lambda: call(29, 7, 4096, 0o1666),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -20) or True,
    "more address space": lambda: raised(resource.RLIMIT_AS),
    "more processes": lambda: raised(resource.RLIMIT_NPROC),
    "larger files": lambda: raised(resource.RLIMIT_FSIZE),
    "control groups": lambda: os.listdir("/sys/fs/cgroup"),
    "inherited files": lambda: [
        fd for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{{fd}}")
        and os.readlink(f"/proc/self/fd/{{fd}}").startswith("/")
        and not os.readlink(f"/proc/self/fd/{{fd}}").startswith(("/proc", "/dev/null"))
    ],
    "variables": lambda: set(os.environ) - {{"HOME", "PATH", "PYTHONPATH", "TMPDIR", "LC_CTYPE"}},
}}
for name, attempt in attempts.items():
    try:
        through = attempt()
    except (OSError, ValueError):
        through = False
    if through:
        print(name, file=sys.stderr)
print(len(attempts), "attempts", file=sys.stderr)
"""


def run(tmp_path: Path, code: str, limits: Limits = LIMITS) -> Box:
    """Return the closed box that some code ran in."""
    (tmp_path / "s").mkdir(exist_ok=True)
    with Box(tmp_path / "s", [sys.executable, "-c", code], limits, isolation()) as box:
        box.process.wait(timeout=60)
    return box


@pytest.fixture
def boxed() -> None:
    if isolation().level != "namespaces":
        pytest.skip("no namespaces here: some of these would reach the machine")


@pytest.mark.usefixtures("boxed")
def test_no_attempt_to_get_out_goes_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    box = run(tmp_path, ATTEMPTS.format(outside=str(outside)))
    assert box.stderr.split("\n")[0] == "62 attempts", box.stderr


@pytest.mark.usefixtures("boxed")
def test_every_box_has_a_user_of_its_own(tmp_path: Path) -> None:
    if isolation().user_namespace:
        pytest.skip("an unprivileged auditor has no other users")
    code = "import os, sys; print(os.getuid(), os.getgid(), file=sys.stderr)"
    assert run(tmp_path, code).stderr != run(tmp_path, code).stderr


FORKS = """import os, time
for _ in range(6):
    if os.fork() == 0:
        block = bytearray(80 << 20)
        time.sleep(30)
time.sleep(30)
"""
SHARED = """import mmap, os, time
for _ in range(6):
    if os.fork() == 0:
        block = mmap.mmap(-1, 80 << 20)
        for at in range(0, 80 << 20, 4096): block[at] = 1
        time.sleep(30)
time.sleep(30)
"""


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize("code", [FORKS, SHARED], ids=["private", "shared"])
def test_memory_is_limited_for_all_processes_together(tmp_path: Path, code: str) -> None:
    assert run(tmp_path, code).was_over


# each prints a dot for every 2 MiB that it has taken, 100 MiB a second
TAKING = """import os, sys, time
for _ in range(6):
    if os.fork() == 0:
        hoard = []
        while True:
            {take}
            os.write(2, b".")
            time.sleep(0.02)
time.sleep(30)
"""
TAKES = {
    "private": "hoard.append(bytes([1]) * (2 << 20))",
    "memfd": "hoard.append(os.memfd_create('x')); os.write(hoard[-1], bytes(2 << 20))",
}


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize("kind", TAKES)
def test_memory_of_forks_ends_within_a_tenth_of_the_limit(tmp_path: Path, kind: str) -> None:
    if kind == "memfd" and isolation().group is None:
        pytest.skip("no control group of memory can be made here: memfd is refused instead")
    box = run(tmp_path, TAKING.format(take=TAKES[kind]))
    assert box.was_over
    taken = box.stderr.count(".") * (2 << 20)
    # interpreters take some 10 MiB each, most of it shared
    assert 0.6 * LIMITS.memory <= taken <= 1.1 * LIMITS.memory


@pytest.mark.usefixtures("boxed")
def test_memory_that_forks_share_is_counted_once(tmp_path: Path) -> None:
    code = (
        "import os, time\nblock = bytearray(150 << 20)\n"
        "children = [os.fork() or time.sleep(0.5) or os._exit(0) for _ in range(4)]\n"
        "for child in children: os.waitpid(child, 0)"
    )
    box = run(tmp_path, code)
    assert (box.process.returncode, box.was_over) == (0, False), box.stderr


def test_a_copy_holds_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / "empty").mkdir(parents=True)
    for name in ("a.py", "notes.md"):
        (folder / name).write_text(name)
    os.utime(folder / "a.py", (1, 123456789))
    (folder / "a.py").chmod(0o741)
    code = (
        "import os, sys\nprint(sorted(os.listdir('.')), oct(os.stat('a.py').st_mode & 0o777),"
        " os.stat('a.py').st_mtime > 1e9, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    with Box(folder, command, LIMITS, isolation(), left_out={"notes.md"}) as box:
        box.process.wait(timeout=60)
    assert box.stderr.strip() == "['a.py'] 0o755 True"


def test_a_control_group_limits_memory_and_swap(tmp_path: Path) -> None:
    """Stands in for a kernel with cgroup 2, where these files exist."""
    parent = tmp_path / "user.slice"
    (parent / "session").mkdir(parents=True)
    (parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    own = tmp_path / "own"
    own.write_text("0::/user.slice/session\n")
    assert find_parent(tmp_path, own) == parent
    group = ControlGroup(parent, "box", 1 << 20)
    assert (group.folder / "memory.max").read_text() == "1048576"
    assert group.processes == parent / "box" / "cgroup.procs"
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.was_over


@pytest.mark.parametrize("lines", ["0::/\n", "9:name=systemd:/\n", "0::/no/memory\n", ""])
def test_without_a_control_group_of_memory_there_is_none(tmp_path: Path, lines: str) -> None:
    own = tmp_path / "own"
    own.write_text(lines)
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "cgroup.subtree_control").write_text("cpu\n")
    assert find_parent(tmp_path, own) is None


def test_the_report_says_how_memory_is_limited(tmp_path: Path) -> None:
    assert "no control group" in Isolation("namespaces").facts()["memory"]
    assert "memfd" in Isolation("namespaces").facts()["memory"]
    grouped = Isolation("namespaces", group=tmp_path).facts()["memory"]
    assert "a control group" in grouped and "no control" not in grouped
