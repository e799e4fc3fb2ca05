"""Scalars that a script keeps for every effective layer, as those of blocks and their later passes."""

from __future__ import annotations

import re

from squeeze.checkpoint.conversion import FIX, IN_BLOCK, OWN_CLASS, Conversion
from squeeze.errors import BadCheckpoint

REPEATED_MLP = re.compile(r"repeat_mlp\.(\d{1,4})\.((?:fc|proj)\.weight)")


def number_by_block(work: Conversion, layers: int, blocks: int) -> None:
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
    beyond = [name for name, level, _ in _scalars(work) if level >= len(depth)]
    work.leave_out(beyond, "as blocks run once")
    for name, level, rest in _scalars(work):
        block, again = depth[level], depth[:level].count(depth[level])
        owner, leaf = (f"repeats.{again - 1}.", rest.removeprefix("attn.")) if again else ("", rest)
        work.ours[f"blocks.{block}.{owner}{leaf}"] = work.left.pop(name)
    mlps = [name for name in work.left if REPEATED_MLP.match(name)]
    if repeats:
        _rename_mlps(work, mlps, depth)
    else:
        work.leave_out(mlps, "as blocks run once")


def _scalars(work: Conversion) -> list[tuple[str, int, str]]:
    """Return the tensors inside blocks: name, number of the effective layer, rest of the name."""
    matches = [(name, IN_BLOCK.match(name)) for name in work.left]
    return [(name, int(match[1]), match[2]) for name, match in matches if match is not None]


def _rename_mlps(work: Conversion, names: list[str], depth: tuple[int, ...]) -> None:
    """Give the MLPs of repeats to their blocks.

    Raises BadCheckpoint where the script takes them for other layers than those that repeat.
    """
    repeated = sorted(block for block in set(depth) if depth.count(block) > 1)
    second = next(n for n, block in enumerate(depth) if block in depth[:n])
    # the script takes these for the layers after the first half, whichever those are
    if names and second != len(depth) // 2:
        raise BadCheckpoint(
            "the MLPs of repeated blocks are those of other layers in #1204's script",
            expected=f"blocks that repeat from effective layer {len(depth) // 2} on",
            found=second,
            fix=OWN_CLASS,
        )
    for name in names:
        match = REPEATED_MLP.match(name)
        if match is not None and int(match[1]) < len(repeated):
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
        if stop > layers or min(repeats, default=0) < 0:
            raise BadCheckpoint("recur_layers", expected=f"0 … {layers - 1}", found=repeats)
        return (*range(stop), *repeats, *range(stop, layers))
    return tuple(work.need("layer_schedule", "the order in which blocks run, some of them twice"))
