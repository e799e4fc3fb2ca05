"""The shape of a model: what a checkpoint's tensors alone cannot tell. No torch here.

The configuration travels with the weights (safetensors metadata key `squeeze.config`, header of a
.sqz artifact), so that nobody has to guess heads, activation or window length a second time.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadConfig

MAX_VOCAB = 1 << 16  # shards hold uint16 tokens
MAX_WIDTH = 1 << 16  # the bounds keep a hostile header from asking for a giant allocation
MAX_LAYERS = 1 << 10
MAX_SEQ_LEN = 1 << 20


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of the challenge's baseline decoder; frozen and validated.

    Sizes are counts of elements, `seq_len` is in tokens. Raises BadConfig for a value out of range
    or values that contradict each other. Tensor names and the forward they describe follow the
    naive baseline of openai/parameter-golf (`train_gpt.py`).

    >>> ModelConfig(1024, 9, 512, 8, 4, 1024).num_params
    17059912
    """

    vocab_size: int
    num_layers: int  # physical blocks, each with its own weights
    model_dim: int
    num_heads: int
    num_kv_heads: int
    mlp_hidden: int
    tie_embeddings: bool = True
    logit_softcap: float = 30.0
    rope_base: float = 10000.0
    mlp_power: int = 2  # 2: relu squared, 3: relu cubed
    seq_len: int = 1024  # training window
    layer_schedule: tuple[int, ...] = ()  # block run at each depth; empty: each block once
    bos_id: int = 1  # token that starts a document

    def __post_init__(self) -> None:
        _check_int("vocab_size", self.vocab_size, 1, MAX_VOCAB)
        _check_int("num_layers", self.num_layers, 1, MAX_LAYERS)
        for name in ("model_dim", "num_heads", "num_kv_heads", "mlp_hidden"):
            _check_int(name, getattr(self, name), 1, MAX_WIDTH)
        _check_int("mlp_power", self.mlp_power, 1, 3)
        _check_int("seq_len", self.seq_len, 1, MAX_SEQ_LEN)
        _check_int("bos_id", self.bos_id, 0, MAX_VOCAB - 1)
        _check_positive("logit_softcap", self.logit_softcap)
        _check_positive("rope_base", self.rope_base)
        if not isinstance(self.tie_embeddings, bool):
            raise BadConfig("tie_embeddings", expected="true or false", found=self.tie_embeddings)
        if self.model_dim % (2 * self.num_heads):
            raise BadConfig(
                "model_dim must split into heads of even width",
                expected=f"a multiple of 2*num_heads = {2 * self.num_heads}",
                found=self.model_dim,
            )
        if self.num_heads % self.num_kv_heads:
            raise BadConfig(
                "query heads must share key/value heads evenly",
                expected=f"num_kv_heads that divides num_heads = {self.num_heads}",
                found=self.num_kv_heads,
            )
        self._check_schedule()

    def _check_schedule(self) -> None:
        schedule = self.layer_schedule
        if not isinstance(schedule, tuple) or len(schedule) > MAX_LAYERS:
            raise BadConfig(
                "layer_schedule", expected=f"at most {MAX_LAYERS} block numbers", found=schedule
            )
        for block in schedule:
            _check_int("layer_schedule entry", block, 0, self.num_layers - 1)
        unused = set(range(self.num_layers)) - set(schedule)
        if schedule and unused:
            raise BadConfig(
                "layer_schedule", expected="every block at least once", found=f"unused {unused}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.model_dim // self.num_heads

    @property
    def depth(self) -> tuple[int, ...]:
        """Block number at each effective depth; its length is the effective layer count."""
        return self.layer_schedule or tuple(range(self.num_layers))

    @property
    def num_skips(self) -> int:
        """Skip connections from the first half of the effective layers to the second."""
        return len(self.depth) // 2

    @property
    def num_params(self) -> int:
        """Weights in all tensors."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the checkpoint, in the baseline's naming.

        Matrices are [out, in]. A model of one layer has no skips and so no `skip_weights`.
        """
        dim, kv_dim = self.model_dim, self.num_kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"tok_emb.weight": (self.vocab_size, dim)}
        if self.num_skips:
            shapes["skip_weights"] = (self.num_skips, dim)
        for layer in range(self.num_layers):
            block = {
                "attn.c_q.weight": (dim, dim),
                "attn.c_k.weight": (kv_dim, dim),
                "attn.c_v.weight": (kv_dim, dim),
                "attn.proj.weight": (dim, dim),
                "attn.q_gain": (self.num_heads,),
                "mlp.fc.weight": (self.mlp_hidden, dim),
                "mlp.proj.weight": (dim, self.mlp_hidden),
                "attn_scale": (dim,),
                "mlp_scale": (dim,),
                "resid_mix": (2, dim),
            }
            shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
        if not self.tie_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, dim)
        return shapes

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, fields at their default left out.

        >>> ModelConfig(1024, 3, 128, 4, 2, 256, mlp_power=3).to_json()[-33:]
        '"num_layers":3,"vocab_size":1024}'
        """
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.default is dataclasses.MISSING or getattr(self, field.name) != field.default
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelConfig:
        """Inverse of `to_json`. Raises BadConfig naming the unknown, missing or malformed field."""
        try:
            fields = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise BadConfig("model configuration is not JSON", found=str(error)[:80]) from None
        if not isinstance(fields, dict):
            raise BadConfig("model configuration", expected="a JSON object", found=type(fields))
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ModelConfig:
        """Build from plain values, as read from JSON or the command line."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise BadConfig(
                "model configuration has fields this version does not know",
                expected=", ".join(sorted(known)),
                found=", ".join(unknown)[:200],
                fix="Use a newer squeeze, or drop the field.",
            )
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        missing = sorted(required - set(fields))
        if missing:
            raise BadConfig("model configuration is incomplete", found=f"no {', '.join(missing)}")
        values = dict(fields)
        if isinstance(values.get("layer_schedule"), list):
            values["layer_schedule"] = tuple(values["layer_schedule"])
        return cls(**values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadConfig("model configuration names a field twice")
    return fields


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadConfig(name, expected=f"an integer in {low}..{high}", found=repr(value)[:80])


def _check_positive(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0.0 < float(value) < math.inf):  # type: ignore[arg-type]
        raise BadConfig(name, expected="a finite number above zero", found=repr(value)[:80])
