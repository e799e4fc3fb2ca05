"""The result of taking a file of others apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squeeze.rows import Row

if TYPE_CHECKING:
    from squeeze.outside.pieces import Plain


@dataclass(frozen=True)
class Outside:
    """A file taken apart. floors: order-0 entropies in bytes by (file, tensor, kind).

    plain: the file without its compression, where all of it is known.
    """

    format: str
    rows: tuple[Row, ...]
    floors: dict[tuple[str, str, str], float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plain: Plain | None = None
