"""Rows of README's second table: a question, ours, what stands beside it, runs, commit."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from result_files import Result, find, load, spread
from result_tables import INPUTS

OWN = "own submission"  # the row of benchmarks/code_size.py that is no module of Python's
Row = tuple[str, str, str, int, str]


def all_rows() -> Iterator[Row]:
    """Rows in their order."""
    yield from weights_at_equal_error()
    yield from codes_losslessly()
    yield from wrapped_code()
    yield coding_speed()
    yield packing_speed()
    yield lowest_rate()
    yield from packed_score()
    yield from what_if()
    yield proof()
    yield sliding()
    yield training()
    yield tiny_preset()


def coders(name: str) -> dict[tuple[str, str], Result]:
    """Rows of one input at the error of int6, by quantizer and coder."""
    rows = [r for r in load("codec")["rows"] if r["input"] == name]
    return {
        (r["quantizer"], r["coder"]): r for r in rows if r["error"] is None or r["error"] < 0.02
    }


def weights_at_equal_error() -> Iterator[Row]:
    for name in ("minilm", "reference"):
        rows = coders(name)
        ours = [rows[f"trellis {states}", "squeeze context"]["bytes"] for states in (256, 8)]
        beside = [
            (label, rows[key]["bytes"])
            for label, key in {
                "int6 + brotli-11": ("int6 k=12.85", "brotli-11"),
                "int6 + zpaq": ("int6 k=12.85", "zpaq -m5"),
                "nncodec": ("nncodec, dependent", "its own"),
            }.items()
        ]
        yield (
            f"Weights at equal error, {INPUTS[name]}: bytes with 256 / 8 states",
            " / ".join(f"{size:,}" for size in ours),
            "; ".join(f"{label} {size:,}" for label, size in beside),
            1,
            load("codec")["commit"],
        )


def codes_losslessly() -> Iterator[Row]:
    """An export's codes, and codes on which a histogram coder is ahead."""
    commit = load("codec")["commit"]
    rows = coders("samtruss")
    yield (
        "Codes of an int8 export (7.6M), losslessly: bytes",
        f"{rows['as exported', 'squeeze context']['bytes']:,}",
        "; ".join(
            f"{label} {rows['as exported', coder]['bytes']:,}"
            for label, coder in (
                ("zlib", "zlib-9"),
                ("brotli-11", "brotli-11"),
                ("lrzip", "lrzip -z -L9"),
                ("zpaq", "zpaq -m5"),
            )
        ),
        1,
        commit,
    )
    rows = coders("gaussian")
    yield (
        "Independent Gaussian codes, where contexts know nothing: bytes",
        f"{rows['int6 k=12.85', 'squeeze context']['bytes']:,}",
        "histogram coder of constriction "
        f"{rows['int6 k=12.85', 'constriction, histogram']['bytes']:,} (**smaller**)",
        1,
        commit,
    )


def wrapped_code() -> Iterator[Row]:
    """One file of code: our own submission, then others' modules."""
    result = load("code")
    kept, smallest, usual = "ours, standard library", "ours, any coder", "lzma + base85"
    modules = [row for row in result["rows"] if row["source"] != OWN]
    for row in result["rows"]:
        if row["source"] == OWN:
            sizes, seconds = row["bytes"], row["restore_seconds"]
            yield (
                "Code of our own submission, one file: bytes with the standard library / any coder",
                f"{sizes[kept]:,} / {sizes[smallest]:,}",
                f"lzma in base85 {sizes[usual]:,}; restored in {seconds[kept]:.1f} / "
                f"{seconds[smallest]:.0f} s on a busy machine (**slow**), {seconds[usual]:.1f} s",
                1,
                result["commit"],
            )
    saved = [row["saved"][kept][usual] for row in modules]
    yield (
        f"One file of code, {len(saved)} modules of Python's library: bytes saved, standard library",
        f"{100 * min(saved):.1f} to {100 * max(saved):.1f} %",
        "against lzma in base85 of the same source",
        1,
        result["commit"],
    )


def coding_speed() -> Row:
    speed = load("codec-speed-8")
    r = speed["rows"][0]
    return (
        f"{r['weights'] // 10**6}M weights, two cores: encode / decode",
        f"{r['encode_s']:.1f} s / {r['decode_s']:.1f} s",
        f"a weight, {r['encode_faster_than_brotli']:.0f} times as fast as brotli-11 / "
        f"{r['decode_faster_than_lrzip']:.0f} times as fast as lrzip",
        1,
        speed["commit"],
    )


def packing_speed() -> Row:
    pack = load("pack-speed-best")
    return (
        f"Packing {pack['weights'] / 1e6:.0f}M weights with `best`, two cores",
        f"{pack['wall_s']:.0f} s, {pack['peak_MiB'] / 1024:.1f} GiB",
        f"{pack['unused']} bytes of the limit unused",
        1,
        pack["commit"],
    )


def lowest_rate() -> Row:
    """Both presets at the fewest bits, each with its last course of learning."""
    result = load("low-rates-tuned")
    rows = [row for row in result["rows"] if "n" in row]
    bits = min(row["bits"] for row in rows)
    last = {row["preset"]: row for row in rows if row["bits"] == bits}  # courses are in their order
    best, tuned = last["best"], last["tuned"]
    figures, beside = (
        f"{spread(row['kl'], row['kl_sd'], 4)}; {spread(row['gap'], row['gap_sd'], 4, sign=True)}"
        for row in (tuned, best)
    )
    return (
        f"The reference checkpoint at {bits:g} bits a weight, `tuned`: KL; gap, bits per byte",
        figures,
        f"`best`: {beside}",
        min(best["n"], tuned["n"]),
        tuned["commits"],
    )


def packed_score() -> Iterator[Row]:
    """The score of the reference checkpoint, where it was measured."""
    models = load("models")
    rows = {row["row"]: row for row in models["rows"]}
    if "reference-best" in rows:
        row = rows["reference-best"]
        nearest, plain = (rows[name]["bpb_mean"] for name in ("reference-nearest", "reference"))
        yield (
            f"Score of the reference checkpoint in {row['limit']:,} bytes (`best`)",
            f"{spread(row['bpb_mean'], row['bpb_sd'], 4)} BPB",
            f"rounded to nearest with brotli {nearest:.4f}; fp32 {plain:.4f}",
            row["n"],
            models["commit"],
        )


def what_if() -> Iterator[Row]:
    """What was foreseen beside what was packed, where it was measured."""
    if find("what-if"):
        foreseen = load("what-if")
        rows = foreseen["rows"][1:]  # the first is the pack that is asked
        middle = median(abs(row["delta_error"]) for row in rows)
        size, cost = (max(abs(row[key]) for row in rows) for key in ("bytes_error", "delta_error"))
        yield (
            "What-if against real packs, largest error: bytes / change of KL",
            f"{100 * size:.2f} % / {100 * cost:.0f} %",
            f"half of the changes of KL within {100 * middle:.0f} %",
            len(rows),
            foreseen["commit"],
        )


def proof() -> Row:
    result = load("prove")
    r = next(row for row in result["rows"] if "run" in row)
    return (
        f"Proof: {r['text_bytes']:,} bytes of text as a file, decoded again",
        f"{r['file_bytes']:,} bytes, {r['file_bpb']:.4f} BPB",
        f"{r['overhead']:+.3%} over the code length; {r['tokens_per_second']['encode']:.0f} "
        "tokens a second on a busy machine (**slow**)",
        1,
        r.get("measured_at", result["commit"]),
    )


def sliding() -> Row:
    scoring = load("scoring")
    ratios = [row["naive_over_sliding"] for row in scoring["rows"]]
    return (
        "Sliding windows, speed over whole windows one by one",
        f"{min(ratios):.2f} to {max(ratios):.2f} times",
        f"{sum(ratio < 1.05 for ratio in ratios)} of {len(ratios)} models **gain nothing**",
        1,
        scoring["commit"],
    )


def training() -> Row:
    train = load("train")
    ours, *_ = (row for row in train["rows"] if row["learner"] == "trainer")
    adam = min((row for row in train["rows"] if "AdamW" in row["learner"]), key=lambda x: x["loss"])
    return (
        f"Training, {train['steps']} equal steps: nats a token (half-way)",
        f"{ours['loss']:.3f} ({ours['loss_halfway']:.3f})",
        f"AdamW at its best rate {adam['loss']:.3f} ({adam['loss_halfway']:.3f}: **ahead**)",
        1,
        train["commit"],
    )


def tiny_preset() -> Row:
    tiny = load("tiny")
    return (
        f"`tiny` preset, {tiny['wall_seconds']:.0f} s on two cores with compilation",
        f"{tiny['score']['bpb']:.4f} BPB",
        f"first {tiny['score']['tokens']:,} targets of a FineWeb validation tail",
        1,
        tiny["commit"],
    )
