"""The standard streams of a command: every character has a form there, and a failure is one line.

A character that a terminal lacks becomes a look-alike or an escape. Standard output that is closed or
full ends the command with one line and exit code 1; one whose reader has gone ends it without a word, as
it ends other tools. Standard error that fails is silent: there is nowhere left to say so.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
from typing import Any, NoReturn, TextIO

from squeeze.errors import SqueezeError

LOOK_ALIKES = {
    "≤": "<=", "≥": ">=", "→": "->", "⇄": "<->", "…": "...", "×": "x", "±": "+-", "·": "-", "–": "-",
    "—": "-", "−": "-", "²": "^2", "³": "^3", "σ": "sigma", "Δ": "d", "∞": "inf",
}  # fmt: skip
ERRORS = "squeeze.look-alikes"  # the name of the error handler below
UNREADABLE, UNWRITABLE = os.O_WRONLY, os.O_RDONLY


class OutputLost(SqueezeError):
    """Standard output that takes nothing more. reader_gone: it was a pipe whose other end closed."""

    reader_gone = False


class _Descriptor(io.FileIO):
    """Bytes to a standard stream. Its failure is raised once; what comes afterwards is dropped."""

    failed = False

    def __init__(self, descriptor: int, silent: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.silent = silent

    def write(self, data: Any, /) -> int:
        """Write bytes; raises OutputLost, or drops them when `silent`."""
        if not self.failed:
            try:
                return super().write(data)
            except OSError as error:
                self.failed = True
                if not self.silent:
                    raise _lost(error) from None
        return memoryview(data).nbytes


class _Text(io.TextIOWrapper):
    """Text to a standard stream, without the `buffer` by which Click goes around an ASCII one."""

    @property
    def buffer(self) -> NoReturn:
        """Raise AttributeError: what is written goes through this object."""
        raise AttributeError("buffer")


def prepare_streams() -> None:
    """Put the streams above in the place of Python's; none that this process began with is left closed.

    A descriptor that was closed is taken by /dev/null, so that no file opened later gets it and receives
    what is written to standard output.
    """
    for descriptor, mode in enumerate((UNREADABLE, UNWRITABLE, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # the lowest one that is free
    if sys.stdout is sys.__stdout__:  # not one that a caller put there
        sys.stdout = _opened(sys.stdout, 1, silent=False)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _opened(sys.stderr, 2, silent=True)


def die_of_broken_pipe() -> NoReturn:
    """End this process as a tool ends that writes to a pipe nobody reads."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(128 + signal.SIGPIPE)  # the first process of a container ignores signals


def _opened(stream: TextIO | None, descriptor: int, silent: bool) -> TextIO:
    """Return a stream on `descriptor` with the encoding of `stream`, which may have been closed."""
    return _Text(
        io.BufferedWriter(_Descriptor(descriptor, silent)),
        encoding=stream.encoding if stream else "utf-8",
        errors=ERRORS,
        line_buffering=silent or os.isatty(descriptor),
    )


def _lost(error: OSError) -> OutputLost:
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
    lost = OutputLost(f"standard output: {reason}")
    lost.reader_gone = error.errno == errno.EPIPE
    return lost


def _look_alikes(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, as `codecs.register_error` asks for it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_look_alike, missing)), error.end


def _look_alike(character: str) -> str:
    if "\u2500" <= character <= "\u259f":  # lines and blocks, of which bars are drawn
        return "-" if character < "\u2580" else "#"
    escaped = character.encode("ascii", "backslashreplace").decode()
    return LOOK_ALIKES.get(character, escaped)


codecs.register_error(ERRORS, _look_alikes)
