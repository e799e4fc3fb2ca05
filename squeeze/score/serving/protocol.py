"""The submission's side of docs/protocol.md. Copy this file, write a scorer, call `serve(scorer)`.

Needs numpy and the standard library, nothing of squeeze. A scorer has four methods:

    hello(targets)            -> dict: what it is; the audit scores streams of so many targets
    reset()                   forget every token and everything learnt from one
    feed(tokens uint16 [n])   -> log-probabilities [n, V] of the token after each
    report(data, tokenizer)   -> (nats, bytes, tokens, losses [tokens]) of a shard, from a fresh state,
                              by the pipeline its own score comes from
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

import numpy as np

VERSION = 1
HEADER = struct.Struct("<Ic")  # payload bytes, kind
REPORT = struct.Struct("<dqq")  # nats, bytes, tokens; then float32 nats of each target


def serve(scorer: Any) -> None:
    """Answer requests on stdin until the auditor closes it; what is printed goes to stderr."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        size, kind = HEADER.unpack(header)
        reply = _answer(scorer, kind, requests.read(size))
        replies.write(HEADER.pack(len(reply), kind) + reply)
        replies.flush()


def _answer(scorer: Any, kind: bytes, payload: bytes) -> bytes:
    if kind == b"H":
        return json.dumps(scorer.hello(**json.loads(payload))).encode()
    if kind == b"R":
        nats, num_bytes, tokens, losses = scorer.report(**json.loads(payload))
        return REPORT.pack(nats, num_bytes, tokens) + np.asarray(losses, "<f4").tobytes()
    if kind == b"S":  # score these from nothing; b"F" goes on feeding
        scorer.reset()
    (skip,) = struct.unpack_from("<I", payload)
    rows = scorer.feed(np.frombuffer(payload, "<u2", offset=4))[skip:]
    return np.ascontiguousarray(rows, "<f4").tobytes()
