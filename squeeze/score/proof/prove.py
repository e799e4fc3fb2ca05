"""Proof by decoding: text coded by a packed model, decoded by a process that has only the submission.

The file's bits over the text's bytes are a score that needs no trust: text that is in neither the
artifact, the tokenizer nor the file cannot come out. See docs/prove.md.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.errors import BadData, RuleBroken, SqueezeError
from squeeze.files import read_file, scratch_folder, sha256, write_atomic
from squeeze.reporter import SILENT, Reporter
from squeeze.score.evaluate import scoring_of
from squeeze.score.modes import Mode
from squeeze.score.official import tokenizer_name
from squeeze.score.padding import padded_table
from squeeze.score.plan import document_spans
from squeeze.score.proof.coding import Submission, hashes, token_bytes
from squeeze.score.proof.decode import DecodeReport
from squeeze.score.proof.predictor import mode_fields
from squeeze.score.proof.said import Said, script_notes
from squeeze.score.tokenizer import Text, Tokenizer
from squeeze.train.data.shards import Tokens

MODEL, TOKENIZER, FILE, TEXT = "model.sqz", "tokenizer.model", "text.sqp", "text.txt"


@dataclass(frozen=True)
class ProofOptions:
    """Choices of a proof.

    mode: how to predict
    batch: documents that advance together
    threads: of torch, in both processes
    """

    mode: Mode
    batch: int
    threads: int


@dataclass(frozen=True)
class ProofReport:
    """A proof that succeeded: the decoded text is the text that was coded.

    text_bytes: of the text, by the table of the tokenizer, as `squeeze eval` counts them
    written_bytes: of the decoded texts joined by newlines, of which the SHA-256 is given
    artifact_bytes, tokenizer_bytes, script_bytes: sizes of the files that the decoder reads besides the
        coded file
    statement_bytes: of the settings and other statements of the model that it is given, 0 for none
    file_bytes: size of the coded file, header_bytes of them its header
    code_bytes: computed code length of text and ends of documents
    overhead: share by which the file is larger than that
    file_bpb: bits of the file per byte of text
    bpb, bpb_with_ends: computed bits per byte, without and with the ends of documents
    window_bpb: of the same documents in plain windows
    mode: name and options of the predictor
    seconds, cpu_seconds, tokens_per_second: of encoding and decoding
    sha256: of artifact, tokenizer, file, tokens and text
    """

    model: str
    documents: int
    tokens: int
    text_bytes: int
    written_bytes: int
    artifact_bytes: int
    tokenizer_bytes: int
    script_bytes: int
    statement_bytes: int
    file_bytes: int
    header_bytes: int
    code_bytes: float
    overhead: float
    file_bpb: float
    bpb_with_ends: float
    bpb: float
    window_bpb: float
    identical: bool
    mode: dict[str, Any]
    batch: int
    threads: int
    machine: str
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    tokens_per_second: dict[str, float]
    sha256: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return asdict(self)


def prove(
    submission: Submission,
    documents: Sequence[Tokens],
    options: ProofOptions,
    output: Path | None,
    reporter: Reporter = SILENT,
) -> ProofReport:
    """Encode documents, decode them in another process, and compare.

    documents: uint16 [n] each, without its BOS
    output: path of the coded file; None: it is not kept
    reporter: counts symbols, while encoding and while decoding

    Raises RuleBroken when anything differs, BadData for documents without text.
    """
    facts = options.mode.facts
    if facts.by_document and facts.learns:  # a batch waits for its longest: let them be alike
        documents = sorted(documents, key=len, reverse=True)
    text = submission.text(documents)
    text_bytes = submission.count(documents)
    if not text_bytes:
        raise BadData("the chosen documents stand for no text", found=f"{len(documents)} documents")
    said = Said.of(submission.source)
    start, cpu_start = time.perf_counter(), time.process_time()
    proof, coded = submission.encode(
        documents, options.mode, options.batch, options.threads, reporter
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    data = proof.to_bytes()
    if output is not None:
        write_atomic(output, data)
    expected = hashes(documents, text, submission.bos)
    with reporter.stage("decoding", coded.symbols, "symbols") as stage:
        decoded = decode_elsewhere(submission, data, expected["text"], stage)
    if decoded.sha256 != expected:
        raise RuleBroken("the decoded tokens differ", expected=expected, found=decoded.sha256)
    code_bits = (coded.nats + coded.end_nats) / math.log(2.0)
    return ProofReport(
        model=str(submission.source.path),
        documents=len(documents),
        tokens=proof.tokens,
        text_bytes=text_bytes,
        written_bytes=len(b"\n".join(text)),
        artifact_bytes=submission.model.size,
        tokenizer_bytes=submission.tokenizer.size,
        script_bytes=said.script_bytes,
        statement_bytes=said.statement_bytes,
        file_bytes=len(data),
        header_bytes=len(data) - len(proof.payload),
        code_bytes=code_bits / 8,
        overhead=len(data) / (code_bits / 8) - 1,
        file_bpb=8 * len(data) / text_bytes,
        bpb_with_ends=code_bits / text_bytes,
        bpb=coded.nats / math.log(2.0) / text_bytes,
        window_bpb=window_bpb(submission, documents),
        identical=True,
        mode={"name": options.mode.name, **mode_fields(options.mode)},
        batch=proof.batch,
        threads=proof.threads,
        machine=proof.machine,
        seconds={"encode": round(seconds, 3), "decode": decoded.seconds},
        cpu_seconds={"encode": round(cpu_seconds, 3), "decode": decoded.cpu_seconds},
        tokens_per_second={
            "encode": round(coded.symbols / seconds, 1),
            "decode": round(coded.symbols / max(decoded.seconds, 1e-9), 1),
        },
        sha256={
            "artifact": submission.model.sha256,
            "tokenizer": submission.tokenizer.sha256,
            "file": sha256(data),
            **expected,
        },
    )


def decode_elsewhere(
    submission: Submission, data: bytes, text_sha256: str, stage: Reporter
) -> DecodeReport:
    """Decode in a process whose folder holds copies of the submission and the file, and no more.

    stage: counts symbols

    Raises SqueezeError with the process's own message when it fails, RuleBroken when the text it wrote
    has another SHA-256 than `text_sha256`.
    """
    with scratch_folder("squeeze-prove-") as folder:
        said = Said.of(submission.source)
        copies = {MODEL: submission.source.path, TOKENIZER: submission.path, **said.files}
        for copy, path in copies.items():
            write_atomic(folder / copy, read_file(path))
        write_atomic(folder / FILE, data)
        # -I: neither the environment nor the folder adds anything to Python's path
        command = [sys.executable, "-I", "-m", "squeeze.score.proof.decode"]
        command += [MODEL, TOKENIZER, FILE, TEXT, str(submission.device), said.text]
        report = _run(command, folder, stage)
        written = sha256((folder / TEXT).read_bytes())
        if written != text_sha256:
            raise RuleBroken(
                "the decoded text is not the text", expected=text_sha256, found=written
            )
    return report


def _run(command: list[str], folder: Path, stage: Reporter) -> DecodeReport:
    """Run the decoding process and return its report; the process never outlives the call.

    The report is the last JSON line that it prints; earlier ones are progress.
    """
    last: dict[str, Any] = {}
    done = 0.0
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=complaints) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                try:
                    last = json.loads(line)
                except ValueError:
                    continue  # some library's greeting
                if "done" in last:
                    stage.advance(last["done"] - done)
                    done = last["done"]
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        if code or "sha256" not in last:
            complaints.seek(0)
            tail = complaints.read()[-500:].decode(errors="replace").strip()
            reason = last.get("error") or tail or f"exit code {code}"
            raise SqueezeError(f"decoding in another process failed: {reason}")
    return DecodeReport(**last)


def reading_notes(submission: Submission) -> list[str]:
    """Return sentences on what a decoder reads: a tokenizer could hold text, and a script reach it."""
    script = script_notes(submission.source, submission.model.subject)
    return [*submission.padding, *_tokenizer_notes(submission.tokenizer), *script]


def _tokenizer_notes(tokenizer: Tokenizer) -> list[str]:
    if tokenizer_name(tokenizer.sha256) is not None:
        return tokenizer.notes
    return [
        *tokenizer.notes,
        f"the tokenizer is none of the challenge's (SHA-256 {tokenizer.sha256[:16]}…): the decoder "
        f"reads its {tokenizer.size:,} bytes, of which the longest piece stands for "
        f"{tokenizer.longest:,} bytes of text, so they count with the model",
    ]


def window_bpb(submission: Submission, documents: Sequence[Tokens]) -> float:
    """Return the plain score of the documents laid end to end, in windows that do not overlap."""
    stream = np.frombuffer(token_bytes(documents, submission.bos), "<u2").astype(np.uint16)
    table = submission.tokenizer.table
    if submission.padding:
        table = padded_table(table, submission.model.subject.vocab_size)
    text, spans = Text(stream, table), document_spans(stream, submission.bos)
    scoring = scoring_of(Mode("window"), submission.subject())
    return scoring.score(text, spans, None, SILENT)[0].bpb
