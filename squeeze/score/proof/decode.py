"""The decoding process of a proof: `python -m squeeze.score.proof.decode MODEL TOKENIZER FILE OUTPUT`.

It is told nothing but those paths. On stdout it prints JSON lines: {"done", "total"} as it goes, and at
the end the report, or {"error"}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError

EVERY = 0.2  # seconds between lines of progress


def decode_file(
    model: Path,
    tokenizer: Path,
    file: Path,
    output: Path | None,
    device: str = "cpu",
    on_progress: Any = None,
) -> dict[str, Any]:
    """Decode a proof file and write its texts to `output`, joined by newlines.

    Returns documents, tokens, text_bytes, sha256 of tokens and of text, and seconds, of
    wallclock and of all threads.
    """
    import torch

    from squeeze.files import read_file, write_atomic
    from squeeze.score.proof.coding import Submission, hashes
    from squeeze.score.proof.file import Proof

    proof = Proof.from_bytes(read_file(file))
    submission = Submission.load(model, tokenizer, torch.device(device))
    started, cpu_started = time.perf_counter(), time.process_time()
    documents = submission.decode(proof, on_progress)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    text = submission.text(documents)
    if output is not None:
        write_atomic(output, b"\n".join(text))
    return {
        "documents": len(documents),
        "tokens": proof.tokens,
        "text_bytes": sum(map(len, text)),
        "sha256": hashes(documents, text, submission.bos),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
    }


def main(arguments: Sequence[str]) -> int:
    """The process; returns its exit code."""
    model, tokenizer, file, output, device = arguments
    last = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            print(json.dumps({"done": done, "total": total}), flush=True)

    try:
        paths = Path(model), Path(tokenizer), Path(file), Path(output)
        report = decode_file(*paths, device, on_progress)
    except SqueezeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return error.exit_code
    print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
