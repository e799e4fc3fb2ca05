"""Seconds for a 36M-weight model, and ratios to the records' coders in the same run.

36 Gaussian matrices of 1000 × 1000, 8-state trellis near 3 bits, all cores: search, encode, decode,
dequantize, all warm. brotli-11 (encode) and lrzip (decode) see the int6 codes of the first
`--subset` matrices; the ratios compare seconds per weight. Peak memory is of the whole process.

Usage: python benchmarks/speed.py [--matrices 36] [--subset 4] [--states 8]
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import rivals
from quantizers import INT6_K
from report import write_report

from squeeze.codecs.context.codec import Context
from squeeze.codecs.trellis.quantize import dequantize_trellis, quantize_trellis

SIDE = 1000
STEP = 0.235
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--matrices", type=int, default=36)
    parser.add_argument("--subset", type=int, default=4)
    parser.add_argument("--states", type=int, default=8)
    arguments = parser.parse_args()
    n_states = arguments.states
    codec = Context(n_states, threads=1)
    cores = len(os.sched_getaffinity(0))

    def matrix(seed: int) -> Any:
        return np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32)

    def quantize(weights: Any) -> Any:
        return quantize_trellis(weights, STEP, n_states).indices

    def decode(payload: bytes) -> Any:
        return codec.decode(payload, (SIDE, SIDE), np.int8)

    warm = quantize(matrix(0)[:64])
    codec.decode(codec.encode(warm), warm.shape, np.int8)
    dequantize_trellis(warm, n_states)

    weights = [matrix(seed) for seed in range(arguments.matrices)]
    with ThreadPoolExecutor(cores) as pool:
        seconds: dict[str, float] = {}
        seconds["search"], indices = timed(lambda: [quantize(w) for w in weights])
        seconds["encode"], payloads = timed(lambda: list(pool.map(codec.encode, indices)))
        seconds["decode"], decoded = timed(lambda: list(pool.map(decode, payloads)))
        seconds["dequantize"], _ = timed(
            lambda: [dequantize_trellis(k, n_states)[0, 0] for k in decoded]
        )
    assert all((a == b).all() for a, b in zip(indices, decoded, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    subset = np.stack(weights[: arguments.subset])
    codes = np.clip(np.rint(subset / (INT6_K / 31)), -31, 31).astype(np.int8).ravel()
    brotli = rivals.general("brotli", "brotli-11")
    brotli_seconds, brotli_payload = timed(lambda: brotli.encode(codes))
    lrzip = rivals.lrzip()
    lrzip_payload = lrzip.encode(codes)
    lrzip_seconds, _ = timed(lambda: lrzip.decode(lrzip_payload, codes.shape))
    total, part = SIDE * SIDE * arguments.matrices, codes.size
    row = {
        "weights": total,
        "states": n_states,
        "cores": cores,
        **{f"{name}_s": round(value, 2) for name, value in seconds.items()},
        "bits_per_weight": 8 * sum(map(len, payloads)) / total,
        "peak_gb": round(peak, 2),
        "subset_weights": part,
        "brotli_encode_s": round(brotli_seconds, 2),
        "lrzip_decode_s": round(lrzip_seconds, 2),
        "brotli_bits_per_weight": 8 * len(brotli_payload) / part,
        "lrzip_bits_per_weight": 8 * len(lrzip_payload) / part,
        "encode_faster_than_brotli": (brotli_seconds / part) / (seconds["encode"] / total),
        "decode_faster_than_lrzip": (lrzip_seconds / part) / (seconds["decode"] / total),
    }
    table = "\n".join(
        ["| what | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in row.items())]
    )
    print(table)
    write_report(f"codec-speed-{n_states}", [row], table)


if __name__ == "__main__":
    main()
