"""Text to a proof file and back, with nothing but a submission: its model and its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from squeeze.errors import BadConfig, BadData, CorruptData, UnsupportedFormat
from squeeze.files import sha256
from squeeze.reporter import SILENT, Reporter
from squeeze.score.modes import Mode
from squeeze.score.padding import check_pieces
from squeeze.score.predictor import Extent
from squeeze.score.proof.file import DIGEST_BYTES, ID_BYTES, MAX_BATCH, MAX_THREADS, Proof
from squeeze.score.proof.predictor import build_predictor, mode_fields, read_mode
from squeeze.score.proof.said import MODEL, SCRIPT, digests
from squeeze.score.proof.stream import Coded, decode_documents, encode_documents
from squeeze.score.tokenizer import Tokenizer, refuse_vocabulary
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.train.data.shards import Tokens
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class Submission:
    """A loaded model and its tokenizer, which predict on `device`.

    source: the model as it was named
    path: of the tokenizer
    said: SHA-256, by field of a proof's file, of what the artifact does not hold: script, statements
    padding: a note on outputs that the tokenizer has no piece for, or none
    """

    source: ModelSource
    model: Workpiece
    tokenizer: Tokenizer
    device: torch.device
    path: Path
    said: dict[str, str]
    padding: tuple[str, ...] = ()

    @classmethod
    def load(cls, source: ModelSource, tokenizer: Path, device: torch.device) -> Submission:
        """Read a model and its tokenizer.

        Raises BadData when their vocabularies differ, and as `ModelSource.open`; BadConfig for a folder,
        which no decoder is given.
        """
        if Path(source.path).is_dir():
            raise BadConfig(
                "a proof is of a file", found=source.path, fix="Pack the folder, and prove that."
            )
        model, pieces = source.open(), Tokenizer(tokenizer)
        subject = model.subject
        padding = check_pieces(subject.vocab_size, pieces.vocab_size)
        if padding and isinstance(subject.module, GPT):
            raise refuse_vocabulary(subject.vocab_size, pieces.vocab_size)
        said = digests(source, subject)
        return cls(source, model, pieces, device, tokenizer, said, tuple(padding))

    def subject(self) -> Subject:
        """Return the model on its device; of our GPT a new one, since some modes train it."""
        assert self.model.build is not None  # `load` takes no weights alone
        subject = self.model.build()
        subject.module.to(self.device)
        return subject

    @property
    def bos(self) -> int:
        """Token that starts a document. Raises BadConfig for a model that names none."""
        if self.model.subject.bos is None:
            raise BadConfig(
                "a proof codes documents",
                expected="the token that begins a document",
                fix="Write `bos = 1` in the script.",
            )
        return self.model.subject.bos

    def digest(self, documents: Sequence[Tokens]) -> bytes:
        """Return the digest of all tokens and of the files they are coded with (docs/prove.md §2)."""
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        digest.update(bytes.fromhex(self.model.sha256))
        digest.update(bytes.fromhex(self.tokenizer.sha256))
        digest.update(token_bytes(documents, self.bos))
        return digest.digest()

    def count(self, documents: Sequence[Tokens]) -> int:
        """Return the bytes that documents count as, by the table: those that a score divides by."""
        return sum(map(self.tokenizer.count, documents))

    def text(self, documents: Sequence[Tokens]) -> list[bytes]:
        """Return the UTF-8 text of each document."""
        return [self.tokenizer.decode(tokens.tolist()).encode() for tokens in documents]

    def encode(
        self,
        documents: Sequence[Tokens],
        mode: Mode,
        batch: int,
        threads: int,
        reporter: Reporter = SILENT,
    ) -> tuple[Proof, Coded]:
        """Code documents, each uint16 [n] without its BOS; sets torch's number of threads.

        batch: documents that advance together

        Raises BadData for documents that cannot be coded, BadConfig for numbers out of range.
        """
        if not documents:
            raise BadData("nothing to code", expected="a document")
        batch = min(batch, len(documents))
        for name, value, most in (("batch", batch, MAX_BATCH), ("threads", threads, MAX_THREADS)):
            if not 1 <= value <= most:
                raise BadConfig(name, expected=f"1..{most}", found=value)
        torch.set_num_threads(threads)
        tokens = sum(map(len, documents))
        extent = Extent(len(documents), tokens + len(documents), batch)
        predictor = build_predictor(self.subject(), mode, extent)
        coded = encode_documents(predictor, documents, self.bos, batch, reporter)
        proof = Proof(
            artifact=bytes.fromhex(self.model.sha256)[:ID_BYTES],
            tokenizer=bytes.fromhex(self.tokenizer.sha256)[:ID_BYTES],
            digest=self.digest(documents),
            documents=len(documents),
            tokens=tokens,
            batch=batch,
            threads=threads,
            machine=machine(self.device),
            mode=mode_fields(mode) | self.said,
            payload=coded.payload,
        )
        return proof, coded

    def decode(self, proof: Proof, reporter: Reporter = SILENT) -> list[Tokens]:
        """Return the documents of a proof; sets torch's number of threads.

        Raises BadData for another artifact or tokenizer, UnsupportedFormat on another kind of machine,
        CorruptData when the decoded text is not the text that was coded.
        """
        self._check_origin(proof)
        torch.set_num_threads(proof.threads)
        extent = Extent(proof.documents, proof.tokens + proof.documents, proof.batch)
        predictor = build_predictor(self.subject(), read_mode(proof.mode), extent)
        documents = decode_documents(predictor, proof.payload, extent, self.bos, reporter)
        if any((tokens >= self.tokenizer.vocab_size).any() for tokens in documents):
            raise CorruptData(
                "proof: holds tokens that stand for no text",
                expected=f"tokens below {self.tokenizer.vocab_size}, the tokenizer's pieces",
            )
        if self.digest(documents) != proof.digest:
            raise CorruptData(
                "proof: the decoded text is not the text that was coded",
                expected=f"digest {proof.digest.hex()}",
                found=self.digest(documents).hex(),
                fix="This machine computes other bits than the one that encoded; decode there.",
            )
        return documents

    def _check_origin(self, proof: Proof) -> None:
        """Raise unless a proof was made with these files, on this kind of machine."""
        own_ids = {
            "artifact": (proof.artifact.hex(), self.model.sha256[: 2 * ID_BYTES]),
            "tokenizer": (proof.tokenizer.hex(), self.tokenizer.sha256[: 2 * ID_BYTES]),
            "script": (proof.mode.get(SCRIPT), self.said.get(SCRIPT)),
            "statement of the model": (proof.mode.get(MODEL), self.said.get(MODEL)),
        }
        for name, (expected, own) in own_ids.items():
            if expected != own:
                raise BadData(
                    f"proof: made with another {name}",
                    expected="none" if expected is None else f"SHA-256 {expected[:16]}…",
                    found="none" if own is None else f"{own}…",
                    fix=f"Give the {name} that encoded it.",
                )
        if proof.machine != machine(self.device):
            raise UnsupportedFormat(
                "proof: made on another kind of machine, whose logits may differ in the last bit",
                expected=proof.machine,
                found=machine(self.device),
                fix="Decode with that release of torch on such a device, or encode again here.",
            )


def machine(device: torch.device) -> str:
    """Return torch's release and the processor, on which the last bits of logits depend."""
    release = str(torch.__version__).split("+")[0]
    if device.type == "cuda":
        return f"{release} {torch.cuda.get_device_name(device)}"
    return f"{release} {torch.backends.cpu.get_cpu_capability()}"


def token_bytes(documents: Sequence[Tokens], bos: int) -> bytes:
    """Return all tokens as little-endian uint16, a BOS before each document."""
    start = np.array([bos], "<u2").tobytes()
    return b"".join(start + tokens.astype("<u2").tobytes() for tokens in documents)


def hashes(documents: Sequence[Tokens], text: Sequence[bytes], bos: int) -> dict[str, str]:
    """Return the SHA-256 of all tokens, and of the texts joined by newlines."""
    return {"tokens": sha256(token_bytes(documents, bos)), "text": sha256(b"\n".join(text))}
