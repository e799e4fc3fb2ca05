"""A submission in a box: fresh process, empty environment, private copy, no network, hard limits.

Boxes are Linux namespaces where the kernel grants them (as root, or through user namespaces);
elsewhere the limits and the process group remain, and `Isolation.level` says so.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from squeeze.errors import SqueezeError
from squeeze.files import scratch_folder

HERE = Path(__file__).parent
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix"]
LOG_BYTES = 8 << 20  # of the hook's lines; the rest is read and dropped
LINE = 300  # characters of one of them
STDERR_BYTES = 8 << 10  # kept from the end
FIRST_UID = 200_000  # users nobody has, so that the process limit counts the submission alone


@dataclass(frozen=True)
class Limits:
    """Limits of a box.

    seconds, report_seconds: wallclock of one answer, and of a report
    memory: bytes of a process's address space; None: no limit, as CUDA needs
    disk: bytes of files
    processes: number of processes and threads
    """

    seconds: float = 60.0
    report_seconds: float = 600.0
    memory: int | None = 8 << 30
    disk: int = 1 << 30
    processes: int = 256


@dataclass(frozen=True)
class Isolation:
    """Isolation that the kernel grants. level: "namespaces", "filter" (of system calls) or "limits"."""

    level: str
    user_namespace: bool = False

    def facts(self) -> dict[str, str]:
        """Return the barriers between a submission and the machine, in words."""
        watched = {
            "files": "all readable; files opened by Python code are recorded",
            "processes": "process group; a daemon can outlive the audit",
        }
        return {
            "namespaces": {
                "network": "none: a network namespace without interfaces",
                "files": "only the interpreter, system libraries, inputs and a private copy exist",
                "processes": "own process table; ended as one",
            },
            "filter": {"network": "none: the kernel refuses sockets", **watched},
            "limits": {"network": "reachable; connections by Python code are recorded", **watched},
        }[self.level]

    @property
    def offline(self) -> bool:
        """True when the network cannot be reached."""
        return self.level != "limits"


@functools.cache
def isolation() -> Isolation:
    """Return the strongest isolation that this kernel and user can have, by trying it."""
    choices = [Isolation("namespaces", user_namespace=os.getuid() != 0), Isolation("filter")]
    with scratch_folder("squeeze-box-") as folder:
        (folder / "nothing").mkdir()
        for choice in choices:
            probe = [sys.executable, "-c", "pass"]
            with Box(folder / "nothing", probe, Limits(), choice) as box:
                if box.process.wait(timeout=30) == 0:
                    return choice
    return Isolation("limits")


def visible_paths(extra: Sequence[Path] = ()) -> list[str]:
    """Return the folders that exist in a box: the interpreter's and the system's, none in another."""
    paths = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages()]
    paths += [str(path) for path in extra]
    paths += [os.path.realpath(path) for path in paths if not os.path.islink(path)]
    folders = sorted({path for path in paths if os.path.lexists(path) and path != "/"})
    return [p for p in folders if not any(p.startswith(q + "/") for q in folders)]


@dataclass
class Box:
    """A running command: enter it, talk to `process`, read `records` afterwards.

    folder: copied; the copy is the working directory
    command: program and arguments; `{folder}` stands for the private copy
    inputs: files by name, each copied to its `input_path`
    trusted: folders of squeeze's own code, which keeps its user and may write its kernel caches
    environment: variables besides those of every box; `{inputs}` stands for the inputs' folder
    """

    folder: Path
    command: Sequence[str]
    limits: Limits
    isolation: Isolation
    inputs: dict[str, Path] = field(default_factory=dict)
    trusted: Sequence[Path] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Box:
        self._stack = contextlib.ExitStack()
        with self._stack:
            try:
                self._start()
            except OSError as error:  # shutil.Error too: a file that cannot be copied
                raise SqueezeError(f"no sandbox can be started: {str(error)[:300]}") from None
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the command and everything it started; its records stay readable."""
        self._stack.close()

    @property
    def boxed(self) -> bool:
        """True when the command has a file system of its own."""
        return self.isolation.level == "namespaces"

    def input_path(self, name: str) -> str:
        """Return the path of an input, as the command sees it."""
        return f"/inputs/{name}" if self.boxed else str(self._home / "inputs" / name)

    @property
    def working_folder(self) -> str:
        """Path of the private copy, as the command sees it."""
        return "/submission" if self.boxed else str(self._home / "submission")

    def records(self, kind: str) -> list[str]:
        """Return the hook's records of one kind ("open", "network", "program", "start"), in order."""
        lines = [line[:LINE] for line in self._log.text().splitlines()]
        return [line.split("\t", 1)[1] for line in lines if line.startswith(kind + "\t")]

    @property
    def stderr(self) -> str:
        """End of the text that the command wrote to stderr."""
        return self._stderr.text()[-STDERR_BYTES:]

    def _start(self) -> None:
        self._home = self._stack.enter_context(scratch_folder("squeeze-audit-"))
        (self._home / "inputs" / "hook").mkdir(parents=True)
        (self._home / "root").mkdir()
        shutil.copy(HERE / "hook.py", self._home / "inputs" / "hook" / "sitecustomize.py")
        for name, path in self.inputs.items():
            shutil.copy(path, self._home / "inputs" / name)
        if not self.boxed:
            self._copy_folder()
        log_in, log_out = os.pipe()
        plan = self._home / "plan.json"
        plan.write_text(json.dumps(self._plan(log_out)))
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(HERE / "launcher.py"), str(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(log_out,),
                start_new_session=True,
                env={},
            )
        finally:
            os.close(log_out)
        assert self.process.stderr is not None
        self._log = _Drain(os.fdopen(log_in, "rb", buffering=0), LOG_BYTES, keep_end=False)
        self._stderr = _Drain(self.process.stderr, STDERR_BYTES, keep_end=True)
        self._stack.callback(self._end)

    def _copy_folder(self) -> None:
        copy, uid = self._home / "submission", self._uid()
        shutil.copytree(self.folder, copy, symlinks=True)
        if uid is not None:
            self._home.chmod(0o755)
            for path in [copy, *copy.rglob("*")]:
                os.chown(path, uid, uid, follow_symlinks=False)

    def _plan(self, log_fd: int) -> dict[str, Any]:
        submission = self._home / "submission"
        temporary = "/tmp" if self.boxed else str(self._home)
        return {
            "command": [self._expand(part) for part in self.command],
            "namespaces": self.boxed,
            "filter": self.isolation.level == "filter",
            "user_namespace": self.isolation.user_namespace,
            "uid": self._uid(),
            "root": str(self._home / "root"),
            "folder": str(self.folder.resolve()),
            "inputs": str(self._home / "inputs"),
            "visible": visible_paths(self.trusted),
            "writable": [str(path) for path in self.trusted],
            "cwd": "/submission" if self.boxed else str(submission),
            "memory": self.limits.memory,
            "disk": self.limits.disk,
            "processes": self.limits.processes,
            "cpu": int(4 * (self.limits.seconds + self.limits.report_seconds)) + 1,
            "env": {
                "PATH": "/usr/bin:/bin",
                "HOME": temporary,
                "TMPDIR": temporary,
                "PYTHONPATH": self.input_path("hook"),
                "SQUEEZE_AUDIT_FD": str(log_fd),
                **{name: self._expand(text) for name, text in self.environment.items()},
            },
        }

    def _uid(self) -> int | None:
        """Return a user of the box's own; None: it cannot be had, or cannot reach the interpreter."""
        if os.getuid() or self.isolation.user_namespace or self.trusted:
            return None
        if not self.boxed and not all(map(_open_to_all, (sys.prefix, sys.base_prefix))):
            return None
        return FIRST_UID + os.getpid() % 100_000

    def _expand(self, part: str) -> str:
        inputs = self.input_path("").rstrip("/")
        return part.replace("{folder}", self.working_folder).replace("{inputs}", inputs)

    def _end(self) -> None:
        for stop in (self.process.kill, lambda: os.killpg(self.process.pid, signal.SIGKILL)):
            with contextlib.suppress(OSError):
                stop()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._stderr.join()
        self._log.join()


def _open_to_all(folder: str) -> bool:
    """Return whether any user may enter the folder."""
    path = Path(folder).resolve()
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [path, *path.parents])


class _Drain:
    """Reads a pipe to its end in a thread, keeping the first or the last `size` bytes."""

    def __init__(self, pipe: IO[bytes], size: int, keep_end: bool) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(
            target=self._run, args=(pipe, size, keep_end), daemon=True, name="audit-drain"
        )
        self._thread.start()

    def _run(self, pipe: IO[bytes], size: int, keep_end: bool) -> None:
        with pipe:
            for chunk in _chunks(pipe):
                if keep_end:
                    self._kept[:] = (self._kept + chunk)[-size:]
                elif len(self._kept) < size:
                    self._kept += chunk[: size - len(self._kept)]

    def text(self) -> str:
        return bytes(self._kept).decode("utf-8", "replace")

    def join(self) -> None:
        """Wait a little for the rest; a daemon that keeps the pipe open does not hold us."""
        self._thread.join(timeout=2.0)


def _chunks(pipe: IO[bytes]) -> Iterator[bytes]:
    descriptor = pipe.fileno()
    while True:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:
            return
        if not chunk:
            return
        yield chunk
