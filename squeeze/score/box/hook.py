"""Hook of a submission's process, as `sitecustomize.py`: records the files that it opens.

Records files, addresses and programs that Python code opens, connects to and starts. Files that native
code opens by itself are missed; see docs/rules.md. Standard library only.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_FD = int(os.environ.pop("SQUEEZE_AUDIT_FD", "-1"))
_ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0}
_ADDRESSES |= {"socket.gethostbyname": 0, "socket.bind": 1}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}
_seen: set[str] = set()


def _record(kind: str, text: str) -> None:
    line = f"{kind}\t{text}"
    if line not in _seen and len(_seen) < 100_000:
        _seen.add(line)
        os.write(_FD, line.encode("utf-8", "replace").replace(b"\n", b"?")[:1000] + b"\n")


def _hook(event: str, args: tuple[Any, ...]) -> None:
    try:
        if event == "open" and isinstance(args[0], (str, bytes)):
            _record("open", os.path.abspath(os.fsdecode(args[0])))
        elif event in _ADDRESSES:
            address = args[_ADDRESSES[event]]
            if isinstance(address, tuple):
                address = address[0]
            elif event in ("socket.connect", "socket.bind", "socket.sendto"):
                return  # a Unix socket: no network
            if isinstance(address, (bytes, bytearray)):
                address = os.fsdecode(bytes(address))
            _record("network", f"{event} {address}")
        elif event in _PROGRAMS:
            _record("program", str(args[0]))
    except Exception:  # never the submission's problem
        pass


if _FD >= 0:
    _record("start", str(os.getpid()))
    sys.addaudithook(_hook)
