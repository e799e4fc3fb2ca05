"""Sensitivity of the loss to each output of each matrix: mean squared gradients of the model's loss.

The second derivative of KL(model ‖ changed model) is the Fisher information: the mean outer product
of the gradients of log p(y), y drawn from the model itself (J. Martens, arXiv 1412.1193). Kronecker
factored (K-FAC, arXiv 1503.05671) it is H ⊗ G for a matrix, G = E[g gᵀ] with g the derivatives of
log p by the outputs. A few thousand tokens suffice; see docs/log.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from squeeze.calib.parallel import map_single_threaded
from squeeze.calib.statistics.divergence import Categorical, Divergence
from squeeze.calib.statistics.gradient_sums import GradientSums
from squeeze.calib.statistics.hessian import Float32
from squeeze.calib.statistics.tapped import Rows, TappedModel, blocks_of, ids_of
from squeeze.calib.taps.layout import LOOKUP
from squeeze.calib.text.sources import Sequences
from squeeze.errors import CorruptData
from squeeze.files.arrays import read_arrays, write_arrays
from squeeze.ranks.group import Ranks
from squeeze.ranks.ordered import OrderedSum
from squeeze.reporter import SILENT, Reporter

TOKENS = 16_384
VISITS = 2  # tokens for each row of a table of hashes, of which one text reaches few
BLOCK = 1024  # tokens of one backward: about half a megabyte of activations each at 36M weights
IN_FLIGHT = 4096  # tokens whose activations are held at a time, however many threads there are
COLUMNS = "columns of "  # begins the names of arrays of columns in a file


@dataclass(frozen=True)
class OutputGradients:
    """Second moments of the gradients at the outputs, by tensor name, per token, in nats².

    rows: mean squares, float32 [out]
    products: mean outer products, of which `rows` are the diagonal, float32 [out, out]; only of layers
        of at most WIDEST outputs
    tokens: number of tokens they were collected on
    source: origin of the text
    columns: of matrices whose own gradients were collected: the share of each column in their squares,
        float32 [in], whose mean is 1; they take the place of a Hessian's diagonal

    A layer that runs several times adds all its passes. A tied embedding has its head's gradients plus
    those of its lookups, in the unit in which the head's Hessian weighs them; other tables (an untied
    embedding, hashed pairs, value embeddings) have those of their lookups per element, to be used with
    the identity as Hessian; a row that no token has looked up has a share of what others have.
    """

    rows: dict[str, Float32] = field(repr=False)
    products: dict[str, Float32] = field(repr=False)
    tokens: int
    source: str = ""
    columns: dict[str, Float32] = field(default_factory=dict, repr=False)

    def best(self, name: str) -> Float32:
        """Return the outer products of a tensor where there are any, else its squares."""
        return self.products.get(name, self.rows[name])

    def save(self, path: Path, key: str = "") -> None:
        """Write a safetensors file atomically."""
        arrays = {name: self.best(name) for name in self.rows}
        arrays |= {COLUMNS + name: shares for name, shares in self.columns.items()}
        write_arrays(path, arrays, key, {"tokens": self.tokens, "source": self.source})

    @classmethod
    def load(cls, path: Path, key: str = "") -> OutputGradients:
        """Read a file of `save`. Raises CorruptData when it is damaged or of another key."""
        arrays, facts = read_arrays(path, key)
        columns = {n.removeprefix(COLUMNS): arrays.pop(n) for n in list(arrays) if COLUMNS in n}
        products = {name: array for name, array in arrays.items() if array.ndim == 2}
        rows = {n: products[n].diagonal().copy() if n in products else a for n, a in arrays.items()}
        try:
            return cls(rows, products, int(facts["tokens"]), str(facts["source"]), columns)
        except (KeyError, TypeError, ValueError):
            raise CorruptData(f"{path}: not a file of output gradients") from None


def tokens_for(model: TappedModel) -> int:
    """Return the tokens for a model: more where a table has more rows than few tokens reach."""
    tables = [m.slice.shape[0] for m in model.layout.matrices.values() if m.how == LOOKUP]
    return max(TOKENS, VISITS * max([0, *tables]))


def collect_gradients(
    model: TappedModel,
    text: Sequences,
    *,
    divergence: Divergence | None = None,
    tokens: int = 0,
    reporter: Reporter = SILENT,
) -> OutputGradients:
    """Run the first sequences of the text, about `tokens` tokens, forward and backward.

    tokens: 0: `tokens_for` the model
    divergence: of the model's outputs; None: they are logits
    reporter: counts the tokens of this rank

    Ranks take sequences in turn, and all return what one process does, on CPUs to the bit. Gradients of
    weights are formed only of those that no product or lookup shows.

    Raises BadCheckpoint naming the matrix whose gradient is NaN or infinite.
    """
    wanted = -(-(tokens or tokens_for(model)) // text.length)
    chosen = np.arange(min(wanted, len(text.ids)))
    counted = len(chosen) * text.length
    blocks, ranks = blocks_of(text, chosen, BLOCK), Ranks.current()
    own = ranks.deal(blocks)
    sums, device = GradientSums(model), model.device
    total = OrderedSum(ranks, [tuple(each.shape) for each in sums.tensors()], device)
    lend = model.replicas(sums.trained)

    def sums_of(rows: Rows) -> list[Tensor]:
        generator = torch.Generator(device).manual_seed(int(rows[0]))
        block_sums, ids = GradientSums(model), ids_of(text, rows, device)
        with lend() as replica:
            block_sums.add_block_(replica, ids, divergence or Categorical(), generator)
        return block_sums.tensors()

    most = max(1, IN_FLIGHT // max(BLOCK, text.length))
    added = map_single_threaded(sums_of, own, device, most)
    counts = [len(rows) * text.length for rows in own]
    with reporter.stage("output gradients", sum(counts), "tokens") as stage:
        for number in range(-(-len(blocks) // ranks.world)):
            total.add_(next(added, None))
            stage.advance(sum(counts[number : number + 1]))
    for each, all_blocks in zip(sums.tensors(), total.tensors(), strict=True):
        each.copy_(all_blocks)
    means, columns = sums.means(counted)
    products = {name: mean for name, mean in means.items() if mean.ndim == 2}
    squares = {n: m.diagonal().copy() if m.ndim == 2 else m for n, m in means.items()}
    return OutputGradients(squares, products, counted, text.source, columns)
