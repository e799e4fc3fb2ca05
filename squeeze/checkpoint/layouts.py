"""Weights under the names of the field's scripts, renamed and cut to those of our model.

Banks [layers, out, in] become matrices, blocks that a script numbers by effective layer become passes of
ours, one tensor for all lanes becomes a pair for each block. Nothing is computed: each weight keeps its
bits. What the names leave open (which blocks repeat, where lanes begin) is `told`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from squeeze.checkpoint.conversion import IN_BLOCK, Conversion, Fields, Named
from squeeze.checkpoint.effective import number_by_block
from squeeze.checkpoint.settings import ScriptSettings
from squeeze.errors import BadCheckpoint
from squeeze.tensors.slices import entry_of, first_rows, reshaped
from squeeze.train.model.depth import passes

# A bank, the parts of it one after another, each with a matrix for every layer.
BANKS = {
    "qo_bank": ("attn.c_q.weight", "attn.proj.weight"),
    "kv_bank": ("attn.c_k.weight", "attn.c_v.weight"),
    "mlp_up_bank": ("mlp.fc.weight",),
    "mlp_down_bank": ("mlp.proj.weight",),
}
RENAMED = {
    "bigram.embed.weight": "bigram.table.weight",
    "ve_shared.embed.weight": "value_embed.table.weight",
    "ve_shared.proj.weight": "value_embed.proj.weight",
    "ve_shared.scale": "value_embed.scale",
    "smear_gate.weight": "smear.gate.weight",
    "smear_lambda": "smear.scale",
}
# A gate's name in a block, and its kind.
GATES = {"attn.attn_gate_proj.weight": "output", "attn.attn_gate_w": "sparse"}
GATE = "attn.gate.linear.weight"
LANES = {"parallel_resid_lambdas": "lane_keep", "parallel_post_lambdas": "lane_write"}
SCALES = ("bigram.scale", "trigram.scale", "value_embed.scale", "smear.scale")
VALUE_SCALES = re.compile(r"ve_layer_scales\.(\d{1,4})")
FOR_TRAINING = re.compile(r"mtp_heads\.\d+\.weight")


def layers_of(names: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of physical blocks of a model, from the shapes of its tensors by name."""
    bank = names.get("mlp_up_bank", ())
    if len(bank) == 3:
        return bank[0]
    return len({match[1] for name in names if (match := IN_BLOCK.match(name))})


def as_ours(
    tensors: Named, told: Mapping[str, Any], settings: ScriptSettings, notes: list[str]
) -> tuple[Named, Fields]:
    """Return a model's tensors under our names, and the fields that their own names say.

    told: fields of the configuration that flags, settings or a layout say

    Tensors of unknown names stay as they are. Raises BadCheckpoint when the names leave something open
    that is not told.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    layers = layers_of(shapes)
    work = Conversion(dict(tensors), told, settings, notes)
    work.leave_out([n for n in tensors if FOR_TRAINING.fullmatch(n)], "used in training only")
    _unbank(work, layers)
    blocks = _blocks(shapes)
    if "qo_bank" in tensors and blocks > layers:
        number_by_block(work, layers, blocks)
    _cut_skips(work, layers)
    _lanes(work, layers)
    _value_scales(work, layers)
    for name, tensor in work.left.items():
        work.ours[_our_name(name, work.facts)] = tensor
    for name in SCALES:
        if name in work.ours and work.ours[name].shape == ():
            work.ours[name] = reshaped(work.ours[name], (1,))
    if len({*work.ours} - {*tensors}):
        notes.append("read from the layout of a script: weights renamed and cut from banks")
    return work.ours, work.facts


def _unbank(work: Conversion, layers: int) -> None:
    for bank, parts in BANKS.items():
        if bank not in work.left:
            continue
        tensor = work.left.pop(bank)
        if len(tensor.shape) != 3 or tensor.shape[0] != layers * len(parts):
            raise BadCheckpoint(
                f"tensor {bank} has another shape",
                expected=f"({layers * len(parts)}, rows, columns)",
                found=tensor.shape,
            )
        for at in range(tensor.shape[0]):
            name = f"blocks.{at % layers}.{parts[at // layers]}"
            work.ours[name] = entry_of(tensor, at)


def _cut_skips(work: Conversion, layers: int) -> None:
    """Leave out the skips of loops that never ran."""
    if work.settings.loops:
        return
    for name in ("skip_weights", "skip_gates"):
        tensor = work.left.get(name)
        if tensor is not None and tensor.shape[0] > layers // 2:
            work.left[name] = first_rows(tensor, layers // 2)
            work.notes.append(
                f"{name}: {layers // 2} rows of {tensor.shape[0]}, as blocks run once"
            )


def _lanes(work: Conversion, layers: int) -> None:
    """Cut the lanes' weights by block; those of blocks before the lanes begin are not used."""
    if not any(name in work.left for name in LANES):
        return
    start = work.need("parallel_from", "the first block that reads two lanes")
    kind = work.need("parallel", "lanes, or lanes-in-turn as in #1204")
    # the scripts of #1530 and after have no lanes at all for a start of 0
    none = start >= layers or (kind == "lanes" and start == 0)
    if none:
        work.leave_out([name for name in LANES if name in work.left], "as no block reads lanes")
        work.facts |= {"parallel": "none"}
        return
    for name, ours in LANES.items():
        tensor = work.left.pop(name, None)
        if tensor is None or tensor.shape[:1] != (layers,):
            found = "none" if tensor is None else tensor.shape
            raise BadCheckpoint(f"tensor {name}", expected=f"{layers} layers", found=found)
        for layer in range(start, layers):
            work.ours[f"blocks.{layer}.{ours}"] = entry_of(tensor, layer)
    work.notes.append(f"left out, as lanes begin at block {start}: lane weights before it")


def _value_scales(work: Conversion, count: int) -> None:
    """Give each scale of the value embedding to its block, or to the pass of it at that depth."""
    names = sorted(
        (int(match[1]), name) for name in work.left if (match := VALUE_SCALES.fullmatch(name))
    )
    if not names:
        return
    layers = work.settings.value_layers
    if layers is None:
        layers = tuple(work.need("value_layers", f"the {len(names)} layers with value embeddings"))
    homes = passes(work.facts.get("layer_schedule") or tuple(range(count)))
    if len(layers) != len(names) or not all(0 <= layer < len(homes) for layer in layers):
        raise BadCheckpoint(
            "value_layers are not those of these weights",
            expected=f"{len(names)} of {len(homes)} layers",
            found=layers,
        )
    work.facts["value_layers"] = tuple(sorted(layers))
    for layer, (_, name) in zip(layers, names, strict=True):
        block, again = homes[layer]
        owner = f"repeats.{again - 1}" if again else "attn"
        work.ours[f"blocks.{block}.{owner}.value_scale"] = work.left.pop(name)


def _our_name(name: str, facts: Fields) -> str:
    """Return our name of a tensor; a gate's name says its kind."""
    match = IN_BLOCK.fullmatch(name)
    if match and match[2] in GATES:
        facts["attention_gate"] = GATES[match[2]]
        return f"blocks.{match[1]}.{GATE}"
    return RENAMED.get(name, name)


def _blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return len({match[1] for name in shapes if (match := IN_BLOCK.match(name))})
