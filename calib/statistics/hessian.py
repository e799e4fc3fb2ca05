"""Second moments of the inputs of every weight matrix, with which GPTQ and allocation weigh errors.

H = Σ x xᵀ / tokens over all inputs x a matrix sees. A block that runs several times adds all its
passes and is still divided by the tokens, so tr(ΔW H ΔWᵀ) is the squared output error per token and
can be compared between tensors. A matrix with fewer inputs than tokens, an expert's, has their mean:
the gradients of its outputs are divided by all tokens, and so have its share already. (GPTQ's own
convention has a factor 2, which cancels there.)
`squeeze.calib.statistics.collect` collects them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.errors import CorruptData
from squeeze.files.arrays import read_arrays, write_arrays

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hessians:
    """Second moments of inputs by tensor name.

    matrices: float32 [in, in], symmetric, divided by `tokens` or by the inputs, if those are fewer
    tokens: number of calibration tokens
    source: origin of the text

    Tensors that read the same input share one array. A tied embedding appears under its own name, with
    the head's input.
    """

    matrices: dict[str, Float32] = field(repr=False)
    tokens: int
    source: str = ""

    def save(self, path: Path, key: str = "") -> None:
        """Write a safetensors file atomically, with each shared matrix once."""
        owners: dict[int, str] = {}
        shared = {n: owners.setdefault(id(m), n) for n, m in self.matrices.items()}
        facts = {"tokens": self.tokens, "source": self.source, "shared": shared}
        write_arrays(path, {name: self.matrices[name] for name in owners.values()}, key, facts)

    @classmethod
    def load(cls, path: Path, key: str = "") -> Hessians:
        """Read a file of `save`. Raises CorruptData when it is damaged or of another key."""
        arrays, facts = read_arrays(path, key)
        try:
            matrices = {name: arrays[owner] for name, owner in facts["shared"].items()}
            return cls(matrices, int(facts["tokens"]), str(facts["source"]))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise CorruptData(f"{path}: not a file of Hessians") from None
