"""Shares of the matrices of a tuned pack, and what of a model is still to be rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from squeeze.packing.presets import Tuned
from squeeze.packing.quantizer import Quantizer, StoredMatrix


@dataclass(frozen=True)
class Shares:
    """Matrices in the order in which they are rounded, and the training before each but the first.

    names: of the matrices of each share
    steps: updates before each share but the first, and updates of the floats at the end
    """

    names: tuple[tuple[str, ...], ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, roles: Mapping[str, str], preset: Tuned, total: int) -> Shares:
        """Return the shares of matrices: into the mlp, out of attention, into it, out of the mlp, rest.

        roles: of the matrices, by name
        total: updates
        """
        if preset.last == 1:
            return cls((tuple(roles),), (total,))
        starts = ("mlp.fc", "attn.proj", "attn", "mlp.proj", "")
        groups: dict[str, list[str]] = {start: [] for start in starts}
        for name, role in roles.items():
            group = next(each for each in groups if role.startswith(each))
            groups[group].append(name)
        shares = [tuple(group) for group in groups.values() if group]
        if len(shares) == 1 and len(shares[0]) > 1:
            half = (len(shares[0]) + 1) // 2
            shares = [shares[0][:half], shares[0][half:]]
        between = len(shares) - 1
        each = [round(total * (1 - preset.last)) // between] * between if between else []
        return cls(tuple(shares), (*each, total - sum(each)))


class Rest:
    """The matrices that are still to be rounded, for the search of the scale that meets the limit."""

    def __init__(self, quantizer: Quantizer, rounded: Mapping[str, StoredMatrix]) -> None:
        self.quantizer, self.rounded = quantizer, rounded
        counts = quantizer.weight_counts
        self.weight_counts = {name: n for name, n in counts.items() if name not in rounded}

    def quantize(self, scales: Mapping[str, float]) -> dict[str, StoredMatrix]:
        """Return the named matrices at their scales."""
        return self.quantizer.quantize(scales)

    def measure(self, tensors: Mapping[str, StoredMatrix]) -> int:
        """Return the bytes of the whole file."""
        return self.quantizer.measure({**self.rounded, **tensors})

    def estimate(self, scale: float) -> float:
        """Return roughly the bytes of these matrices at a scale."""
        return self.quantizer.estimate(scale, self.weight_counts)
