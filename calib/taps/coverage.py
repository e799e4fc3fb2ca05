"""The share of a model's weights that each kind of statistic covers, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from squeeze.calib.taps.layout import FLOAT, UNUSED, Layout


@dataclass(frozen=True)
class CoverageRow:
    """A matrix, or a tensor that keeps floats.

    matrix: name of the matrix, that of the tensor where it is all of it
    elements: number of weights
    how: "product", "lookup", "product+lookup", "squared gradients" or "float"
    why: reason of floats
    """

    tensor: str
    matrix: str
    elements: int
    how: str
    role: str = "other"
    why: str = ""


@dataclass(frozen=True)
class Coverage:
    """Rows that make up all weights of a model."""

    rows: tuple[CoverageRow, ...]

    @classmethod
    def of(cls, layout: Layout, small: int = 0) -> Coverage:
        """Return the coverage of a layout whose matrices of fewer than `small` weights keep floats."""
        rows: list[CoverageRow] = []
        for tensor, shape in layout.shapes.items():
            if tensor in layout.floats:
                elements = 1
                for size in shape:
                    elements *= size
                why = layout.floats[tensor]
                rows.append(CoverageRow(tensor, tensor, elements, FLOAT, why=why))
            for matrix in layout.of_tensor(tensor):
                count = matrix.slice.elements
                how, why = (FLOAT, "small") if count < small else (matrix.how, "")
                why = UNUSED if matrix.how == FLOAT else why
                rows.append(CoverageRow(tensor, matrix.name, count, how, matrix.role, why))
        return cls(tuple(rows))

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> Coverage:
        """Return the coverage of the rows of `as_json`."""
        return cls(tuple(CoverageRow(**row) for row in rows))

    @property
    def elements(self) -> int:
        """Number of weights of all rows."""
        return sum(row.elements for row in self.rows)

    @property
    def shares(self) -> dict[str, int]:
        """Number of weights by how they are covered, the most first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.how] = counts.get(row.how, 0) + row.elements
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def as_json(self) -> dict[str, Any]:
        """Return the object with the shares and every row."""
        return {"shares": self.shares, "rows": [asdict(row) for row in self.rows]}

    def lines(self) -> Iterator[str]:
        """Yield a line for each share and for each tensor that no product or lookup covers."""
        for how, count in self.shares.items():
            yield f"{how}: {count:,} weights, {count / max(self.elements, 1):.2%}"
        for row in self.rows:
            if row.how == FLOAT and row.why not in ("of one dimension", "small"):
                yield f"{row.matrix} keeps floats: {row.why}"
