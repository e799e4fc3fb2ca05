"""The auditor's end of the scoring protocol: every answer has a deadline, a size and a meaning."""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import SqueezeError
from squeeze.score.box.sandbox import Box
from squeeze.score.serving.protocol import HEADER, REPORT, VERSION
from squeeze.train.data.text import BOS

Tokens = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]

HELLO_BYTES = 64 << 10
REPLY_BYTES = 64 << 20  # log-probabilities of one answer; longer feeds are split
MAX_VOCAB = 1 << 16
MAX_CHUNK = 1 << 24


class SubmissionFailed(SqueezeError):
    """The submission broke the protocol, a limit, or itself; the message is the evidence."""


@dataclass(frozen=True)
class Reported:
    """A score a submission computed itself, by its own pipeline.

    nats: sum over all scored targets
    bytes: of their text
    tokens: their number
    losses: float32 nats of each scored target in file order; empty when the submission states none
    """

    nats: float
    bytes: int
    tokens: int
    losses: Float32


@dataclass(frozen=True)
class Hello:
    """A submission's declaration, validated (docs/protocol.md).

    stateful: True when it learns from the tokens it is fed, in updates of `chunk` tokens, and is fed in
        order; otherwise window and stride are those of the contexts that its report scores
    isolated: True when nothing crosses a document's BOS
    scores_bos: True when the BOS of a document is a target
    bos: token that begins a document
    """

    vocab_size: int
    stateful: bool
    isolated: bool
    scores_bos: bool
    bos: int
    chunk: int
    window: int
    stride: int

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """Return the declaration in a payload. Raises SubmissionFailed, naming the field at fault."""
        try:
            fields = json.loads(payload)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise SubmissionFailed("hello is not a JSON object", found=payload[:60])
        if fields.get("protocol") != VERSION:
            raise SubmissionFailed(
                "protocol", expected=VERSION, found=repr(fields.get("protocol"))[:60]
            )
        stateful = _flag(fields, "stateful")
        window = 0 if stateful else _count(fields, "window", 1, MAX_CHUNK)
        vocab_size = _count(fields, "vocab_size", 2, MAX_VOCAB)
        return cls(
            vocab_size=vocab_size,
            stateful=stateful,
            isolated=_flag(fields, "isolated"),
            scores_bos=_flag(fields, "scores_bos", True),
            bos=_count(fields, "bos", 0, vocab_size - 1, BOS),
            chunk=_count(fields, "chunk", 1, MAX_CHUNK) if stateful else 0,
            window=window,
            stride=0 if stateful else _count(fields, "stride", 1, window, window),
        )


def _flag(fields: dict[str, Any], name: str, default: bool | None = None) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise SubmissionFailed(
            f"hello field {name}", expected="true or false", found=repr(value)[:60]
        )
    return value


def _count(
    fields: dict[str, Any], name: str, low: int, high: int, default: int | None = None
) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SubmissionFailed(
            f"hello field {name}", expected=f"{low} to {high}", found=repr(value)[:60]
        )
    return value


class Session:
    """One conversation with one process, which opens with hello.

    targets: of the span that the conversation is about

    Every method raises SubmissionFailed.
    """

    def __init__(self, box: Box, targets: int) -> None:
        self.box = box
        assert box.process.stdin is not None and box.process.stdout is not None
        self._in, self._out = box.process.stdin.fileno(), box.process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        about = json.dumps({"targets": targets}).encode()
        self.hello = Hello.parse(self._ask(b"H", about, HELLO_BYTES, box.limits.seconds))

    def score(self, tokens: Tokens, skip: int = 0) -> Float32:
        """Return log-probabilities float32 [n - skip, V] after tokens[skip:], on a fresh state."""
        return self._rows(b"S", tokens, skip)

    def feed(self, tokens: Tokens, skip: int = 0) -> Float32:
        """Return log-probabilities float32 [n - skip, V] after tokens[skip:].

        The tokens follow those of earlier requests.
        """
        return self._rows(b"F", tokens, skip)

    def report(self, data: str, tokenizer: str, targets: int, finite: bool = True) -> Reported:
        """Return the submission's own score of the inputs of these names.

        finite: the nats have to be; random text may cost infinitely many
        """
        paths = {"data": data, "tokenizer": tokenizer}
        named = {key: self.box.input_path(name) for key, name in paths.items()}
        # twice the targets, so that a report that scores some of them again gets its verdict
        most, seconds = REPORT.size + 8 * targets, self.box.limits.report_seconds
        payload = self._ask(b"R", json.dumps(named).encode(), most, seconds)
        if len(payload) < REPORT.size or (len(payload) - REPORT.size) % 4:
            raise SubmissionFailed(
                "report", expected="3 numbers and float32 losses", found=f"{len(payload)} bytes"
            )
        losses = np.frombuffer(payload, "<f4", offset=REPORT.size)
        nats, num_bytes, tokens = REPORT.unpack_from(payload)
        if (finite and not math.isfinite(nats)) or num_bytes <= 0 or tokens <= 0:
            raise SubmissionFailed(
                "report",
                expected="finite nats of some text",
                found=f"{nats} nats of {num_bytes} bytes",
            )
        return Reported(nats, num_bytes, tokens, losses)

    @property
    def rows_per_answer(self) -> int:
        """Number of tokens that one answer may cover."""
        return max(1, REPLY_BYTES // (4 * self.hello.vocab_size))

    def _rows(self, kind: bytes, tokens: Tokens, skip: int) -> Float32:
        shape = (len(tokens) - skip, self.hello.vocab_size)
        expected = 4 * shape[0] * shape[1]
        payload = self._ask(
            kind,
            struct.pack("<I", skip) + np.ascontiguousarray(tokens, "<u2").tobytes(),
            expected,
            self.box.limits.seconds,
        )
        if len(payload) != expected:
            raise SubmissionFailed(
                "log-probabilities",
                expected=f"{expected} bytes for {shape[0]} tokens",
                found=len(payload),
            )
        return np.frombuffer(payload, "<f4").reshape(shape)

    def _ask(self, kind: bytes, payload: bytes, most: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        self._write(HEADER.pack(len(payload), kind) + payload, deadline, seconds)
        size, answered = HEADER.unpack(self._read(HEADER.size, deadline, seconds))
        if answered == b"E":
            text = self._read(min(size, 2000), deadline, seconds).decode("utf-8", "replace")
            raise SubmissionFailed(f"the submission answered an error: {text}")
        if answered != kind or size > most:
            raise SubmissionFailed(
                "garbage instead of an answer",
                expected=f"frame {kind.decode()!r} of at most {most} bytes",
                found=f"{answered!r} of {size}",
                fix="Print to stderr; stdout carries the protocol.",
            )
        return self._read(size, deadline, seconds)

    def _write(self, data: bytes, deadline: float, seconds: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view[: 1 << 16]) :]
            except BlockingIOError:
                self._wait(deadline, seconds, write=True)
            except OSError:
                raise self._ended() from None

    def _read(self, size: int, deadline: float, seconds: float) -> bytes:
        parts, left = [], size
        while left:
            try:
                part = os.read(self._out, min(left, 1 << 20))
            except BlockingIOError:
                self._wait(deadline, seconds, write=False)
                continue
            if not part:
                raise self._ended()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _wait(self, deadline: float, seconds: float, write: bool) -> None:
        left = deadline - time.monotonic()
        ready = select.select(
            [] if write else [self._out], [self._in] if write else [], [], max(0, left)
        )
        if left <= 0 or not any(ready):
            raise SubmissionFailed(f"no answer within {seconds:g} s")

    def _ended(self) -> SubmissionFailed:
        code = self.box.process.wait(timeout=10)
        if self.box.was_over:
            limit = (self.box.limits.memory or 0) / 2**30
            return SubmissionFailed(
                f"its processes took more than {limit:g} GiB of memory together"
            )
        last = self.box.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        return SubmissionFailed(
            f"the submission ended early with exit code {code}", found=last[0][:300]
        )
