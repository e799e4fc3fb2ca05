"""The decoder: one forward for training, scoring and calibration.

With every option off it is the challenge's naive baseline (openai/parameter-golf `train_gpt.py`), whose
tensor names it keeps: a pre-norm GPT with norms that carry no weights, rotary grouped-query attention, a
power-of-relu MLP, skip connections from the first half of the layers to the second, and soft-capped
logits. Every weight matrix is a `Linear` without bias, so forward hooks see the inputs of each;
`final_norm` is the input of the (tied) head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.errors import BadCheckpoint
from squeeze.train.fields import VALIDATING
from squeeze.train.model.attention import Attend, Reach, attention_for, attention_within, reach_for
from squeeze.train.model.block import build_block
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import levels
from squeeze.train.model.embeddings import (
    SMEARS,
    Bigram,
    Shift,
    Trigram,
    ValueEmbedding,
    predecessors,
    second_predecessors,
)
from squeeze.train.model.layers import (
    Linear,
    RMSNorm,
    Table,
    rotary_base,
    rotary_table,
    vector,
)
from squeeze.train.model.loss import capped_loss
from squeeze.train.model.operations import capped
from squeeze.train.model.start import init_weights_
from squeeze.train.model.sublayers import Surroundings


class Past(Protocol):
    """Earlier tokens of an incremental forward (see `squeeze.train.model.cache`).

    length: the most tokens that it holds
    """

    length: int

    def begin(self, ids: Tensor) -> Tensor:
        """Take in the next tokens int64 [B, T] and return their positions int64 [T]."""

    def attend(self, level: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return attention of the new tokens over old and new; level counts effective layers."""

    def shift(self, what: str, x: Tensor) -> Tensor:
        """Return x [B, T, ...] of the new tokens moved by one token; 0 for the very first."""


def shift_whole(what: str, x: Tensor) -> Tensor:
    """Return x moved by one token, for a forward that begins with its first token (`Past.shift`)."""
    return torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), dim=1)


class GPT(nn.Module):
    """The model: `GPT(config)` is initialised from `seed`, `from_tensors` loads weights.

    matrices: how they begin, "orthogonal" or "uniform"

    recurrent: True while the blocks that `layer_schedule` repeats do repeat; it may be switched at any
        time (#1204 and #1493 train without repeats at first, `start_repeats_`)
    """

    def __init__(self, config: ModelConfig, seed: int = 0, matrices: str = "orthogonal") -> None:
        super().__init__()
        self.config = config
        self.recurrent = True
        self.levels = (levels(config, recurrent=False), levels(config))
        self.tok_emb = Table(config.vocab_size, config.model_dim)
        self.input_norm = RMSNorm()
        self.blocks = nn.ModuleList(build_block(config, n) for n in range(config.num_layers))
        self.final_norm = RMSNorm()
        if config.num_skips:
            self.skip_weights = vector(config.num_skips, config.model_dim)
        if config.skip_gates:
            self.skip_gates = vector(config.num_skips, config.model_dim)
        if config.bigram_rows:
            self.bigram = Bigram(config)
        if config.trigram_rows:
            self.trigram = Trigram(config)
        if config.smear_gate != "none":
            self.smear = SMEARS[config.smear_gate](config)
        if config.value_layers:
            self.value_embed = ValueEmbedding(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.model_dim, config.vocab_size)
        if not self.tok_emb.weight.is_meta:
            init_weights_(self, seed, matrices)

    @classmethod
    def from_tensors(
        cls, config: ModelConfig, tensors: Mapping[str, npt.NDArray[np.float32]]
    ) -> GPT:
        """Return a model that holds a copy of the weights, in float32.

        Raises BadCheckpoint naming the tensor that is missing, unexpected or of another shape.
        """
        if VALIDATING:
            _check(config, tensors)
        with torch.device("meta"):
            model = cls(config)
        state = {name: torch.tensor(w, dtype=torch.float32) for name, w in tensors.items()}
        model.load_state_dict(state, assign=True)
        return model

    @torch.no_grad()
    def start_repeats_(self) -> None:
        """Set later passes to the parameters of their block (#1204, when repetition starts).

        Scalars of a depth are left alone: they have learned since the beginning, with another block.
        """
        config = self.config
        block: Any
        repeats = config.untied_scalars or config.untied_mlps or config.value_layers
        for block in self.blocks if repeats else ():
            own = dict(block.named_parameters()) | {"q_gain": block.attn.q_gain}
            for repeat in block.repeats:
                for name, weight in repeat.named_parameters():
                    if not config.by_depth or name.startswith("mlp."):
                        weight.copy_(own[name])

    def reach(self, ids: Tensor, host: Tensor | None = None, cut: int = 0) -> Reach:
        """Return what the queries of ids int64 [B, T] see; `loss` takes it.

        host, cut: as of `squeeze.train.model.attention.reach_for`
        """
        return reach_for(self.config, ids, self.stream_dtype(), host, cut)

    def hidden(self, ids: Tensor, past: Past | None = None, reach: Reach | None = None) -> Tensor:
        """Return normalised final states [B, T, D] of token ids [B, T], the inputs of the head.

        reach: that of the ids, where it is already made
        """
        config = self.config
        attends = self._attends(ids, past, reach)
        count, device = ids.size(1), ids.device
        positions = torch.arange(count, device=device) if past is None else past.begin(ids)
        dims, length = config.rope_dims or config.head_dim, count if past is None else past.length
        base = rotary_base(config.rope_base, dims, length, config.rope_length)
        rotary = rotary_table(positions, dims, base)
        first = self._embed(ids, shift_whole if past is None else past.shift).to(
            self.stream_dtype()
        )
        values = self.value_embed(ids) if config.value_layers else None
        stream: Any = first.view_as(first)  # blocks compiled alone must not see one tensor twice
        skips: list[Tensor] = []
        # where nothing repeats, the switch must not make a second graph
        layers = self.levels[int(not config.layer_schedule or self.recurrent)]
        num_skips = len(layers) // 2 if config.skips else 0
        lanes = config.parallel == "lanes" or config.parallel == "lanes-in-turn"
        for depth, layer in enumerate(layers):
            block: Any = self.blocks[layer.block]
            if lanes and block.lanes and isinstance(stream, Tensor):
                stream = (stream, stream)
            if 0 <= depth - num_skips < num_skips:
                stream = self._joined(stream, depth - num_skips, skips.pop())
            home: Any = self.blocks[layer.home[0]]
            around = Surroundings(
                first=first,
                rotary=rotary,
                attend=attends(depth),
                scalars=home.scalars(layer.home[1]),
                values=values if config.value_layers and layer.values else None,
                number=layer.number,
                factor=layer.factor,
                exclusive=layer.exclusive,
                mute=layer.mute,
            )
            stream = block(stream, around)
            if depth < num_skips:
                skips.append(stream)
        out: Tensor = self.final_norm(_merged(config, stream) if lanes else stream)
        return out

    def _attends(
        self, ids: Tensor, past: Past | None, reach: Reach | None
    ) -> Callable[[int], Attend]:
        """Return the attention of each effective layer, by its level."""
        if past is not None:
            return lambda level: partial(past.attend, level)
        config, dtype = self.config, self.stream_dtype()
        if not (config.document_attention or config.attention_window) or reach is None:
            whole = attention_for(config, ids, dtype)
        else:
            whole = attention_within(reach, config.attention_window, ids, dtype)
        return lambda level: whole  # one function: blocks that are compiled alone share their code

    def stream_dtype(self) -> torch.dtype:
        """Return the dtype of the residual stream and attention: autocast's, or that of the matrices."""
        block: Any = self.blocks[0]
        weight = block.attn.c_q.weight
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype

    def _embed(self, ids: Tensor, shift: Shift) -> Tensor:
        """Return the stream [B, T, D] that enters the blocks."""
        config, x = self.config, self.tok_emb(ids)
        x = x.to(torch.promote_types(x.dtype, self.stream_dtype()))
        hashed = config.bigram_rows or config.trigram_rows
        if not hashed and config.smear_gate == "none":
            return self.input_norm(x)
        bos_id = -1 if config.inputs_cross_documents else config.bos_id
        before = predecessors(ids, bos_id, shift)
        inside = (before >= (-1 if config.inputs_cross_documents else 0))[..., None].to(x.dtype)
        if config.bigram_rows:
            x = x + self.bigram(ids, before)
        if config.trigram_rows:
            second = second_predecessors(ids, before, bos_id, shift)
            x = x + self.trigram(ids, before, second)
        if config.smear_gate == "token":  # the two gates stand where their records have them
            x = self.smear(x, inside, shift)
        x = self.input_norm(x)
        return self.smear(x, inside, shift) if config.smear_gate == "channels" else x

    def _joined(self, stream: Any, at: int, skip: Tensor) -> Any:
        """Return the stream with a skip connection added, or mixed in by a gate (#1179, #1493).

        Of two lanes the first takes it (#1529), or both when they are read in turn (#1204).
        """
        both = self.config.parallel == "lanes-in-turn"
        if (both or self.config.parallel == "lanes") and isinstance(stream, tuple):
            second = self._joined(stream[1], at, skip) if both else stream[1]
            return self._joined(stream[0], at, skip), second
        skip = self.skip_weights[at].to(skip.dtype) * skip
        if not self.config.skip_gates:
            return stream + skip
        return torch.lerp(skip, stream, torch.sigmoid(self.skip_gates[at]).to(skip.dtype))

    def head(self, hidden: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return logits float32 [B, T, V] of final states [B, T, D] (`hidden`), soft-capped.

        extra: [B, T, V] that an adapter adds before the cap

        cap·tanh(logits / cap): Gemma 2, arXiv 2408.00118, section 2; the challenge's baseline.
        """
        weight = self.tok_emb.weight if self.config.tie_embeddings else self.lm_head.weight
        logits = F.linear(hidden, weight.to(hidden.dtype)).float()
        if extra is not None:
            logits = logits + extra
        return capped(logits, self.config.logit_softcap)

    def forward(self, ids: Tensor, past: Past | None = None) -> Tensor:
        """Return logits float32 [B, T, V] for the token after each of ids int64 [B, T].

        With a past, ids follow the tokens that it holds, and are added to them.
        """
        return self.head(self.hidden(ids, past))

    def loss(self, ids: Tensor, targets: Tensor, reach: Reach | None = None) -> Tensor:
        """Return the mean cross-entropy in nats per token; ids and targets int64 [B, T].

        reach: that of the ids, where it is already made
        """
        return self.head_loss(self.hidden(ids, reach=reach), targets)

    def head_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats per token of final states [B, T, D]."""
        weight = self.tok_emb.weight if self.config.tie_embeddings else self.lm_head.weight
        cap = self.config.logit_softcap
        return capped_loss(hidden.flatten(0, 1), weight, targets.flatten(), cap)


def _merged(config: ModelConfig, lanes: tuple[Tensor, Tensor]) -> Tensor:
    """Return the final stream of two lanes."""
    by_name = {"mean": 0.5 * (lanes[0] + lanes[1]), "mlp": lanes[1], "attention": lanes[0]}
    return by_name[config.lane_output]


def _check(config: ModelConfig, tensors: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Raise BadCheckpoint unless these are the tensors of a configuration."""
    shapes = config.parameter_shapes()
    if shapes.keys() != tensors.keys():
        missing, extra = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
        raise BadCheckpoint(
            "tensors do not match the configuration",
            expected=f"{len(shapes)} tensors",
            found=f"missing {sorted(missing)[:5]}, unexpected {sorted(extra)[:5]}",
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise BadCheckpoint(name, expected=shape, found=tensors[name].shape)
