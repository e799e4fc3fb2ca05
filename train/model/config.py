"""The configuration of a model: all that the tensors of a checkpoint leave open. No torch here.

It travels with the weights (safetensors metadata key `squeeze.config`, header of a .sqz artifact), so
that nobody has to guess heads, activation or window length a second time.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadConfig
from squeeze.train.fields import (
    VALIDATING,
    choice,
    number,
    read_object,
    refuse_unknown,
)
from squeeze.train.model.consistent import check_model
from squeeze.train.model.shapes import parameter_shapes

MAX_VOCAB = 1 << 16  # shards hold uint16 tokens
MAX_WIDTH = 1 << 16  # the bounds keep a hostile header from asking for a giant allocation
MAX_LAYERS = 1 << 10
MAX_SEQ_LEN = 1 << 20
MAX_HASH_ROWS = 1 << 20
TINY, HUGE = 1e-12, 1e12  # of what is above zero and has no natural bound

SMEAR_GATES = ("none", "channels", "token")
ATTENTION_GATES = ("none", "output", "sparse")
PARALLEL = ("none", "sum", "lanes", "lanes-in-turn")
LANE_OUTPUTS = ("mean", "attention", "mlp")


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of a decoder; frozen and validated. The defaults are the challenge's baseline.

    Sizes are counts of elements, `seq_len` and `attention_window` are in tokens, layers are numbers of
    physical blocks. Each option's definition and source is with the module that implements it
    (`squeeze.train.model.attention`, `block`, `embeddings`, `model`). Raises BadConfig for a value
    out of range or values that contradict each other. Tensor names follow the naive baseline of
    openai/parameter-golf (`train_gpt.py`).

    >>> ModelConfig(1024, 9, 512, 8, 4, 1024).num_params
    17059912
    """

    vocab_size: int = number(1, MAX_VOCAB)
    num_layers: int = number(1, MAX_LAYERS)  # physical blocks, each with its own weights
    model_dim: int = number(1, MAX_WIDTH)
    num_heads: int = number(1, MAX_WIDTH)
    num_kv_heads: int = number(1, MAX_WIDTH)
    mlp_hidden: int = number(1, MAX_WIDTH)
    tie_embeddings: bool = True
    logit_softcap: float = number(0, HUGE, 30.0)  # 0: none
    rope_base: float = number(TINY, HUGE, 10000.0)
    rope_length: int = number(0, MAX_SEQ_LEN, 0)  # longer forwards turn slower; 0: none does
    mlp_power: int = number(1, 3, 2)  # 2: relu squared, 3: relu cubed
    seq_len: int = number(1, MAX_SEQ_LEN, 1024)  # training window
    layer_schedule: tuple[int, ...] = ()  # block run at each depth; empty: each block once
    bos_id: int = number(0, MAX_VOCAB - 1, 1)  # token that starts a document

    # attention
    no_attention: tuple[int, ...] = ()  # layers that are their MLP only; weights stay unused
    document_attention: bool = False  # no token sees another document
    attention_window: int = number(0, MAX_SEQ_LEN, 0)  # tokens seen, its own included; 0: all
    rope_dims: int = number(0, MAX_WIDTH, 0)  # dimensions of a head that turn; 0: all
    qk_norm: bool = True
    q_gain_init: float = number(0, HUGE, 1.5)
    xsa_layers: int = number(0, MAX_LAYERS, 0)  # last layers with exclusive self-attention
    value_layers: tuple[int, ...] = ()  # layers whose values take in a value embedding
    value_dim: int = number(1, MAX_WIDTH, 128)
    attention_gate: str = choice("none", ATTENTION_GATES)
    attention_gate_scale: float = number(TINY, HUGE, 1.0)
    gate_window: int = number(1, MAX_WIDTH, 12)  # channels that attention and smear gates read

    # residual stream
    mlp_slope: float = number(0, 1, 0.0)  # of the activation below zero
    norm_scale: bool = False  # norms of layer n times 1/sqrt(n + 1)
    residual_mix: bool = True  # blocks mix the embedding stream in
    skips: bool = True  # from the first half of the layers to the second
    skip_gates: bool = False
    parallel: str = choice("none", PARALLEL)  # attention and MLP side by side
    parallel_from: int = number(0, MAX_LAYERS, 0)  # first block that is parallel
    lane_output: str = choice("mean", LANE_OUTPUTS)  # of two lanes, what the head reads
    untied_mlps: tuple[int, ...] = ()  # blocks with an MLP of its own for each repeated pass
    untied_scalars: bool = False  # repeated passes have their own gains, scales and mixes
    by_depth: bool = False  # options of layers count effective ones, not blocks

    # input
    smear_gate: str = choice("none", SMEAR_GATES)
    inputs_cross_documents: bool = False  # smears and hashes read the document before
    bigram_rows: int = number(0, MAX_HASH_ROWS, 0)  # of the hash table of token pairs; 0: none
    bigram_dim: int = number(1, MAX_WIDTH, 128)
    trigram_rows: int = number(0, MAX_HASH_ROWS, 0)  # of the hash table of triples; 0: none
    trigram_dim: int = number(1, MAX_WIDTH, 128)

    def __post_init__(self) -> None:
        if VALIDATING:
            check_model(self)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.model_dim // self.num_heads

    @property
    def kv_dim(self) -> int:
        """Width of all keys, and of all values."""
        return self.num_kv_heads * self.head_dim

    @property
    def depth(self) -> tuple[int, ...]:
        """Block number at each effective depth; its length is the effective layer count."""
        return self.layer_schedule or tuple(range(self.num_layers))

    def passes(self, block: int) -> int:
        """Return how often a block runs."""
        return self.depth.count(block)

    @property
    def num_skips(self) -> int:
        """Number of skip connections from the first half of the effective layers to the second."""
        return len(self.depth) // 2 if self.skips else 0

    @property
    def has_lanes(self) -> bool:
        """True where the residual stream splits into one for attention and one for MLPs."""
        return self.parallel.startswith("lanes")

    @property
    def num_params(self) -> int:
        """Number of weights in all tensors."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of the checkpoint; matrices are [out, in]."""
        return parameter_shapes(self)

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, fields at their default left out.

        >>> ModelConfig(1024, 3, 128, 4, 2, 256, mlp_power=3).to_json()[-33:]
        '"num_layers":3,"vocab_size":1024}'
        """
        values = vars(self)
        fields = {
            field.name: values[field.name]
            for field in dataclasses.fields(self)
            if field.default is dataclasses.MISSING or values[field.name] != field.default
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelConfig:
        """Return the configuration in JSON; raises BadConfig naming the field that is wrong."""
        return cls.from_fields(read_object("model configuration", text))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ModelConfig:
        """Return the configuration of plain values, as read from JSON; lists stand for tuples."""
        declared = {field.name: field for field in dataclasses.fields(cls)}
        refuse_unknown("model configuration", fields, declared)
        required = {n for n, field in declared.items() if field.default is dataclasses.MISSING}
        missing = sorted(required - set(fields))
        if missing:
            raise BadConfig("model configuration is incomplete", found=f"no {', '.join(missing)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)
