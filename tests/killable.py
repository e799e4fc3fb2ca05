"""Runs commands of squeeze in forked children that end the hard way, as `killing.Killable` asks.

Requests are JSON lines on stdin, answers JSON lines on stdout. A child is killed by SIGKILL after some
seconds, or by itself at one of its points: before and after every rename, fsync, unlink and new folder,
after every new temporary file, and half-way through every write to one and every line of a log. Files
outside the command's folder and the temporary one have none: numba writes machine code when it must.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class Points:
    """Points a child passes, one of which kills it.

    folders: where files have points. stop_at: number of the point that kills. trace: descriptor of the
    file that gets their names.
    """

    def __init__(self, folders: tuple[Path, ...], stop_at: int | None, trace: int) -> None:
        self._folders, self._stop_at, self._trace, self._passed = folders, stop_at, trace, 0

    def pass_(self, name: str) -> None:
        os.write(self._trace, name.encode() + b"\n")
        if self._passed == self._stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a point on either side."""

        def watched(*arguments: Any, **options: Any) -> Any:
            if not self._counts(arguments[0]):
                return function(*arguments, **options)
            self.pass_(f"before {name}")
            result = function(*arguments, **options)
            self.pass_(f"after {name}")
            return result

        return watched

    def _counts(self, file: int | str | os.PathLike[str]) -> bool:
        """Return whether a file, by descriptor or path, is one of the command's own."""
        return isinstance(file, int) or any(
            Path(file).absolute().is_relative_to(folder) for folder in self._folders
        )

    def patch(self) -> None:
        """Watch this process from here on."""
        import tempfile

        from squeeze.train.run import log

        for name in ("replace", "fsync", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self.around(name, getattr(os, name)))
        make, fdopen, line = tempfile.mkstemp, os.fdopen, log.RunLog._line

        def mkstemp(*arguments: Any, **options: Any) -> Any:
            made = make(*arguments, **options)
            self.pass_("after mkstemp")
            return made

        def opened(descriptor: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = fdopen(descriptor, mode, *arguments, **options)
            return Halting(file, self) if mode == "wb" else file

        def halting_line(run_log: Any, text: bytes) -> None:
            line(run_log, text[: len(text) // 2])
            self.pass_("inside a line")
            line(run_log, text[len(text) // 2 :])

        tempfile.mkstemp = mkstemp
        os.fdopen = opened  # type: ignore[assignment]
        log.RunLog._line = halting_line  # type: ignore[method-assign]


class Halting:
    """A binary file with a point half-way through every write."""

    def __init__(self, file: IO[bytes], points: Points) -> None:
        self._file, self._points = file, points

    def write(self, data: bytes) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._points.pass_("inside a write")
        self._file.write(data[len(data) // 2 :])
        return len(data)

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def child(request: dict[str, Any]) -> None:
    """The forked process: run the command; never returns."""
    from squeeze.cli import main

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(request["printed"], flags), 1)
    os.dup2(1, 2)
    os.chdir(request["folder"])
    folders = (Path(request["folder"]), Path(os.environ["TMPDIR"]))
    Points(folders, request["point"], os.open(request["trace"], flags | os.O_APPEND)).patch()
    sys.argv = ["squeeze", *request["arguments"]]
    code = 70
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, kill in time, and say how it ended. code: negative for a signal, as in subprocess."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        child(request)
    handle = os.pidfd_open(pid)
    limit = request["seconds"]
    if not select.select([handle], [], [], 120.0 if limit is None else limit)[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(handle)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
    }


def serve() -> None:
    """Answer requests until stdin ends. Everything slow to import is loaded once, in the parent."""
    # nothing of torch runs here, and nothing of numba in threads: a fork would lose them
    for module in (
        "matplotlib.backends.backend_svg",
        "matplotlib.backends.backend_agg",
        "torch._dynamo",  # which optimizers import
        "torch.distributed",
        "scipy.linalg",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    import numpy as np
    import safetensors.torch  # noqa: F401
    import torch  # noqa: F401

    import squeeze.cli.pack_cmd
    import squeeze.cli.prove_cmd
    import squeeze.cli.runs.prove
    import squeeze.cli.runs.train  # noqa: F401
    from squeeze.artifact import unpack  # noqa: F401
    from squeeze.artifact.file import decode, encode
    from squeeze.artifact.streams import Artifact
    from squeeze.checkpoint import read as checkpoint  # noqa: F401
    from squeeze.packing import calibrate, record, target  # noqa: F401
    from squeeze.score.proof import decode as proof_decode  # noqa: F401
    from squeeze.score.proof import prove  # noqa: F401
    from squeeze.tensors.quantized import RawTensor
    from squeeze.train.run import flops, plot, training  # noqa: F401

    tensors = {"a": RawTensor(np.arange(4096, dtype=np.uint32).reshape(64, 64), "fp32")}
    decode(encode(Artifact({"model": {}}, tensors)))  # loads kernels
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
