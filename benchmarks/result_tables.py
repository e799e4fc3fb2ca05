"""Markdown tables of the results on disk: every question of `make bench`, losing rows included.

One function a result, from the JSON that its benchmark wrote. No number stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from low_rate_tables import markdown as low_rate_table
from pack_report import peer_of, saved_at_equal_kl
from result_files import find, load, machine, spread, table
from whole_tables import markdown as whole_table

from squeeze.packing.presets import TARGETS


def pack(name: str) -> str:
    result = load(name)
    rows = []
    for row in sorted(result["summary"], key=lambda row: row["bytes"]):
        share = row.get("kl_share")
        rows.append(
            (
                row["size"] if row["size"].startswith("record") else f"{row['size']} bits",
                f"squeeze, {row['what']}" if row["what"] in TARGETS else row["what"],
                row["n"],
                f"{row['bytes']:,.0f}",
                f"{row['bits_per_weight']:.3f}",
                spread(row["kl"], row["kl_sd"], 5),
                f"{share:.3f}" if share else "",
                spread(row["gap"], row["gap_sd"], 5, sign=True),
                spread(row["gap_difference"], row["gap_difference_sd"], 5, sign=True)
                if "gap_difference" in row
                else "",
                f"{row['cpu_s']:.0f}",
            )
        )
    titles = ("size", "packed by", "n", "bytes", "bits/weight", "KL", "share", "gap", "difference",
              "CPU s")  # fmt: skip
    saved = saved_at_equal_kl(result["lines"], "best")
    return "\n\n".join(
        (
            f"`{result['checkpoint']}`, calibrated on {result['calibration_tokens']:,} "
            f"training tokens, scored on {result['targets_a_seed']:,} targets a seed, others "
            "for every seed. KL(fp32 ‖ packed) and gap of the score in bits per byte, mean ± "
            "sd over n calibration seeds. share: of the record's KL at the same bytes, seed "
            "by seed; difference: of the gaps, the same way.",
            table(titles, rows),
            f"Bytes that `best` saves at the KL of {peer_of('2.5')}: "
            + ", ".join(f"{share} at {size} bits" for size, share in saved.items())
            + ".",
        )
    )


def low_rates() -> str:
    rows = [row for row in load("low-rates-tuned")["rows"] if "n" in row]
    return (
        "`reference_8.7M_fp32.safetensors`, calibrated on training tokens, each pack of another seed at "
        "another of three neighbouring limits, since a hair's breadth of scale changes all roundings; "
        "131,072 targets. KL(fp32 ‖ packed) and gap of the score in bits per byte, mean ± sd over the "
        "packs. next tokens: share of the text's own in what is learnt, the rest is the fp32 model's "
        "answers.\n\n" + low_rate_table(rows)
    )


def quantizer_order() -> str:
    result = load("quantizer-order")
    rows = [
        (f"int{r['bits']}", r["quantizer"], r["n"], spread(r["gap"], r["gap_sd"], 5, sign=True),
         spread(r["kl"], r["kl_sd"], 5))
        for r in result["rows"]
    ]  # fmt: skip
    return (
        f"`{result['checkpoint']}`, bits per byte above fp32 and KL, mean ± sd over n stretches of "
        f"{result['targets']:,} targets.\n\n"
        + table(("codes", "quantizer", "n", "gap", "KL"), rows)
    )


def models() -> str:
    result = load("models")
    rows = [
        (r["checkpoint"], _code(r["packed"]), r["n"], f"{r['bytes_mean']:,.0f}",
         spread(r["bpb_mean"], r["bpb_sd"], 6))
        for r in result["rows"]
    ]  # fmt: skip
    return (
        f"Score in bits per byte on the first {result['targets']:,} targets of a FineWeb "
        "validation tail, each file in a fresh process; n calibration seeds. Gaps of a few "
        "thousandths say little about a quantizer on so little text; the KL above does.\n\n"
        + table(("checkpoint", "packed", "n", "bytes", "BPB"), rows)
    )


def _code(text: str) -> str:
    return f"`{text}`" if text.startswith("--") else text


CODECS = ("int6 k=12.85", "as exported")  # quantizers of the rows that only differ in their coder
INPUTS = {
    "gaussian": "2.1M Gaussian",
    "laplacian": "2.1M Laplacian",
    "minilm": "MiniLM, 22.7M",
    "reference": "reference, 8.7M",
    "samtruss": "int8 entry, 7.6M",
}


def equal_error() -> str:
    """Bytes at the error of int6, by coder and input; error in units of the variance."""
    rows = [r for r in load("codec")["rows"] if r["error"] is None or r["error"] < 0.02]
    kinds = list(dict.fromkeys((r["quantizer"], r["coder"]) for r in rows))
    merged: dict[tuple[str, str], dict[str, int]] = {}
    for quantizer, coder in kinds:  # the exported codes stand in the rows of the same coders
        here = {
            r["input"]: r["bytes"]
            for r in rows
            if (r["quantizer"], r["coder"]) == (quantizer, coder)
        }
        key = "int6, or as exported" if quantizer in CODECS else quantizer
        merged.setdefault((key, coder), {}).update(here)
    body = [
        (quantizer, coder, *(f"{sizes[i]:,}" if i in sizes else None for i in INPUTS))
        for (quantizer, coder), sizes in merged.items()
    ]
    return (
        "Bytes of files, side information included, rows normalised. The first four inputs "
        "are quantized to the error of int6 with a clip at 12.85 σ (0.0143 of the variance); "
        "the last column is an int8 export's codes as they are, coded losslessly, so only the "
        "coder counts there. Of plain and transposed the smaller.\n\n"
        + table(("quantizer", "coder", *INPUTS.values()), body)
    )


def shannon_gap() -> str:
    """Bits above the rate–distortion bound at three rates."""
    rows = [
        r for r in load("codec")["rows"] if r["error"] and r["input"] in ("gaussian", "laplacian")
    ]
    rates = {0.0143: "≈ 3 bits", 0.0573: "≈ 2 bits", 0.26: "≈ 1 bit"}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        if r["coder"] not in ("squeeze context", "brotli-11", "its own"):
            continue
        rate = rates[min(rates, key=lambda error: abs(error - r["error"]))]
        quantizer = r["quantizer"].replace("int6 k=12.85", "uniform")
        cells.setdefault((r["input"], f"{quantizer}, {r['coder']}"), {})[rate] = (
            f"{r['gap_bits']:.3f}"
        )
    body = [
        (source, what, *(found.get(rate) for rate in rates.values()))
        for (source, what), found in cells.items()
    ]
    return (
        "File bits a weight above Shannon's bound (Laplacian: above the lower bound, which is "
        "not reached near 1 "
        "bit).\n\n" + table(("input", "quantizer and coder", *rates.values()), body)
    )


def codec_speed() -> str:
    parts = [load(f"codec-speed-{states}")["rows"][0] for states in (8, 256)]
    keys = {
        "search_s": "search, s",
        "encode_s": "encode, s",
        "decode_s": "decode, s",
        "dequantize_s": "dequantize, s",
        "bits_per_weight": "bits/weight",
        "peak_gb": "peak memory, GB",
        "encode_faster_than_brotli": "encode, times as fast as brotli-11",
        "decode_faster_than_lrzip": "decode, times as fast as lrzip",
    }
    rows = [(label, *(f"{part[key]:.2f}" for part in parts)) for key, label in keys.items()]
    return (
        f"{parts[0]['weights']:,} Gaussian weights on two cores; brotli and lrzip on "
        f"{parts[0]['subset_weights']:,} of them, per weight, in the same run.\n\n"
        + table(("", "8 states", "256 states"), rows)
    )


def range_coder() -> str:
    rows = load("range-coder")["rows"]
    body = [[f"{x:,}" if isinstance(x, int) else x for x in row.values()] for row in rows]
    return table(list(rows[0]), body)


def pack_speed() -> str:
    found = [
        load(f"pack-speed-{preset}") for preset in ("fast", "best") if find(f"pack-speed-{preset}")
    ]
    text = []
    for result in found:
        rows = [(s["stage"], f"{s['wall_s']:.0f}", f"{s['cpu_s']:.0f}") for s in result["stages"]]
        rows.append(("all", f"{result['wall_s']:.0f}", f"{result['cpu_s']:.0f}"))
        text.append(
            f"`--preset {result['preset']}`, {result['weights']:,} weights, "
            f"{result['tokens']:,} calibration tokens, {result['threads']} threads: peak "
            f"memory {result['peak_MiB']:,} MiB, {result['unused']} bytes unused "
            f"({machine(result)}).\n\n" + table(("stage", "wall s", "CPU s"), rows)
        )
    return "\n\n".join(text)


def calibration() -> str:
    text, hessians = load("generate"), load("hessians")
    rows = [
        ("no cache, 64 × 2,048 (estimated)", f"{text['cacheless_64x2048_estimated_cpu_s']:,.0f}",
         f"{text['cacheless_tokens_per_cpu_s']:,.1f}")
    ] + [
        (f"cache, {r['sequences']} × {r['length']:,}, batch {r['batch']}", f"{r['cpu_s']:,.0f}",
         f"{r['tokens_per_cpu_s']:,.0f}")
        for r in text["cached"]
    ] + [
        (f"Hessians of {hessians['matrices']} matrices, {hessians['tokens']:,} tokens",
         f"{hessians['cpu_s']:,.0f}", f"{hessians['tokens_per_cpu_s']:,.0f}"),
        ("the forward of those alone", f"{hessians['forward_only_cpu_s']:,.0f}", ""),
    ]  # fmt: skip
    return (
        f"`{text['checkpoint']}`, one thread. Text the model writes, and the statistics of its "
        "matrices on it "
        f"({machine(hessians)}).\n\n" + table(("what", "CPU s", "tokens a CPU second"), rows)
    )


def scoring() -> str:
    result = load("scoring")
    rows = [
        (r["model"], f"{r['window_over_forward']:.2f}", f"{r['naive_over_sliding']:.2f}",
         f"{r['sliding_error']:.0e}")
        for r in result["rows"]
    ]  # fmt: skip
    return (
        f"CPU time, one thread; sliding by {result['stride']} at length {result['length']:,}. "
        "The second column is what scoring costs of the bare forward, the third how many "
        "times as long whole windows one by one take: below 1 the naive way is faster.\n\n"
        + table(("model", "window / forward", "naive / sliding", "relative difference"), rows)
    )


def prove() -> str:
    runs = [r for r in load("prove")["rows"] if "run" in r]
    damaged = [r for r in load("prove")["rows"] if "damage" in r]
    rows = [
        (r["run"], f"{r['text_bytes']:,}", f"{r['file_bytes']:,}", f"{r['overhead']:+.3%}",
         f"{r['file_bpb']:.4f}", f"{r['bpb_with_ends']:.4f}", f"{r['window_bpb']:.4f}",
         f"{r['tokens_per_second']['encode']:,.0f}", "yes" if r["identical"] else "no",
         r.get("measured_at", load("prove")["commit"]))
        for r in runs
    ]  # fmt: skip
    titles = ("run", "text bytes", "file", "over code length", "file, BPB", "computed", "plain windows",
              "tokens/s", "identical", "commit")  # fmt: skip
    refused = sum(r["exit"] == 1 for r in damaged)
    return (
        "Text of a FineWeb validation tail coded with the packed model and decoded by another "
        "process. Tokens a second of wallclock, on two cores that other work shared.\n\n"
        + table(titles, rows)
        + f"\n\nOf {len(damaged)} files damaged or given another artifact, {refused} are refused, "
        "with the cause."
    )


def train() -> str:
    result = load("train")
    rows = [
        (
            r["learner"],
            f"{r['loss']:.3f}",
            f"{r['loss_halfway']:.3f}",
            f"{r['tokens_per_cpu_second']:,}",
        )
        for r in result["rows"]
    ]
    return (
        f"{result['params']:,} weights, {result['steps']} steps of {result['batch_tokens']:,} "
        "tokens, one seed: nats a token over the last half of the steps and half-way. At "
        "half-way plain AdamW is ahead: the trainer's rates are those of longer runs.\n\n"
        + table(("learner", "loss", "half-way", "tokens a CPU second"), rows)
    )


def tiny() -> str:
    r = load("tiny")
    rows = [
        ("parameters", f"{r['params']:,}"),
        ("steps, tokens", f"{r['steps']:,}, {r['tokens_seen']:,}"),
        ("wallclock with compilation, s", f"{r['wall_seconds']:.0f}"),
        *(
            (f"of it {c['stage']}, s", f"{c['seconds']:.0f}")
            for c in r["clock"]
            if c["seconds"] >= 1
        ),
        (f"BPB on the first {r['score']['tokens']:,} targets", f"{r['score']['bpb']:.4f}"),
    ]
    return f"`squeeze train --preset tiny --compile`, {r['budget']}, one seed.\n\n" + table(
        ("what", ""), rows
    )


def whole() -> str:
    rows = [row for row in load("whole")["rows"] if "n" in row]
    return (
        "From one text to a scored file: the challenge's baseline (its architecture, start and rates, "
        "int8 and zlib, in the largest width that fits) against a larger model at fewer bits. The CPU "
        "seconds are of training and packing together, imports and compilation included; the bytes are "
        "of the artifact; bits per byte of the decoded file on the first targets of the validation "
        "tail.\n\n" + whole_table(rows)
    )


def code() -> str:
    rows = load("code")["rows"]
    ways = list(rows[0]["bytes"])
    body = [
        (
            r["source"],
            f"{r['raw']:,}",
            f"{r['minified']:,}",
            *(f"{r['bytes'][way]:,}" for way in ways),
        )
        for r in rows
    ]
    return (
        "Our own submission and modules of Python's standard library as one file that restores "
        "itself, bytes; every wrapper gets the same minified source.\n\n"
        + table(("source", "raw", "minified", *ways), body)
    )


def what_if() -> str:
    rows = load("what-if")["rows"][1:]  # the first is the pack that is asked
    body = [
        (f"`{r['plan']}`", f"{r['bytes']:,}", f"{r['foreseen_bytes']:,}",
         f"{100 * r['bytes_error']:+.2f} %", f"{r['delta_kl']:+.6f}", f"{r['foreseen_delta']:+.6f}",
         f"{100 * r['delta_error']:+.0f} %",
         spread(r["delta_bpb"], r["delta_bpb_error"], 5, sign=True))
        for r in rows
    ]  # fmt: skip
    titles = ("plan", "bytes", "foreseen", "error", "ΔKL", "foreseen", "error", "ΔBPB ± s.e.")
    return (
        "What `squeeze budget --what-if` foresaw, and what each of these packs then was; bits per "
        "byte of validation text.\n\n" + table(titles, body)
    )


def gpu_train() -> str:
    result = load("gpu-train")
    rows = [
        (r["preset"], "–" if r.get("recurrent") is None else "yes" if r["recurrent"] else "no",
         *((r["error"], None, None, None) if "error" in r else
           (f"{r['ms_per_step']:.1f}", f"{r['tokens_per_second']:,}", f"{100 * r['mfu']:.1f} %"
            if r["mfu"] else None, f"{r['peak_memory_gib']:.1f}")))
        for r in result["rows"]
    ]  # fmt: skip
    return f"{result['gpus']} × {result['gpu']}, CUDA {result['cuda']}, random tokens.\n\n" + table(
        ("preset", "recurrence", "ms a step", "tokens/s", "MFU", "peak GiB"), rows
    )


@dataclass(frozen=True)
class Section:
    """A question, the command that answers it, and the result whose head names machine and commit."""

    title: str
    command: str
    result: str
    body: Callable[[], str]


SECTIONS = (
    Section("Packing at the bytes of record recipes", "make bench-pack", "pack", partial(pack, "pack")),
    Section("The same on a small model", "make bench-pack", "pack-nolanvild",
            partial(pack, "pack-nolanvild")),
    Section("Packing at one to three bits a weight", "make bench-low-rates", "low-rates-tuned",
            low_rates),
    Section("Order of quantizers", "make bench-pack", "quantizer-order", quantizer_order),
    Section("Whole models", "make bench-models", "models", models),
    Section("Weights at equal error, and codes losslessly", "make bench-codec", "codec", equal_error),
    Section("Distance from the Shannon bound", "make bench-codec", "codec", shannon_gap),
    Section("Speed of quantizing and coding", "make bench-codec-speed", "codec-speed-8", codec_speed),
    Section("The range coder alone", "make bench-range-coder", "range-coder", range_coder),
    Section("Speed of packing", "make bench-pack-speed", "pack-speed-best", pack_speed),
    Section("Calibration", "make bench-calibration", "generate", calibration),
    Section("Scoring", "make bench-scoring", "scoring", scoring),
    Section("Foreseen and packed", "make bench-what-if", "what-if", what_if),
    Section("One file of code", "make bench-code", "code", code),
    Section("Proof by decoding", "make bench-prove", "prove", prove),
    Section("Training against AdamW", "make bench-train", "train", train),
    Section("From text to a scored file", "make bench-whole", "whole", whole),
    Section("Five minutes on a CPU", "make bench-tiny", "tiny", tiny),
    Section("A step on a GPU", "make bench-gpu-train", "gpu-train", gpu_train),
)  # fmt: skip
