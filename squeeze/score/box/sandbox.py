"""A submission in a box: fresh process, empty environment, private copy, no network, hard limits.

Boxes are Linux namespaces where the kernel grants them (as root, or through user namespaces);
elsewhere the limits and the process group remain, and `Isolation.level` says so.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.files import scratch_folder
from squeeze.score.box.copies import copy_folder
from squeeze.score.box.drain import Drain
from squeeze.score.box.memory import ControlGroup, MemoryWatch, find_parent
from squeeze.score.box.visible import open_to_all, visible_paths

HERE = Path(__file__).parent
LOG_BYTES = 8 << 20  # of the hook's lines; the rest is read and dropped
LINE = 300  # characters of one of them
STDERR_BYTES = 8 << 10  # kept from the end
# users nobody has, a new one for each box: limits count the submission alone, and kernel objects that
# belong to a user (keys, counts) carry nothing from one box to the next
FIRST_UID, UIDS = 200_000, 1 << 30


@dataclass(frozen=True)
class Limits:
    """Limits of a box.

    seconds, report_seconds: wallclock of one answer, and of a report
    memory: bytes of a process's address space, and of the memory of all together; None: no limit, as
        CUDA needs
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
    """Isolation that the kernel grants.

    level: "namespaces", "filter" (of system calls) or "limits"
    group: control group in which boxes get theirs, to limit memory; None: it is summed
    """

    level: str
    user_namespace: bool = False
    group: Path | None = None

    def facts(self) -> dict[str, str]:
        """Return the barriers between a submission and the machine, in words."""
        watched = {
            "files": "all readable; files opened by Python code are recorded",
            "processes": "process group; a daemon can outlive the audit",
        }
        unowned = "not counted" if self.level == "limits" else "refused"
        summed = (
            "no control group of memory can be made here: summed over all processes, every 10 to "
            f"500 ms; memfd and System V shared memory are {unowned}"
        )
        grouped = "one limit for processes, memfd and shared memory: a control group"
        memory = {"memory": summed if self.group is None else grouped}
        levels = {
            "namespaces": {
                "network": "none: a network namespace without interfaces",
                "files": "only the interpreter, system libraries, inputs and a private copy exist",
                "processes": "own process table; ended as one",
            },
            "filter": {"network": "none: the kernel refuses sockets", **watched},
            "limits": {"network": "reachable; connections by Python code are recorded", **watched},
        }
        return {**levels[self.level], **memory}

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
                    return _with_group(choice)
    return _with_group(Isolation("limits"))


def _with_group(choice: Isolation) -> Isolation:
    """Return the same isolation with a control group, if one can be made."""
    parent = find_parent()
    if parent is not None:
        with contextlib.suppress(OSError):
            ControlGroup(parent, f"squeeze-{secrets.token_hex(4)}", 1 << 30).close()
            return replace(choice, group=parent)
    return choice


@dataclass
class Box:
    """A running command: enter it, talk to `process`, read `records` afterwards.

    folder: copied; the copy is the working directory
    command: program and arguments; `{folder}` stands for the private copy
    inputs: files by name, each copied to its `input_path`
    shown: folders that it sees besides the interpreter's and the system's
    trusted: what runs is squeeze's own code, which keeps its user and may write its kernel caches
    left_out: files that are not copied, by relative name
    environment: variables besides those of every box; `{inputs}` stands for the inputs' folder
    """

    folder: Path
    command: Sequence[str]
    limits: Limits
    isolation: Isolation
    inputs: dict[str, Path] = field(default_factory=dict)
    shown: Sequence[Path] = ()
    trusted: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    left_out: Collection[str] = ()

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
    def was_over(self) -> bool:
        """True when it was ended because all its processes together took too much memory."""
        return self._memory is not None and self._memory.was_over

    @property
    def stderr(self) -> str:
        """End of the text that the command wrote to stderr."""
        return self._stderr.text()[-STDERR_BYTES:]

    def _start(self) -> None:
        self._home = self._stack.enter_context(scratch_folder("squeeze-audit-"))
        self._user = FIRST_UID + secrets.randbelow(UIDS)
        self._memory: ControlGroup | MemoryWatch | None = None
        memory = self.limits.memory
        if memory is not None and self.isolation.group is not None:
            self._memory = ControlGroup(self.isolation.group, self._home.name, memory)
            self._stack.callback(self._memory.close)
        (self._home / "inputs" / "hook").mkdir(parents=True)
        (self._home / "root").mkdir()
        shutil.copy(HERE / "hook.py", self._home / "inputs" / "hook" / "sitecustomize.py")
        for name, path in self.inputs.items():
            shutil.copy(path, self._home / "inputs" / name)
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
        self._log = Drain(os.fdopen(log_in, "rb", buffering=0), LOG_BYTES, keep_end=False)
        self._stderr = Drain(self.process.stderr, STDERR_BYTES, keep_end=True)
        self._stack.callback(self._end)
        if memory is not None and self._memory is None:
            self._memory = MemoryWatch(self.process.pid, memory, self._kill)
            self._stack.callback(self._memory.close)

    def _copy_folder(self) -> None:
        copy, uid = self._home / "submission", self._uid()
        copy_folder(self.folder, copy, self.left_out)
        if uid is not None and not self.boxed:
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
            "group": str(group.processes)
            if isinstance(group := self._memory, ControlGroup)
            else "",
            "user_namespace": self.isolation.user_namespace,
            "uid": self._uid(),
            "root": str(self._home / "root"),
            "folder": str(submission),
            "inputs": str(self._home / "inputs"),
            "visible": visible_paths(self.shown),
            "writable": [str(path) for path in self.shown] if self.trusted else [],
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
        read = (sys.prefix, sys.base_prefix, *map(str, self.shown))
        if not self.boxed and not all(map(open_to_all, read)):
            return None
        return self._user

    def _expand(self, part: str) -> str:
        inputs = self.input_path("").rstrip("/")
        return part.replace("{folder}", self.working_folder).replace("{inputs}", inputs)

    def _kill(self) -> None:
        """Kill the launcher and its process group, and with a process table of its own all others."""
        for stop in (self.process.kill, lambda: os.killpg(self.process.pid, signal.SIGKILL)):
            with contextlib.suppress(OSError):
                stop()

    def _end(self) -> None:
        self._kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._stderr.join()
        self._log.join()
