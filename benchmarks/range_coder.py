"""The range coder alone: bytes above the entropy, and symbols a second on one core.

A million Gaussian codes (σ = 2.4 steps, as int6 weights clipped at 12.85 σ). Bytes are compared with the
order-0 entropy of the codes, which no static model's code length undercuts.

Usage: python benchmarks/range_coder.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from report import write_report

from squeeze import codecs

SYMBOLS = 1_000_000
SIGMA = 2.4
REPEATS = 5


def entropy_bits(codes: npt.NDArray[np.int8]) -> float:
    """Order-0 entropy of the codes, bits in all: a lower bound of any static model's code length."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / codes.size)).sum())


def fastest(work: Callable[[], object]) -> float:
    """Processor seconds of the fastest of REPEATS runs, after one that compiles."""
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def main() -> None:
    rng = np.random.default_rng(0)
    codes = np.clip(np.rint(SIGMA * rng.standard_normal(SYMBOLS)), -31, 31).astype(np.int8)
    rows: list[dict[str, object]] = []
    for name in ("range-gaussian", "range-histogram"):
        codec = codecs.get(name)
        data = codec.encode(codes)
        encode = fastest(lambda codec=codec: codec.encode(codes))
        decode = fastest(
            lambda codec=codec, data=data: codec.decode(data, codes.shape, codes.dtype)
        )
        rows.append(
            {
                "coder": name,
                "bytes": len(data),
                "above entropy, %": round(100 * (8 * len(data) / entropy_bits(codes) - 1), 4),
                "encode, M symbols/s": round(SYMBOLS / encode / 1e6, 1),
                "decode, M symbols/s": round(SYMBOLS / decode / 1e6, 1),
            }
        )
        print(rows[-1])
    titles = list(rows[0])
    lines = [titles, ["---"] * len(titles), *([str(row[t]) for t in titles] for row in rows)]
    write_report("range-coder", rows, "\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
