"""Settings of the field's scripts, under the scripts' own names, as fields of our configuration.

A settings file is a JSON object: the settings themselves, or an object that holds them as
`hyperparameters`, perhaps with the script's SHA-256 as `script_sha256` and, as `switched_on`, the
switches that were on at the end of training. Names are read in any case, so environment variables do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.checkpoint.known import Layout, check_digest, layout_of_script
from squeeze.errors import BadConfig
from squeeze.files import read_file
from squeeze.train.fields import kind_of, read_object
from squeeze.train.model.config import ModelConfig

MAX_SETTINGS = 1 << 20  # bytes
LOOPS_ON = re.compile(
    r".*(loop|recur).*", re.IGNORECASE
)  # names of switches, such as looping_active

# Settings that have our name, or another one.
SAME = {
    "vocab_size": "vocab_size",
    "num_layers": "num_layers",
    "model_dim": "model_dim",
    "num_heads": "num_heads",
    "num_kv_heads": "num_kv_heads",
    "tie_embeddings": "tie_embeddings",
    "logit_softcap": "logit_softcap",
    "rope_base": "rope_base",
    "rope_dims": "rope_dims",
    "qk_gain_init": "q_gain_init",
    "train_seq_len": "seq_len",
    "ln_scale": "norm_scale",
    "xsa_last_n": "xsa_layers",
    "negative_slope": "mlp_slope",
    "leaky_slope": "mlp_slope",
    "skip_gates_enabled": "skip_gates",
    "sparse_attn_gate_scale": "attention_gate_scale",
}
# Settings whose weights, or the lack of them, say it already.
IN_TENSORS = (
    "bigram_vocab_size bigram_buckets bigram_dim ve_dim ve_enabled gate_window gate_width"
    " smear_gate_width smear_gate smear_gate_enabled gate_attn_out attn_out_gate_enabled"
    " sparse_attn_gate_enabled gated_attn_enabled parallel_residual repeat_untie_mlp"
    " repeat_untie_mlp_layers"
).split()
# Settings that our model has no option for, with the values at which they do nothing.
INEXPRESSIBLE: dict[str, tuple[Any, ...]] = {
    "dtg_enabled": (False,),
    "gated_attention": (False,),
    "value_residual": (False,),
    "canon_ac_layers": ("",),
    "parallel_start_layer_is_physical": (True,),
    "gate_mlp_out": (False,),
    "gate_attn_src": ("proj",),
    "attn_out_gate_src": ("proj",),
    "rope_yarn": (False,),
    "eval_ntk_alpha": (0,),
}
# Settings of training, data, quantization and scoring, which no forward reads.
OF_TRAINING = re.compile(
    r"(train|val|eval|muon|adam|ema|swa|ttt|global_ttt|phased|gptq|lqer|qat|late_qat|quant|lawa|slot|etlb"
    r"|awq|mtp|data|ngram|optrot|hessian|calib|warmup|warmdown|grad|token|caseops|prune|fused|compile)_.*"
    r"|.*_(lr|wd|decay|steps|iters|iterations|frac|fraction|bits|sigmas|path|dir|files|std|batches|seconds"
    r"|threshold|init|every|stride|momentum|range|samples|seqs|epochs|tokens)"
    r"|seed|run_id|iterations|beta[12]|compressor|distributed|rank|world_size|local_rank|logfile"
    r"|is_main_process|grad_accum_steps|matrix_lr_early|matrix_lr_late|bank_split|use_gptq|mixed_quant"
    r"|post_gptq_eval_only|n_int6_layers|min_lr|rope_train_seq_len|embed_lr"
)
READ_BY_HAND = (
    "mlp_mult mlp_hidden embedding_dim ve_layers num_loops loop_start loop_end enable_looping_at"
    " recur_layers recur_layers_str disable_layer0_attn parallel_residual_start"
    " parallel_start_layer parallel_final_lane"
).split()
FINAL_LANES = {"mean": "mean", "attn": "attention", "mlp": "mlp"}


@dataclass(frozen=True)
class ScriptSettings:
    """Settings of a script, read.

    fields: fields of ModelConfig that they say
    layout: what the script's code says, where its SHA-256 is known
    value_layers: layers with a value embedding as the script counts them, None where not said
    repeats: blocks that run a second time, one after another (#1204), None where not said
    loops: False where blocks do not repeat although the settings say how they would
    unknown: names of settings that are neither known nor off
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = field(default_factory=lambda: Layout({}))
    value_layers: tuple[int, ...] | None = None
    repeats: tuple[int, ...] | None = None
    loops: bool = True
    unknown: tuple[str, ...] = ()


def read_settings(path: str | os.PathLike[str]) -> ScriptSettings:
    """Return the settings in a JSON file; raises BadConfig, or SqueezeError for no such file."""
    data = read_file(path)
    if len(data) > MAX_SETTINGS:
        raise BadConfig("settings", expected=f"≤ {MAX_SETTINGS} bytes", found=len(data))
    return settings_of(read_object(f"settings {os.fspath(path)}", data))


def settings_of(content: Mapping[str, Any]) -> ScriptSettings:
    """Return the settings in an object as a settings file holds it; raises BadConfig."""
    inner = content.get("hyperparameters", content)
    if not isinstance(inner, Mapping):
        raise BadConfig("hyperparameters", expected="a JSON object", found=type(inner).__name__)
    values = {str(name).lower(): value for name, value in inner.items()}
    wrapped = inner is not content
    layout = Layout({})
    if wrapped and content.get("script_sha256") is not None:
        layout = layout_of_script(check_digest(content["script_sha256"]))
    _refuse_inexpressible(values)
    switches = content.get("switched_on") if wrapped else None
    loops = switches is None or any(LOOPS_ON.fullmatch(str(name)) for name in switches)
    fields = {SAME[name]: _of_kind(name, value) for name, value in values.items() if name in SAME}
    if _on(values.get("gated_attn_enabled")):
        # the dense gate of the same name is not scaled
        fields["attention_gate_scale"] = 1.0
    if "disable_layer0_attn" in values:
        fields["no_attention"] = (0,) if _on(values["disable_layer0_attn"]) else ()
    fields |= _sizes(values) | _parallel(values) | _loop_schedule(values, loops)
    return ScriptSettings(
        fields,
        layout,
        _layers(values, "ve_layers") if _on(values.get("ve_enabled", True)) else (),
        _layers(values, "recur_layers_str", "recur_layers"),
        loops,
        tuple(sorted(name for name, value in values.items() if _is_unknown(name, value))),
    )


def _refuse_inexpressible(values: Mapping[str, Any]) -> None:
    for name, off in INEXPRESSIBLE.items():
        if name in values and _plain(values[name]) not in off:
            raise BadConfig(
                f"the model has no option for the setting {name}",
                expected=f"{off[0]!r}",
                found=repr(values[name])[:80],
                fix="Name the script's own class with --model FILE.py:NAME.",
            )


def _is_unknown(name: str, value: Any) -> bool:
    """Return whether a setting might change the forward in a way that is not known here."""
    known = name in SAME or name in IN_TENSORS or name in INEXPRESSIBLE or name in READ_BY_HAND
    return not known and not OF_TRAINING.fullmatch(name) and _on(value)


def _sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the width of the MLPs. Raises BadConfig for embeddings of a width of their own."""
    dim = values.get("model_dim")
    own = values.get("embedding_dim", dim)
    if dim is not None and own != dim:
        raise BadConfig("embedding_dim", expected=f"model_dim = {dim}", found=repr(own)[:80])
    if "mlp_hidden" in values and _on(values["mlp_hidden"]):
        return {"mlp_hidden": values["mlp_hidden"]}
    if dim is None or "mlp_mult" not in values:
        return {}
    return {"mlp_hidden": int(_number(values, "mlp_mult") * _number(values, "model_dim"))}


def _parallel(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return how attention and MLP stand side by side; lanes have weights, which say the rest."""
    fields: dict[str, Any] = {}
    if "parallel_residual_start" in values:
        start = int(_number(values, "parallel_residual_start"))
        layers = values.get("num_layers")
        beyond = isinstance(layers, int) and start >= layers
        if start < 0 or beyond:
            return {"parallel": "none"}
        return {"parallel": "sum", "parallel_from": start}
    if "parallel_start_layer" in values and _on(values.get("parallel_residual", True)):
        fields["parallel_from"] = int(_number(values, "parallel_start_layer"))
    if "parallel_final_lane" in values:
        word = str(values["parallel_final_lane"]).lower()
        # a script takes the mean for any other word
        fields["lane_output"] = FINAL_LANES.get(word, "mean")
    return fields


def _loop_schedule(values: Mapping[str, Any], loops: bool) -> dict[str, Any]:
    """Return the order in which looped blocks run, where the settings say it."""
    if "num_loops" not in values:
        return {}
    count = int(_number(values, "num_loops"))
    never = _number(values, "enable_looping_at") >= 1 if "enable_looping_at" in values else False
    if count <= 0 or not loops or never:
        return {"layer_schedule": ()}
    names = ("loop_start", "loop_end", "num_layers")
    if any(name not in values for name in names):
        return {}
    first, last, layers = (int(_number(values, name)) for name in names)
    if not (0 <= first <= last < layers <= 1 << 10 and count <= 1 << 10):
        raise BadConfig(
            "loop_start and loop_end", expected=f"0 … {layers - 1}", found=(first, last)
        )
    looped = list(range(first, last + 1)) * (count + 1)
    return {"layer_schedule": (*range(first), *looped, *range(last + 1, layers))}


def _layers(values: Mapping[str, Any], *names: str) -> tuple[int, ...] | None:
    """Return a list of layer numbers, written as `9,10` or as a list; None where it is not said."""
    for name in names:
        if name in values:
            value = values[name] or ""
            parts = value.split(",") if isinstance(value, str) else value
            try:
                return tuple(int(part) for part in parts if str(part).strip())
            except (TypeError, ValueError):
                raise BadConfig(name, expected="layers as 9,10", found=repr(value)[:80]) from None
    return None


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadConfig(name, expected="a number", found=repr(value)[:80]) from None


def _of_kind(name: str, value: Any) -> Any:
    """Return a setting as our field of its meaning holds it. Raises BadConfig."""
    declared = ModelConfig.__dataclass_fields__[SAME[name]]
    kind = kind_of(declared)
    if kind is bool:
        return _on(value)
    number = _number({name: value}, name)
    if kind is int and number != int(number):
        raise BadConfig(name, expected="a whole number", found=repr(value)[:80])
    return max(0, int(number)) if kind is int else number


def _plain(value: Any) -> Any:
    """Return the value of a setting; environment variables hold numbers as text."""
    readers: tuple[Callable[[str], Any], ...] = (int, float)
    if isinstance(value, str):
        for reader in readers:
            try:
                return reader(value)
            except ValueError:
                continue
    return value.strip() if isinstance(value, str) else value


def _on(value: Any) -> bool:
    return _plain(value) not in (None, False, 0, "", [], "none", "false", "False")
