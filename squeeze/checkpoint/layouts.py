"""Weights under the names of the field's scripts, renamed and cut to those of our model.

Banks [layers, out, in] become matrices, blocks that a script numbers by effective layer become passes of
ours, one tensor for all lanes becomes a pair for each block. Nothing is computed: each weight keeps its
bits. What the names leave open (which blocks repeat, where lanes begin) is `told`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.settings import ScriptSettings
from squeeze.errors import BadCheckpoint
from squeeze.tensors.slices import entry_of, first_rows, reshaped
from squeeze.train.model.depth import passes

Named = dict[str, Tensor]
Fields = dict[str, Any]

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
REPEATED_MLP = re.compile(r"repeat_mlp\.(\d{1,4})\.((?:fc|proj)\.weight)")
IN_BLOCK = re.compile(r"blocks\.(\d{1,4})\.(.+)")
FOR_TRAINING = re.compile(r"mtp_heads\.\d+\.weight")
OWN_CLASS = "Name the script's own class with --model FILE.py:NAME."
FIX = "Say it with --like, --settings or --set."


@dataclass
class Conversion:
    """A conversion under way.

    left: tensors that are still under their script's names
    ours: tensors under our names
    told: fields of the configuration that are known without the tensors
    settings: the script's settings
    facts: fields that the names of the tensors say
    notes: sentences for the user
    """

    left: Named
    told: Mapping[str, Any]
    settings: ScriptSettings
    notes: list[str]
    ours: Named = field(default_factory=dict)
    facts: Fields = field(default_factory=dict)

    def need(self, name: str, why: str) -> Any:
        """Return a field of the configuration. Raises BadCheckpoint, saying why it is needed."""
        value = self.facts.get(name, self.told.get(name))
        if value is None:
            raise BadCheckpoint(
                f"{name} is not in the file", expected=why, found="nothing that says it", fix=FIX
            )
        return value

    def leave_out(self, names: list[str], why: str) -> None:
        """Drop tensors that the forward does not use, and say so."""
        if names:
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            self.notes.append(f"left out, {why}: {listed}")
        for name in names:
            self.left.pop(name, None)


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
        _number_by_block(work, layers, blocks)
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


def _number_by_block(work: Conversion, layers: int, blocks: int) -> None:
    """Rename scalars that have an entry for every effective layer: those of later passes are `repeats`.

    blocks: number of effective layers that have scalars

    Every number of a layer in such a script counts effective layers, its settings' too.
    """
    depth = _depth(work, layers)
    repeats = len(depth) > layers
    if repeats and len(depth) != blocks:
        raise BadCheckpoint(
            "layer_schedule has another length than the scalars of effective layers",
            expected=f"{blocks} layers",
            found=len(depth),
            fix=FIX,
        )
    exclusive = work.settings.fields.get("xsa_layers")
    if exclusive is not None:
        # the script counts from the last effective layer that it has, whether it runs or not
        first = max(0, blocks - exclusive)
        work.facts["xsa_layers"] = max(0, len(depth) - first)
    work.facts |= {"by_depth": repeats, "layer_schedule": depth if repeats else ()}
    beyond = [
        name
        for name in work.left
        if (match := IN_BLOCK.match(name)) and int(match[1]) >= len(depth)
    ]
    work.leave_out(beyond, "as blocks run once")
    if len(depth) == layers:
        work.leave_out([n for n in work.left if REPEATED_MLP.match(n)], "as blocks run once")
    for name in [name for name in work.left if IN_BLOCK.match(name)]:
        match = IN_BLOCK.match(name)
        assert match is not None
        level, rest = int(match[1]), match[2]
        block, again = depth[level], depth[:level].count(depth[level])
        front = f"blocks.{block}."
        if again:
            front, rest = f"{front}repeats.{again - 1}.", rest.removeprefix("attn.")
        work.ours[front + rest] = work.left.pop(name)
    repeated = sorted(block for block in set(depth) if depth.count(block) > 1)
    mlps = [name for name in work.left if REPEATED_MLP.match(name)]
    second = next((n for n, block in enumerate(depth) if block in depth[:n]), 0)
    # the script takes these for the layers after the first half, whichever those are
    if mlps and second != len(depth) // 2:
        raise BadCheckpoint(
            "the MLPs of repeated blocks are those of other layers in #1204's script",
            expected=f"blocks that repeat from effective layer {len(depth) // 2} on",
            found=second,
            fix=OWN_CLASS,
        )
    for name in [name for name in work.left if REPEATED_MLP.match(name)]:
        match = REPEATED_MLP.match(name)
        assert match is not None
        if int(match[1]) < len(repeated):
            block = repeated[int(match[1])]
            work.ours[f"blocks.{block}.repeats.0.mlp.{match[2]}"] = work.left.pop(name)


def _depth(work: Conversion, layers: int) -> tuple[int, ...]:
    """Return the block that each effective layer runs, from what is told of repeats."""
    if not work.settings.loops:
        return tuple(range(layers))
    repeats = work.settings.repeats
    if repeats is not None:
        repeats = tuple(sorted(set(repeats)))
        stop = max(repeats, default=-1) + 1
        if stop > layers:
            raise BadCheckpoint("recur_layers", expected=f"below {layers}", found=repeats)
        return (*range(stop), *repeats, *range(stop, layers))
    return tuple(work.need("layer_schedule", "the order in which blocks run, some of them twice"))


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
