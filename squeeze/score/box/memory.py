"""Limits of the memory of all processes of a box together.

By a control group where the kernel lets one be made (cgroup 2). Elsewhere a thread sums the memory of
the processes, the more often the less is left, and ends the box when it is over: it may be over for
10 ms. The launcher then refuses memory that belongs to no process (memfd, System V shared memory).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
# seconds between two sums: as long as it takes to fill what is left at RATE
SHORTEST, LONGEST = 0.01, 0.5
RATE = 4 << 30  # bytes a second
PAGE = os.sysconf("SC_PAGE_SIZE")


class ControlGroup:
    """A control group with a limit of memory. Raises OSError when none can be made.

    parent: folder of the control group that it is made in
    memory: bytes
    """

    def __init__(self, parent: Path, name: str, memory: int) -> None:
        self.folder = parent / name
        self.folder.mkdir()
        try:
            (self.folder / "memory.max").write_text(str(memory))
            swap = self.folder / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            self.close()
            raise

    @property
    def processes(self) -> Path:
        """File that a process joins the group by."""
        return self.folder / "cgroup.procs"

    @property
    def was_over(self) -> bool:
        """True when a process was ended because of the limit."""
        with contextlib.suppress(OSError, ValueError):
            events = dict(
                line.split() for line in (self.folder / "memory.events").read_text().splitlines()
            )
            return int(events.get("oom_kill", "0")) > 0
        return False

    def close(self) -> None:
        """Remove the group, whose processes have ended."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def find_parent(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return a control group that one with a limit of memory can be made in, None where there is none.

    That is the parent of this process's group, since a group that has processes can have no such child.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = own.read_text().splitlines()
        name = next(line[3:] for line in lines if line.startswith("0::"))
        parent = (groups / name.lstrip("/")).parent
        if name != "/" and "memory" in (parent / "cgroup.subtree_control").read_text().split():
            return parent if os.access(parent, os.W_OK) else None
    return None


class MemoryWatch:
    """Sums the memory of a process and all that it started, in a thread; calls `stop` when it is over.

    root: process id
    memory: bytes
    """

    def __init__(self, root: int, memory: int, stop: Callable[[], None]) -> None:
        self._root, self._memory, self._stop = root, memory, stop
        self.was_over = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="audit-memory")
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = SHORTEST
        while not self._ended.wait(pause):
            processes = list(process_tree(self._root))
            # resident memory counts shared pages once a process: an upper bound that is cheap
            used = sum(map(resident, processes))
            if used > self._memory:
                used = sum(map(proportional, processes))
            if used > self._memory:
                self.was_over = True
                self._stop()
                return
            pause = min(LONGEST, max(SHORTEST, (self._memory - used) / RATE))


def process_tree(root: int) -> Iterator[int]:
    """Yield a process id and those of all living descendants."""
    yield root
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{root}/task"):
            for child in Path(f"/proc/{root}/task/{task}/children").read_text().split():
                yield from process_tree(int(child))


def resident(process: int) -> int:
    """Return the bytes of memory that a process uses or shares; 0 when it has ended."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    return 0


def proportional(process: int) -> int:
    """Return the bytes that a process uses and its share of those it shares; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
