"""Text to a proof file and back, with nothing but a submission: its model and its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.errors import BadConfig, BadData, CorruptData, UnsupportedFormat
from squeeze.files import sha256
from squeeze.reporter import SILENT, Reporter
from squeeze.score.modes import Mode
from squeeze.score.predictor import Extent
from squeeze.score.proof.file import DIGEST_BYTES, ID_BYTES, MAX_BATCH, MAX_THREADS, Proof
from squeeze.score.proof.predictor import build_predictor, mode_fields, read_mode
from squeeze.score.proof.stream import Coded, decode_documents, encode_documents
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.shards import Tokens


@dataclass(frozen=True)
class Submission:
    """A loaded model and its tokenizer, which predict on `device`; `files` are their paths."""

    model: LoadedModel
    tokenizer: Tokenizer
    device: torch.device
    files: tuple[Path, Path]

    @classmethod
    def load(cls, model: Path, tokenizer: Path, device: torch.device) -> Submission:
        """Read a model and its tokenizer; raises BadData when their vocabularies differ."""
        loaded, pieces = load_model(model), Tokenizer(tokenizer)
        if pieces.vocab_size != loaded.config.vocab_size:
            raise BadData(
                "tokenizer and model have different vocabularies",
                expected=f"a tokenizer of the model's {loaded.config.vocab_size} pieces",
                found=f"{pieces.vocab_size} pieces",
                fix="Give the tokenizer the model was trained with.",
            )
        return cls(loaded, pieces, device, (model, tokenizer))

    @property
    def bos(self) -> int:
        """Token that starts a document."""
        return self.model.config.bos_id

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
        predictor = build_predictor(self.model, mode, extent, self.device)
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
            mode=mode_fields(mode),
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
        predictor = build_predictor(self.model, read_mode(proof.mode), extent, self.device)
        documents = decode_documents(predictor, proof.payload, extent, self.bos, reporter)
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
        for name, expected, own in (
            ("artifact", proof.artifact, self.model.sha256),
            ("tokenizer", proof.tokenizer, self.tokenizer.sha256),
        ):
            if expected.hex() != own[: 2 * ID_BYTES]:
                raise BadData(
                    f"proof: made with another {name}",
                    expected=f"SHA-256 {expected.hex()}…",
                    found=f"{own[: 2 * ID_BYTES]}…",
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
