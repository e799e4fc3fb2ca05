"""The trellis search of columns that are scaled, priced and in the right layout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeeze.codecs.trellis.kernels import Columns, make_workspace, search_
from squeeze.codecs.trellis.tables import check_states
from squeeze.errors import BadConfig

Floats = npt.NDArray[np.float64]

LARGEST_TRACEBACK = 1 << 30  # bytes, rows × states


class ColumnSearch:
    """Search of one column at a time, for callers that feed errors forward between columns.

    >>> search_column = ColumnSearch(n_rows=4, n_states=8)
    >>> bits = np.array([[1.0, 2.0, 3.0, 4.0] + [9.0] * 12])
    >>> search_column(np.array([0.1, 2.2, -0.4, 6.9]), 0.1 * bits).tolist()
    [0, 2, 0, 7]
    """

    def __init__(self, n_rows: int, n_states: int) -> None:
        """Allocate the scratch arrays of columns of `n_rows` weights.

        Raises BadConfig for an unknown trellis, or a column too long for its traceback.
        """
        check_states(n_states)
        if n_rows * n_states > LARGEST_TRACEBACK:
            raise BadConfig(
                f"trellis: column too long for {n_states} states",
                expected=f"at most {LARGEST_TRACEBACK // n_states} rows",
                found=n_rows,
                fix="Fold the column into several.",
            )
        self._workspace = make_workspace(n_rows, n_states)
        self._ones = np.ones((1, n_rows))
        self._zeros = np.zeros((1, n_rows), np.uint8)
        self.n_rows = n_rows

    def __call__(
        self,
        column: Floats,
        price: Floats,
        importance: Floats | None = None,
        classes: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Return the multiples n, int32[R], of least Σ importance·(column − n)² + price[class, |n|].

        column: float64[R], weights divided by their steps; |column| stays below M - 5.
        price: float64[G, M], λ·bits of each magnitude in each class, C-order.
        importance: float64[R], by default 1.
        classes: uint8[R], by default 0.

        Nothing is checked, and nothing allocated but the result.
        """
        multiples = np.empty((1, self.n_rows), np.int32)
        columns = Columns(
            column.reshape(1, -1),
            self._ones if importance is None else importance.reshape(1, -1),
            self._zeros if classes is None else classes.reshape(1, -1),
        )
        self.search_(columns, price, multiples)
        return multiples[0]

    def search_(self, columns: Columns, price: Floats, multiples_: npt.NDArray[np.int32]) -> None:
        """Fill `multiples_`, int32[B, R], with the multiples of several columns; all C-order."""
        search_(columns, price, self._workspace, multiples_)
