"""make bench-codec: bytes of weights at equal error, ours against outside coders and quantizers.

Every figure is the size of a file that was written, read back and decoded to the same codes. A file
holds all matrices of an input with what is needed to rebuild them: the steps, an fp16 a row (one
fp32 for the synthetic inputs), and the codes. General coders code the steps in one piece and the
codes in another, as they lie or transposed, whichever is smaller (zpaq and lrzip, being slow, only
as they lie); ours code the steps with the smallest of squeeze's own codecs. int6 is the records'
quantizer, step = 12.85·σ/31 of each row, clipped to ±31; the trellis steps are eighths of an octave
times one factor, tuned to the same mean squared error, counted in variances of the rows.

Gap: bits per weight above ½·log2(1/error), the rate–distortion bound of a Gaussian source (for the
Laplacian input: above Shannon's lower bound). Real weights may lie below it: their columns differ
in scale, and a bound that knew would be lower. MB/s: int8 indices coded in a second, warm.

Usage: python benchmarks/codec.py [--inputs gaussian,laplacian,minilm,reference,samtruss]
A run on some of the inputs keeps the other rows of a report of the same day.
"""

from __future__ import annotations

import argparse
import math
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import inputs
import nncodec_rival
import numpy as np
import numpy.typing as npt
import rivals
from quantizers import Quantized, int6, row_sigmas, step_bits, step_floats, trellis_at, uniform_at
from report import earlier_rows, write_report
from rivals import Coder, Missing

from squeeze import codecs
from squeeze.codecs.context.codec import Context

Codes = npt.NDArray[np.int8]
STATES = (8, 256)
INPUTS = ("gaussian", "laplacian", "minilm", "reference", "samtruss")
LAPLACE_BONUS = 0.5 * math.log2(math.pi / math.e)  # Gaussian bound − Shannon's lower bound, bits
GENERAL = {"zlib": "zlib-9", "zstd": "zstd-22", "lzma": "lzma-9e", "brotli": "brotli-11"}


@dataclass(frozen=True)
class Row:
    input: str
    quantizer: str
    coder: str
    bytes: int | None = None
    bits_per_weight: float | None = None
    error: float | None = None
    gap_bits: float | None = None
    encode_mb_s: float | None = None
    decode_mb_s: float | None = None
    note: str = ""


# --- coders: one file each -----------------------------------------------------------------------


def ours(name: str, n_states: int = 0) -> Coder:
    codec = Context(n_states) if name == "context" else codecs.get(name)
    label = f"squeeze {name}"
    return Coder(label, codec.encode, lambda d, s: codec.decode(d, s, np.int8), whole=False)


def joined(codes: list[Codes], transposed: bool) -> Codes:
    return np.concatenate([(c.T if transposed else c).ravel() for c in codes])


def measure(input_name: str, quantized: Quantized, coder: Coder) -> Row:
    """Write, read and check one file; for general coders the better arrangement."""
    arrangements = {"": quantized.codes}
    if coder.whole:
        arrangements = {"plain": [joined(quantized.codes, False)]}
        if not coder.slow:
            arrangements["transposed"] = [joined(quantized.codes, True)]
    side = coded_steps(quantized.steps, coder)
    weights = sum(c.size for c in quantized.codes)
    coder.encode(quantized.codes[0][:2])  # compile before the clock starts
    best: Row | None = None
    for name, parts in arrangements.items():
        start = time.perf_counter()
        streams = [coder.encode(part) for part in parts]
        encoded = time.perf_counter()
        size, (_, *streams) = through_file([side, *streams])
        middle = time.perf_counter()
        decoded = [coder.decode(s, p.shape) for s, p in zip(streams, parts, strict=True)]
        end = time.perf_counter()
        for was, now in zip(parts, decoded, strict=True):
            assert (was == now).all(), f"{coder.name} did not give back what it took"
        if best is None or size < best.bytes:
            bits = 8 * size / weights
            best = Row(
                input_name,
                quantized.name,
                coder.name,
                size,
                bits,
                quantized.error or None,
                gap(input_name, bits, quantized.error),
                weights / (encoded - start) / 1e6,
                weights / (end - middle) / 1e6,
                name,
            )
    assert best is not None
    return best


def coded_steps(steps: npt.NDArray[Any], coder: Coder) -> bytes:
    """The steps' bytes: by the coder itself if it is a general one and that helps, else by ours."""
    if steps.size == 0:
        return b""
    if not coder.whole:
        return codecs.encode_smallest(steps).data
    raw = steps.tobytes()
    return min(raw, coder.encode(np.frombuffer(raw, np.int8)), key=len)


def through_file(parts: list[bytes]) -> tuple[int, list[bytes]]:
    """Write the parts, each after its length in four bytes; the file's size, and what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        path.write_bytes(b"".join(struct.pack("<I", len(part)) + part for part in parts))
        data = path.read_bytes()
        size = path.stat().st_size
    read, at = [], 0
    while at < size:
        (length,) = struct.unpack_from("<I", data, at)
        read.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return size, read


def gap(input_name: str, bits: float, error: float) -> float | None:
    if not error:
        return None
    bound = 0.5 * math.log2(1 / error)
    return bits - bound + (LAPLACE_BONUS if input_name == "laplacian" else 0.0)


def nncodec(input_name: str, matrices: list[inputs.Matrix], error: float, synthetic: bool) -> Row:
    sigmas = [step_floats(row_sigmas(m, synthetic), synthetic) for m in matrices]
    steps = codecs.encode_smallest(step_bits(sigmas)).data
    normal = [(m / s).astype(np.float32) for m, s in zip(matrices, sigmas, strict=True)]
    result, got = nncodec_rival.code_at(normal, error)
    weights = sum(m.size for m in matrices)
    size, _ = through_file([steps, result.bitstream])
    bits = 8 * size / weights
    return Row(
        input_name,
        "nncodec, dependent",
        "its own",
        size,
        bits,
        got,
        gap(input_name, bits, got),
        weights / result.encode_seconds / 1e6,
        weights / result.decode_seconds / 1e6,
        "encoding includes quantizing",
    )


# --- the table -----------------------------------------------------------------------------------


def outside_coders() -> dict[str, Callable[[], Coder]]:
    wrapped = {label: partial(rivals.general, name, label) for name, label in GENERAL.items()}
    return {
        **wrapped,
        "zpaq": rivals.zpaq,
        "lrzip": rivals.lrzip,
        "constriction": rivals.constriction,
    }


def rows_of_codes(
    input_name: str, quantized: Quantized, outside: dict[str, Callable[[], Coder]]
) -> list[Row]:
    """The given outside coders, then ours, on the same codes."""
    makers = dict(outside)
    if not quantized.n_states:
        makers |= {name: partial(ours, name) for name in ("range-gaussian", "range-histogram")}
    makers["context"] = partial(ours, "context", quantized.n_states)
    rows = []
    for name, make in makers.items():
        try:
            rows.append(measure(input_name, quantized, make()))
        except Missing as reason:
            rows.append(Row(input_name, quantized.name, name, note=f"skipped: {reason}"))
        print(_line(rows[-1]), flush=True)
    return rows


def rows_of_floats(input_name: str, matrices: list[inputs.Matrix]) -> list[Row]:
    synthetic = input_name in ("gaussian", "laplacian")
    scalar = int6(matrices, synthetic)
    rows = rows_of_codes(input_name, scalar, outside_coders())
    brotli = {"brotli": outside_coders()["brotli-11"]}
    trellises = [trellis_at(matrices, n, scalar.error, synthetic) for n in STATES]
    rows += rows_of_codes(input_name, trellises[0], brotli)
    more = trellises[1:]
    for error in (0.0573, 0.26) if synthetic else ():  # near 2 and 1 bits
        more.append(uniform_at(matrices, error))
        more += [trellis_at(matrices, n, error, synthetic) for n in STATES]
    for quantized in more:
        rows += rows_of_codes(input_name, quantized, {})
    try:
        rows.append(nncodec(input_name, matrices, scalar.error, synthetic))
    except Missing as reason:
        rows.append(Row(input_name, "nncodec", "its own", note=f"skipped: {reason}"))
    print(_line(rows[-1]), flush=True)
    return rows


def rows_of_input(name: str) -> list[Row]:
    try:
        data: list[Any] = getattr(inputs, name)()
    except (FileNotFoundError, ImportError) as reason:
        return [Row(name, "", "", note=f"skipped: {reason}")]
    if name == "samtruss":
        return rows_of_codes(
            name, Quantized("as exported", data, np.zeros(0, np.uint16), 0.0), outside_coders()
        )
    return rows_of_floats(name, data)


COLUMNS = (
    "input | quantizer | coder | bytes | bits/weight | error | gap, bit | "
    "encode MB/s | decode MB/s | note"
)


def _line(row: Row) -> str:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    cells = (
        row.input,
        row.quantizer,
        row.coder,
        number(row.bytes, ",d"),
        number(row.bits_per_weight, ".4f"),
        number(row.error, ".5f"),
        number(row.gap_bits, ".4f"),
        number(row.encode_mb_s, ".2f"),
        number(row.decode_mb_s, ".2f"),
        row.note,
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", default=",".join(INPUTS))
    chosen = parser.parse_args().inputs.split(",")
    rows = [Row(**row) for row in earlier_rows("codec") if row["input"] not in chosen]
    rows += [row for name in chosen for row in rows_of_input(name)]
    rows.sort(key=lambda row: INPUTS.index(row.input))
    header = f"| {COLUMNS} |\n|" + "---|" * (COLUMNS.count("|") + 1)
    table = "\n".join([header, *map(_line, rows)])
    write_report("codec", [asdict(row) for row in rows], table)


if __name__ == "__main__":
    main()
