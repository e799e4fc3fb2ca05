"""Histograms of the page: use of each point of the grid, for one tensor of every role.

A page should not take longer than a glance, so one layer stands for a role and few weights are
decoded in all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from squeeze import codecs
from squeeze.artifact import container
from squeeze.artifact.container import Container
from squeeze.artifact.layout import StreamRecord
from squeeze.artifact.roles import roles_of_file
from squeeze.artifact.streams import symbols_layout
from squeeze.files import read_file
from squeeze.ledger.files import Paths, Read, artifacts_of
from squeeze.tensors.floats import from_bits

MAX_WEIGHTS = 6_000_000  # decoded in all: about a second
MAX_BARS = 160
CENTRAL = (0.0005, 0.9995)  # of the weights have bars; a few outliers would flatten them


def histograms_of(paths: Paths, read: Read = read_file) -> list[dict[str, Any]]:
    """Return the histograms of every artifact among paths. read: gives a file's bytes."""
    return [item for path in artifacts_of(paths) for item in histograms(read(path))]


def histograms(data: bytes) -> list[dict[str, Any]]:
    """Return the counts of codes for the middle tensor of every role of a `.sqz` file.

    Roles come in file order.
    """
    parsed = container.parse(data)
    views = list(container.stream_bytes(data, parsed))
    roles = roles_of_file(parsed.config, [record.name for record in parsed.tensors])
    by_role: dict[str, list[int]] = {}
    for index, stream in enumerate(parsed.streams):
        if stream.kind == "codes":
            by_role.setdefault(roles[parsed.tensors[stream.members[0]].name], []).append(index)
    steps = _steps(parsed, views)
    counted, left = [], MAX_WEIGHTS
    for members in by_role.values():
        index = members[len(members) // 2]
        stream = parsed.streams[index]
        record = parsed.tensors[stream.members[0]]
        if record.elements > left:
            continue
        left -= record.elements
        codes = _decoded(stream, parsed, views[index])
        counted.append(_histogram(record.name, codes, steps.get(record.name, 0.0), record.kind))
    return counted


def _decoded(stream: StreamRecord, parsed: Container, view: memoryview | bytes) -> Any:
    shape, dtype = symbols_layout(stream, parsed.tensors)
    return codecs.by_wire_id(stream.codec_id).decode(bytes(view), shape, dtype)


def _steps(parsed: Container, views: list[Any]) -> dict[str, float]:
    """Return the median row step of every tensor."""
    medians: dict[str, float] = {}
    for stream, view in zip(parsed.streams, views, strict=True):
        if stream.kind.startswith("step."):
            values = from_bits(_decoded(stream, parsed, view).reshape(-1), stream.kind[5:])
            for member, part in zip(
                stream.members, np.split(values, np.cumsum(stream.counts)[:-1]), strict=True
            ):
                medians[parsed.tensors[member].name] = float(np.median(part)) if part.size else 0.0
    return medians


def _histogram(name: str, codes: Any, step: float, kind: str) -> dict[str, Any]:
    flat = codes.reshape(-1).astype(np.int64)
    low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
    first, last = (
        (int(v) for v in np.quantile(flat, CENTRAL, method="nearest")) if flat.size else (0, 0)
    )
    width = -(-(last - first + 1) // MAX_BARS)
    inside = flat[(flat >= first) & (flat <= last)]
    counts = np.bincount((inside - first) // width)
    return {
        "tensor": name,
        "label": "trellis indices" if kind == "trellis" else "integer codes",
        "low": low,
        "high": high,
        "outside": int(flat.size - inside.size),
        "first": first,
        "width": width,
        "counts": counts.tolist(),
        "distinct": int(np.unique(flat).size),
        "total": int(flat.size),
        "step": step,
    }
