"""The decoding process of a proof: `python -m squeeze.score.proof.decode MODEL TOKENIZER FILE OUTPUT`.

Its arguments are those paths, a device, and what is said of the model (`said.Said`). On stdout it prints
JSON lines: {"done": symbols} now and then, and at the end the report, or {"error"}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from squeeze.errors import SqueezeError
from squeeze.files import read_file, write_atomic
from squeeze.reporter import SILENT, Reporter
from squeeze.score.proof.coding import Submission, hashes
from squeeze.score.proof.file import Proof
from squeeze.score.proof.said import source_of
from squeeze.train.data.shards import Tokens

EVERY = 0.2  # seconds between lines of progress


@dataclass(frozen=True)
class DecodeReport:
    """The decoded text in figures.

    text_bytes: of the text, by the table of the tokenizer, as `squeeze eval` counts them
    written_bytes: of the decoded texts joined by newlines, of which the SHA-256 is given
    sha256: of tokens and of text
    seconds, cpu_seconds: wallclock, and time of all threads
    """

    documents: int
    tokens: int
    text_bytes: int
    written_bytes: int
    sha256: dict[str, str]
    seconds: float
    cpu_seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return asdict(self)


class Lines(Reporter):
    """A reporter that prints its count as a JSON line, at most every EVERY seconds."""

    def __init__(self) -> None:
        self._done, self._printed = 0.0, 0.0

    def advance(self, n: float = 1) -> None:
        """Count symbols."""
        self._done += n
        if time.monotonic() - self._printed > EVERY:
            self._printed = time.monotonic()
            print(json.dumps({"done": self._done}), flush=True)


def decode_text(
    submission: Submission,
    proof: Proof,
    output: Path | None,
    reporter: Reporter = SILENT,
    check: Callable[[Sequence[Tokens]], None] = lambda documents: None,
) -> DecodeReport:
    """Decode a proof and write its texts to `output`, joined by newlines; raises as `decode`.

    check: is called with the decoded documents before anything is written
    """
    start, cpu_start = time.perf_counter(), time.process_time()
    documents = submission.decode(proof, reporter)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    check(documents)
    text = submission.text(documents)
    if output is not None:
        write_atomic(output, b"\n".join(text))
    return DecodeReport(
        documents=len(documents),
        tokens=proof.tokens,
        text_bytes=submission.count(documents),
        written_bytes=len(b"\n".join(text)),
        sha256=hashes(documents, text, submission.bos),
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
    )


def main(arguments: Sequence[str]) -> int:
    """Decode as the arguments say; return the exit code of the process."""
    model, tokenizer, file, output, device, said = arguments
    try:
        proof = Proof.from_bytes(read_file(file))
        submission = Submission.load(source_of(model, said), Path(tokenizer), torch.device(device))
        report = decode_text(submission, proof, Path(output), Lines())
    except SqueezeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return error.exit_code
    print(json.dumps(report.as_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
