"""Pinned sizes: bytes of a few small inputs under every codec of ours, in benchmarks/sizes.csv.

Beside the bytes stands the mean squared error in units of the step 0.41 of the scalar codes, since a
trellis with more states gains error rather than bytes.

A gain or a loss is then a line of a diff. `python benchmarks/sizes.py --write` rewrites the file;
without it, the differences are printed. tests/codecs/test_sizes.py runs the same comparison.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze import codecs
from squeeze.codecs.context.codec import Context
from squeeze.codecs.trellis.quantize import dequantize_trellis, quantize_trellis
from squeeze.codecs.trellis.tables import PARITY_CHECKS

CSV = Path(__file__).with_name("sizes.csv")
Sizes = dict[tuple[str, str], tuple[int, str]]

SCALAR_STEP, TRELLIS_STEP = 0.41, 0.235


def small_inputs() -> dict[str, npt.NDArray[np.float32]]:
    """Weights in units of their typical scale, 16,384 each."""
    rng = np.random.default_rng(20261123)
    gaussian = rng.standard_normal((128, 128))
    columns = np.exp2(rng.uniform(-1.5, 1.5, 128))
    rows = np.exp2(rng.uniform(-1.5, 1.5, (128, 1)))
    return {
        "gaussian": gaussian.astype(np.float32),
        "laplacian": rng.laplace(0.0, 0.5**0.5, (128, 128)).astype(np.float32),
        "scaled columns": (gaussian * columns).astype(np.float32),
        "scaled rows and columns": (gaussian * columns * rows).astype(np.float32),
        "ternary": np.clip(np.rint(0.8 * gaussian), -1, 1).astype(np.float32),
    }


def measure() -> Sizes:
    """(bytes, error to four digits) by (input, method)."""
    sizes: Sizes = {}

    def add(method: str, payload: bytes, decoded: npt.NDArray[np.float64]) -> None:
        error = ((weights - decoded) ** 2).mean() / SCALAR_STEP**2
        sizes[name, method] = (len(payload), f"{error:.4f}")

    for name, weights in small_inputs().items():
        step = 1.0 if name == "ternary" else SCALAR_STEP
        codes = np.clip(np.rint(weights / step), -128, 127).astype(np.int8)
        for codec in ("range-gaussian", "range-histogram"):
            add(f"scalar, {codec}", codecs.get(codec).encode(codes), codes * step)
        add("scalar, context", Context().encode(codes), codes * step)
        for n_states in PARITY_CHECKS if name != "ternary" else ():
            indices = quantize_trellis(weights, TRELLIS_STEP, n_states).indices
            decoded = dequantize_trellis(indices, n_states) * TRELLIS_STEP
            add(f"trellis {n_states}, context", Context(n_states).encode(indices), decoded)
    return sizes


def pinned() -> Sizes:
    """What sizes.csv says."""
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["input"], row["method"]): (int(row["bytes"]), row["error"]) for row in rows}


def write(sizes: Sizes) -> None:
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["input", "method", "bytes", "error"])
        writer.writerows([*key, *size] for key, size in sizes.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite sizes.csv")
    sizes = measure()
    if parser.parse_args().write:
        write(sizes)
        return
    old = pinned()
    for key in sorted(old.keys() | sizes.keys()):
        if old.get(key) != sizes.get(key):
            print(", ".join(key), old.get(key), "->", sizes.get(key))


if __name__ == "__main__":
    main()
