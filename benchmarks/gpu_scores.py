"""The stages of gpu_check.py that score: windows as they are, and models that learn meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gpu_stages import Figures, Setting, lively, tokens_of

from squeeze.reporter import SILENT
from squeeze.score import compiled as compiled_scores
from squeeze.score.modes import Mode
from squeeze.score.plan import document_spans, sliding
from squeeze.score.tokenizer import ByteTable, Text
from squeeze.score.window import score_plan
from squeeze.subject.precision import computing_in
from squeeze.train.data.shards import Tokens
from squeeze.train.model.config import ModelConfig
from squeeze.train.run.trainer import compilations


def text_of(config: ModelConfig, tokens: Tokens) -> Text:
    """Return tokens of one byte each."""
    marks = np.zeros(config.vocab_size, np.bool_)
    return Text(tokens, ByteTable(np.ones(config.vocab_size, np.int32), marks, marks))


def scores(setting: Setting) -> Figures:
    """Compare scores on the GPU, eager, compiled and in bfloat16, with the one on the CPU."""
    config = setting.preset("baseline").model
    count = config.seq_len // 2 * (compiled_scores.OFTEN + 2)
    tokens = tokens_of(config, count)
    scored = text_of(config, tokens)
    plan = sliding(len(tokens) - 1, config.seq_len, config.seq_len // 2)
    cpu, often = torch.device("cpu"), compiled_scores.OFTEN
    figures: dict[str, Any] = {}
    for name, device, precision in (
        ("cpu", cpu, "fp32"),
        ("eager", setting.device, "fp32"),
        ("compiled", setting.device, "fp32"),
        ("bf16", setting.device, "bf16"),
    ):
        compiled_scores.OFTEN = 1 << 30 if name == "eager" else often
        began = setting.wait()
        with computing_in(precision, device):
            figures[name] = score_plan(lively(config, device), scored, plan, 1).bpb
        figures[f"{name}_seconds"] = round(setting.wait() - began, 2)
    compiled_scores.OFTEN = often
    for name in ("eager", "compiled", "bf16"):
        figures[f"{name} from cpu"] = abs(figures[name] - figures["cpu"])
    return figures, {"eager from cpu": 1e-5, "compiled from cpu": 1e-5, "bf16 from cpu": 2e-3}


def learning(setting: Setting) -> Figures:
    """Compare `ttt-phased`, which learns by LoRA and by SGD, compiled, eager and on the CPU."""
    config = setting.preset("baseline").model
    config = replace(config, num_layers=4, document_attention=True)
    length, chunk = (32, 8) if setting.rehearsal else (256, 48)
    tokens = tokens_of(config, 8 * length)
    tokens[:: length - 5] = config.bos_id
    settings = {"chunk": chunk, "batch": 4, "rank": 8, "phases": 2, "sgd_chunk": length}
    mode = Mode("ttt-phased", length, settings={key: str(n) for key, n in settings.items()})
    documents, often = document_spans(tokens, config.bos_id), compiled_scores.OFTEN
    figures: dict[str, Any] = {}
    cpu, before = torch.device("cpu"), compilations()
    for name, device in (("cpu", cpu), ("eager", setting.device), ("compiled", setting.device)):
        compiled_scores.OFTEN = 1 << 30 if name == "eager" else 2
        began = setting.wait()
        scoring = mode.scoring(lively(config, device))
        score, _ = scoring.score(text_of(config, tokens), documents, None, SILENT)
        figures |= {name: score.bpb, f"{name}_seconds": round(setting.wait() - began, 2)}
    compiled_scores.OFTEN = often
    figures["graphs"] = compilations() - before
    for name in ("eager", "compiled"):
        figures[f"{name} from cpu"] = abs(figures[name] - figures["cpu"])
    return figures, {"eager from cpu": 1e-4, "compiled from cpu": 1e-4, "graphs": 2}


SCORES: dict[str, Callable[[Setting], Figures]] = {"scores": scores, "learning": learning}
