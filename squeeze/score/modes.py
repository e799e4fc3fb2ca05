"""The scoring modes by name, with the options each takes and its defaults. Importing loads no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squeeze.errors import BadConfig
from squeeze.train.fields import refuse_unknown

if TYPE_CHECKING:
    from squeeze.score.adapt.order import OrderLedger
    from squeeze.score.plan import Int64
    from squeeze.score.tokenizer import ByteTable, Tokens
    from squeeze.score.window import Score
    from squeeze.train.model.gpt import GPT

MODES = ("window", "sliding", "documents", "ttt-lora", "ttt-chunk", "ttt-phased")
BY_DOCUMENT = ("documents", "ttt-lora", "ttt-phased")
STRIDE = 64  # tokens, as the records slide
STRIDED = ("sliding", "documents", "ttt-chunk")


@dataclass(frozen=True)
class Mode:
    """How to score. name: one of MODES. length: tokens read at once; None: the model's window.

    stride: by how much windows move, where they do; None: 64. settings: options of the mode as text,
    by name (`LoraOptions`, `ChunkOptions`, `PhasedOptions`; SGD's of phased training begin `sgd_`).
    """

    name: str = "window"
    length: int | None = None
    stride: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in MODES:
            raise BadConfig("scoring mode", expected=", ".join(MODES), found=self.name)
        if self.stride is not None and self.name not in STRIDED:
            raise BadConfig(f"{self.name} scoring has no stride", found=self.stride)
        if self.settings and not self.name.startswith("ttt-"):
            raise BadConfig(
                f"{self.name} scoring has no such options", found=", ".join(self.settings)
            )

    @property
    def by_document(self) -> bool:
        """Whether documents are scored apart, each from its own BOS."""
        return self.name in BY_DOCUMENT

    def options(self, seq_len: int) -> dict[str, Any]:
        """Everything the mode depends on, by name, for a model of that training window."""
        length = seq_len if self.length is None else self.length
        stride = min(STRIDE, length) if self.stride is None else self.stride
        if self.name == "window":
            return {"length": length}
        if self.name in ("sliding", "documents"):
            return {"length": length, "stride": stride}
        options = self.adaptation(length, stride)
        return dataclasses.asdict(options)

    def score(
        self,
        model: GPT,
        tokens: Tokens,
        table: ByteTable,
        documents: tuple[Int64, Int64],
        batch: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Score, OrderLedger | None]:
        """Score tokens, or their documents (`plan.document_spans`) where the mode goes by document.

        batch: windows, or documents, at a time. The ledger is None where nothing is learnt.
        """
        from squeeze.score.plan import sliding, spans
        from squeeze.score.window import score_plan

        length = model.config.seq_len if self.length is None else self.length
        stride = min(STRIDE, length) if self.stride is None else self.stride
        if not self.name.startswith("ttt-"):
            if self.name == "documents":
                plan, unscored = spans(*documents, length, stride), model.config.bos_id
            else:
                stride = length if self.name == "window" else stride
                plan, unscored = sliding(max(0, len(tokens) - 1), length, stride), None
            score = score_plan(
                model, tokens, table, plan, unscored=unscored, batch=batch, on_progress=on_progress
            )
            return score, None
        if batch is not None:
            raise BadConfig(f"{self.name} scoring", found="--batch", fix="Use --ttt batch=N.")
        options = self.adaptation(length, stride)
        if self.name == "ttt-chunk":
            from squeeze.score.adapt.by_chunk import score_chunks

            return score_chunks(model, tokens, table, options, on_progress)
        if self.name == "ttt-lora":
            from squeeze.score.adapt.by_document import score_lora

            return score_lora(model, tokens, table, documents, options, on_progress)
        from squeeze.score.adapt.phased import score_phased

        return score_phased(model, tokens, table, documents, options, on_progress)

    def adaptation(self, length: int, stride: int) -> Any:
        """The LoraOptions, ChunkOptions or PhasedOptions of a test-time training mode."""
        from squeeze.score.adapt.lora import LoraOptions
        from squeeze.score.adapt.sgd import SgdOptions

        if self.name == "ttt-lora":
            chunk = min(LoraOptions().chunk, length)
            return changed(LoraOptions(chunk=chunk, length=length), self.settings)
        if self.name == "ttt-chunk":
            from squeeze.score.adapt.by_chunk import ChunkOptions

            return ChunkOptions(length, stride, changed(SgdOptions(), self.settings))
        from squeeze.score.adapt.phased import LORA, PhasedOptions

        own = {"documents", "phases"}
        sgd = {k.removeprefix("sgd_"): v for k, v in self.settings.items() if k.startswith("sgd_")}
        lora = {k: v for k, v in self.settings.items() if k not in own and not k.startswith("sgd_")}
        base = PhasedOptions(
            dataclasses.replace(LORA, length=length, chunk=min(LORA.chunk, length)),
        )
        base = dataclasses.replace(base, lora=changed(base.lora, lora), sgd=changed(base.sgd, sgd))
        return changed(base, {k: v for k, v in self.settings.items() if k in own})


def changed(options: Any, settings: Mapping[str, str]) -> Any:
    """A dataclass with fields replaced by values read from text; raises BadConfig."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    refuse_unknown("--ttt", settings, values)
    return dataclasses.replace(
        options, **{name: _read(name, values[name], text) for name, text in settings.items()}
    )


def _read(name: str, like: Any, text: str) -> Any:
    if isinstance(like, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    kind = float if like is None else type(like)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else f"a number such as {like or 1.0}"
        raise BadConfig(f"--ttt {name}", expected=expected, found=text) from None
