"""How far from Shannon's bound does a weight of one to two bits end up, as bytes of a file?

python benchmarks/source_rates.py

Matrices of independent Gaussian and Laplacian weights are quantized at ten steps by trellises of several
sizes and coded by the context coder; what stands in the table is read between the steps. The gap is in
bits a weight above the bound (Shannon's lower bound for the Laplacian); a gap of 0.1 bit is 15 % more
squared error. Peers are vector and trellis codes of fixed length at their published error for Gaussian
weights at two bits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from report import write_report
from result_files import spread, table

from squeeze.codecs.context.codec import Context
from squeeze.codecs.trellis.quantize import SearchOptions, dequantize_trellis, quantize_trellis

SHAPE, SEEDS = (1024, 512), 3
RATES = (1.0, 1.27, 1.5, 1.78, 2.0)  # bits a weight
STEPS = tuple(0.36 * 1.15**n for n in range(10))  # of the trellis, in standard deviations
FEEDBACK = 0.15  # squared steps a bit: the λ of quantization with feedback
WAYS: dict[str, tuple[int, float | None, bool]] = {  # states, λ (None: the best), centroids
    "8 states": (8, None, False),
    "32 states": (32, None, False),
    "64 states": (64, None, False),
    "256 states": (256, None, False),
    "256 states, centroids": (256, None, True),
    f"256 states, λ {FEEDBACK}": (256, FEEDBACK, False),
    f"256 states, λ {FEEDBACK}, centroids": (256, FEEDBACK, True),
}
# Mean squared error of Gaussian weights of variance 1 at two bits: QTIP, arXiv 2406.11235, table 1.
PUBLISHED = {"Lloyd–Max scalar": 0.118, "QuIP# E8P": 0.089, "QTIP, 65,536 states": 0.069}
# Entropy of a Gaussian less that of the source, bits, both of variance 1: Shannon's lower bound is as
# much lower.
LESS = {"gaussian": 0.0, "laplacian": 0.5 * math.log2(math.pi / math.e)}


def weights_of(source: str, seed: int) -> npt.NDArray[np.float32]:
    """Return float32 [1024, 512] of variance 1."""
    random = np.random.default_rng(seed)
    if source == "gaussian":
        return random.standard_normal(SHAPE, np.float32)
    return (random.laplace(size=SHAPE) / math.sqrt(2)).astype(np.float32)


def centroids(weights: npt.NDArray[np.float32], multiples: npt.NDArray[np.int32]) -> Any:
    """Return the mean weight of each multiple ±1 … ±3, both signs alike, in place of the multiple."""
    decoded = multiples.astype(np.float64)
    for size in (1, 2, 3):
        chosen = np.abs(multiples) == size
        if chosen.any():
            signs = np.sign(multiples[chosen])
            decoded[chosen] = signs * float((weights[chosen] * signs).mean())
    return decoded


def curve(
    weights: npt.NDArray[np.float32], n_states: int, lam: float | None, centred: bool
) -> Iterator[tuple[float, float]]:
    """Yield bits a weight, as encoded, and log2 of the root mean square error, step by step."""
    for step in STEPS:
        indices = quantize_trellis(weights, step, n_states, SearchOptions(lam=lam)).indices
        multiples = dequantize_trellis(indices, n_states)
        scaled = (weights / np.float32(step)).astype(np.float32)
        decoded = centroids(scaled, multiples) if centred else multiples
        error = float(((scaled - decoded) ** 2).mean()) * step * step
        yield 8 * len(Context(n_states).encode(indices)) / weights.size, 0.5 * math.log2(error)


def gaps(source: str, seed: int, way: tuple[int, float | None, bool]) -> list[float | None]:
    """Return the gap at each of RATES; None where the steps do not reach it."""
    points = sorted(curve(weights_of(source, seed), *way))
    bits, errors = (list(axis) for axis in zip(*points, strict=True))
    return [
        rate + float(np.interp(rate, bits, errors)) + LESS[source]
        if bits[0] <= rate <= bits[-1]
        else None
        for rate in RATES
    ]


def main() -> None:
    rows: list[dict[str, Any]] = []
    for source in LESS:
        for name, way in WAYS.items():
            seeds = [gaps(source, seed, way) for seed in range(SEEDS)]
            for rate, values in zip(RATES, zip(*seeds, strict=True), strict=True):
                found = [value for value in values if value is not None]
                mean = statistics.mean(found) if found else None
                sd = statistics.stdev(found) if len(found) > 1 else None
                row = {"source": source, "way": name, "bits": rate, "gap": mean, "sd": sd}
                rows.append({**row, "n": len(found)})
            print(source, name, [row["gap"] for row in rows[-len(RATES) :]], flush=True)
    for name, error in PUBLISHED.items():
        gap = 2 + 0.5 * math.log2(error)
        rows.append(
            {"source": "gaussian", "way": name, "bits": 2.0, "gap": gap, "sd": None, "n": 0}
        )
    lines = []
    for source, name in dict.fromkeys((row["source"], row["way"]) for row in rows):
        of_rate = {r["bits"]: r for r in rows if (r["source"], r["way"]) == (source, name)}
        cells = [of_rate.get(rate, {"gap": None}) for rate in RATES]
        lines.append(
            [source, name + (" (published)" if name in PUBLISHED else "")]
            + [None if c["gap"] is None else spread(c["gap"], c["sd"], 4) for c in cells]
        )
    titles = ["source", "code", *(f"{rate} bits" for rate in RATES)]
    text = f"`{SEEDS} seeds of {SHAPE[0]} × {SHAPE[1]} weights; bits above the bound`"
    write_report("source-rates", rows, f"{text}\n\n{table(titles, lines)}")


if __name__ == "__main__":
    main()
