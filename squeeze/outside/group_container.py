"""`PGRP` containers of the per-group records: streams back to back, mostly lrzip.

Layout, as the public scripts since record #1855 write it: `PGRP`, uint32 n, n uint32 sizes, n streams.
The first seven are `lrzip -z -L 9` of the int8 codes of one kind of matrix over all layers (GROUPS, in
this order; an empty stream for a kind that is absent), then brotli of a torch.save of {"r": every other
tensor, "m": formats, "s": shapes of each group}, then brotli of the row orders. A file with another
number of streams is attributed stream by stream.

lrzip streams are not decoded: nothing here runs another program. Their shapes come from "s", so each
layer has the share of its number of codes; there is no floor for them.
"""

from __future__ import annotations

from squeeze.errors import CorruptData
from squeeze.outside import pickles, torch_zip
from squeeze.outside.inflate import LRZIP, inflate
from squeeze.outside.pieces import Plain, entropies, numbers, rows
from squeeze.rows import Row, split_bytes
from squeeze.tensors.roles import layer_of, role_of

MAGIC = b"PGRP"
MAX_STREAMS = 1 << 12
MAX_LAYERS = 1 << 10
GROUPS = (
    "tok_emb.weight", "attn.c_k.weight", "attn.c_q.weight", "attn.c_v.weight", "attn.proj.weight",
    "mlp.fc.weight", "mlp.proj.weight",
)  # fmt: skip


def streams(data: memoryview, what: str) -> list[memoryview]:
    """Return the streams, which lie back to back to the end of the file. Raises CorruptData."""
    count = int.from_bytes(data[4:8], "little")
    base = 8 + 4 * count
    if count > MAX_STREAMS or base > len(data):
        raise CorruptData(f"{what}: number of streams", expected=f"≤ {MAX_STREAMS}", found=count)
    sizes = [int.from_bytes(data[8 + 4 * i : 12 + 4 * i], "little") for i in range(count)]
    if base + sum(sizes) != len(data):
        raise CorruptData(
            f"{what}: sizes of streams do not add up to the file",
            expected=len(data) - base,
            found=sum(sizes),
        )
    parts = []
    for size in sizes:
        parts.append(data[base : base + size])
        base += size
    return parts


def read(
    name: str, data: memoryview
) -> tuple[list[Row], dict[tuple[str, str, str], float], list[str]]:
    """Return rows, floors in bytes, and notes. Raises CorruptData, BadCheckpoint."""
    parts = streams(data, name)
    result_rows = [Row(name, "container", "header", len(data) - sum(map(len, parts)))]
    floors: dict[tuple[str, str, str], float] = {}
    if len(parts) != len(GROUPS) + 2:
        result_rows += [
            Row(name, "weights", f"stream {i}", len(s), "other", codec=_coder(s))
            for i, s in enumerate(parts)
        ]
        return result_rows, floors, [f"{name}: {len(parts)} streams of an unknown order"]
    rest = torch_zip.read(memoryview(inflate(parts[-2], "brotli", f"{name}: remainder")), name)
    shapes = _shapes(rest, name)
    for group, stream in zip(GROUPS, parts, strict=False):
        result_rows += _group(name, group, stream, shapes.get(group, []))
    inner = entropies(rest)
    for row in rows(name, rest, len(parts[-2]), "brotli", inner):
        result_rows.append(row)
    for piece, floor in zip(rest.pieces, inner, strict=True):
        key = (name, piece.tensor, piece.kind)
        floors[key] = floors.get(key, 0.0) + floor
    result_rows.append(Row(name, "weights", "row order", len(parts[-1]), "other", codec="brotli"))
    lrzip = sum(len(stream) for stream in parts[: len(GROUPS)])
    notes = [f"{name}: {lrzip:,} bytes of lrzip split by number of codes, not decoded"]
    return result_rows, floors, [*notes, *rest.notes]


def _coder(stream: memoryview) -> str:
    return "lrzip" if bytes(stream[:4]) == LRZIP else ""


def _shapes(rest: Plain, what: str) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of each group's matrices, from the "s" entry. Raises CorruptData for odd ones."""
    root = torch_zip.opened(rest.data, what).root
    manifest = root.get("s") if isinstance(root, dict) else None
    if not isinstance(manifest, dict):
        raise CorruptData(f"{what}: no shapes of the groups")
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for key, listed in manifest.items():
        clean = str(key).removeprefix("_").removesuffix(".q")
        if not isinstance(listed, list | tuple | None) or len(listed or ()) > MAX_LAYERS:
            raise CorruptData(
                f"{what}: shapes of {clean[:80]}", expected=f"a list of ≤ {MAX_LAYERS}"
            )
        shapes[clean] = [_shape(shape, what) for shape in listed or ()]
    return shapes


def _shape(given: object, what: str) -> tuple[int, ...]:
    if isinstance(given, pickles.Call) and given.name == "torch Size":
        given = next(iter(given.arguments), None) if isinstance(given.arguments, tuple) else None
    if isinstance(given, tuple | list) and all(type(n) is int and 0 <= n < 1 << 32 for n in given):
        return tuple(given)
    raise CorruptData(f"{what}: odd shape of a group", expected="numbers below 2^32")


def _group(name: str, group: str, stream: memoryview, shapes: list[tuple[int, ...]]) -> list[Row]:
    tensors = [group] if group == GROUPS[0] else [f"blocks.{i}.{group}" for i in range(len(shapes))]
    if not shapes:
        if not len(stream):
            return []
        role, coder = role_of(group), _coder(stream)
        return [Row(name, "weights", "codes", len(stream), role, None, group, coder)]
    counts = [numbers(shape) for shape in shapes[: len(tensors)]]
    shares = split_bytes(len(stream), counts)
    return [
        Row(
            name,
            "weights",
            "codes",
            share,
            role_of(tensor),
            layer_of(tensor),
            tensor,
            _coder(stream),
            count,
            len(tensors) > 1,
        )
        for tensor, count, share in zip(tensors, counts, shares, strict=True)
    ]
