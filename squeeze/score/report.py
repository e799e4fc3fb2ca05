"""The report of a score: its JSON, as `squeeze eval --json` prints it, and its reader. No torch here."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from squeeze.errors import BadData

PRINTED = "what `squeeze eval --json` prints"
LARGEST_METRIC = 1e9  # nats or bits; the square of a larger one may overflow
METRICS = ("nats_per_token", "bpb")
# fields that every report must have, and those that may be left out, with their kinds
REQUIRED: dict[str, type | tuple[type, ...]] = {
    "nats_per_token": (int, float),
    "bpb": (int, float),
    "config": dict,
    "mode": str,
    "options": dict,
    "tokens": int,
    "bytes": int,
}
OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "nats": (int, float),
    "official": str,
    "partial": bool,
    "available_tokens": int,
    "bytes_checked_against_text": int,
    "order": dict,
    "notes": list,
    "format": str,
    "model_bytes": int,
    "versions": dict,
    "ranks": int,
    "device": str,
    "device_name": str,
    "precision": str,
    "threads": int,
    "seconds": dict,
}


@dataclass(frozen=True)
class Hashes:
    """Hex SHA-256 of all that a score depends on.

    model, tokenizer: of the files
    data: of the shards in their order, by path or as a list
    code: of squeeze's sources
    """

    model: str
    tokenizer: str | None
    data: dict[str, str] | list[str]
    code: str | None = None

    @property
    def shards(self) -> list[str]:
        """Hashes of the shards, in their order."""
        return [
            str(value)
            for value in (self.data.values() if isinstance(self.data, dict) else self.data)
        ]


@dataclass(frozen=True)
class DocumentCounts:
    """Facts of a score that goes by document.

    documents: their number
    documents_seed: seed that drew them, None where all were scored
    ends: predictions of the BOS after a document, which are not scored
    end_nats: their cross-entropy
    bpb_with_ends: bits per byte when they are paid for as well
    """

    documents: int
    documents_seed: int | None
    ends: int
    end_nats: float
    bpb_with_ends: float


COUNTS = tuple(count.name for count in fields(DocumentCounts))


@dataclass(frozen=True)
class EvalReport:
    """A score, and everything needed to derive it again.

    bpb, nats_per_token, nats: the score; nats are a float64 sum
    tokens, bytes: targets scored, and bytes of their text
    official: name of the official validation set, when it is that, whole
    partial: True when fewer targets are scored than the data holds
    available_tokens: targets that the data holds
    bytes_checked_against_text: bytes that decoded text confirms
    by_document: None where one stream is scored
    order: counts of the ledger of test-time training, None where nothing is learnt
    format, model_bytes: of the model's file
    precision: of the arithmetic, a name of `squeeze.subject.precision.PRECISIONS`
    notes: assumptions about the model
    seconds: by phase

    A report that was read back may lack everything but the fields without a default.
    """

    nats_per_token: float
    bpb: float
    tokens: int
    bytes: int
    mode: str
    config: dict[str, Any]
    sha256: Hashes
    options: dict[str, Any] | None = None
    model: str | None = None
    nats: float | None = None
    official: str | None = None
    partial: bool | None = None
    available_tokens: int | None = None
    bytes_checked_against_text: int | None = None
    by_document: DocumentCounts | None = None
    order: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    format: str | None = None
    model_bytes: int | None = None
    versions: dict[str, str] | None = None
    ranks: int | None = None
    device: str | None = None
    device_name: str | None = None
    precision: str = "fp32"
    threads: int | None = None
    seconds: dict[str, float] | None = None

    def metric(self, name: str) -> float:
        """Return a metric of METRICS."""
        return float(getattr(self, name))

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as `squeeze eval --json` prints them."""
        return {
            "model": self.model,
            "bpb": self.bpb,
            "nats_per_token": self.nats_per_token,
            "nats": self.nats,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "official": self.official,
            "partial": self.partial,
            "available_tokens": self.available_tokens,
            "bytes_checked_against_text": self.bytes_checked_against_text,
            "mode": self.mode,
            "options": self.options,
            **({} if self.by_document is None else asdict(self.by_document)),
            **({} if self.order is None else {"order": self.order}),
            "config": self.config,
            "notes": self.notes,
            "format": self.format,
            "model_bytes": self.model_bytes,
            "sha256": asdict(self.sha256),
            "versions": self.versions,
            "ranks": self.ranks,
            "device": self.device,
            "device_name": self.device_name,
            "precision": self.precision,
            "threads": self.threads,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, facts: object, source: str) -> EvalReport:
        """Return the report that plain values are; raises BadData, naming their source."""
        facts = facts if isinstance(facts, dict) else {}
        hashes = _hashes(facts.get("sha256"))
        lacking = sorted(name for name in REQUIRED if facts.get(name) is None)
        if lacking or hashes is None:
            raise BadData(
                f"{source}: not a report of a score",
                expected=PRINTED,
                found=f"no {', '.join(lacking or ['sha256 of model, tokenizer and data'])[:200]}",
            )
        for name in METRICS:
            if not (_is_finite(facts[name]) and abs(facts[name]) < LARGEST_METRIC):
                raise BadData(
                    f"{source}: {name}", expected="a finite number", found=repr(facts[name])[:40]
                )
        for name, kind in (REQUIRED | OPTIONAL).items():
            if facts.get(name) is not None and not _is_kind(facts[name], kind):
                raise BadData(f"{source}: {name}", expected=PRINTED, found=repr(facts[name])[:40])
        for name in ("tokens", "bytes"):
            if facts[name] <= 0:
                raise BadData(f"{source}: {name}", expected="1 or more", found=facts[name])
        counts = None
        if all(name in facts for name in COUNTS):
            counts = DocumentCounts(**{name: facts[name] for name in COUNTS})
        stated = (name for name in (*REQUIRED, *OPTIONAL) if facts.get(name) is not None)
        values = {name: facts[name] for name in stated}
        return cls(**values, sha256=hashes, by_document=counts)


def _hashes(facts: object) -> Hashes | None:
    """Return the hashes of a report; None where some are missing or of another kind."""
    facts = facts if isinstance(facts, dict) else {}
    model, data = facts.get("model"), facts.get("data")
    if not isinstance(model, str) or "tokenizer" not in facts or not isinstance(data, dict | list):
        return None
    return Hashes(model, facts["tokenizer"], data, facts.get("code"))


def _is_kind(value: object, kind: type | tuple[type, ...]) -> bool:
    """Return whether a value is of a kind; true and false are numbers of no kind."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_finite(value: Any) -> bool:
    """Return whether a value is a number that a float can hold."""
    return _is_kind(value, (int, float)) and abs(value) <= sys.float_info.max
