"""Write docs/results.md, README's results and its picture from benchmarks/results/.

    python benchmarks/front_page.py [--check]

With --check nothing is written; exit 1 when README.md or docs/results.md differ from what the
results on disk give. So no number on the front page is typed.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from result_files import Result, find, load, machine, spread, table
from result_tables import INPUTS, SECTIONS
from whole_tables import beside

from squeeze.files import write_atomic
from squeeze.packing.presets import TARGETS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by benchmarks/front_page.py -->", "<!-- end of results -->"
CLAIM, CLAIMED = "<!-- claim: written by benchmarks/front_page.py -->", "<!-- end of claim -->"
PICTURE = "docs/pack.png"
OWN = "own submission"  # the row of benchmarks/code_size.py that is no module of Python's


def results_page() -> str:
    """docs/results.md: every table, headed by the command and the machine it comes from."""
    parts = [
        "# Results",
        "Written by `make results` from [benchmarks/results/](../benchmarks/results/), where "
        "each benchmark leaves what it measured; `make bench` measures everything and ends "
        "with this page. Bytes are bytes of files or streams that were decoded again. "
        "Machines were shared with other work: seconds are upper bounds, ratios within one "
        "run compare. Scores are of parts of FineWeb, **not** official val_bpb. What was "
        "tried and failed is in the [log](log.md).",
    ]
    for section in SECTIONS:
        path = find(section.result)
        if path is None:
            continue
        source = f"[{path.name}](../benchmarks/results/{path.name})"
        parts.append(f"## {section.title}")
        parts.append(f"`{section.command}`, {source}: {machine(load(section.result))}.")
        parts.append(section.body())
    return "\n\n".join(map(filled, "\n\n".join(parts).split("\n\n"))) + "\n"


def filled(paragraph: str) -> str:
    """Prose broken into lines; tables and headings as they are."""
    if paragraph.startswith(("|", "#")):
        return paragraph
    return textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False)


def packing() -> str:
    """Ours and the record's recipe at the record's bytes."""
    result = load("pack")
    rows = {(row["size"], row["what"]): row for row in result["summary"]}
    peers = [row for (_, what), row in rows.items() if what not in TARGETS]
    body = []
    for peer in sorted(peers, key=lambda row: -row["bytes"]):
        ours = [rows.get((peer["size"], name)) for name in ("best", "tuned")]
        kls = [
            (spread(r["kl"], r["kl_sd"], 5), f"{peer['kl'] / r['kl']:.0f}") if r else (None, None)
            for r in ours
        ]
        updates = ours[1]["updates"] if ours[1] else []
        gaps = [spread(r["gap"], r["gap_sd"], 5, sign=True) if r else None for r in (peer, *ours)]
        body.append(
            (
                peer["what"].replace("record-", "#"),
                peer["n"],
                f"{peer['bytes']:,.0f}",
                f"{peer['bits_per_weight']:.2f}",
                spread(peer["kl"], peer["kl_sd"], 5),
                *(cell for pair in kls for cell in pair),
                ", ".join(f"{number:,}" for number in updates) or None,
                *gaps,
            )
        )
    titles = (
        *("recipe", "n", "bytes", "bits", "its KL", "KL of `best`", "÷", "KL of `tuned`", "÷"),
        *("updates", "its gap", "gap of `best`", "gap of `tuned`"),
    )
    head = (
        "**Packing** at the bytes of a record's recipe: "
        f"{result['checkpoint'].removesuffix('.safetensors')}, commit {result['commit']}, all "
        f"calibrated on {result['calibration_tokens']:,} tokens, mean ± sd over n calibration seeds. "
        "KL(fp32 ‖ packed) and gap of the score, bits per byte; ÷: how many times less than its. Where "
        "sd exceeds a gap its sign says nothing, and n = 1 has no sd."
    )
    return f"{filled(head)}\n\n{table(titles, body)}"


def whole_way() -> str:
    """The baseline's way and ours from text to a scored file."""
    head = (
        "**The whole way**, from text to the score of the decoded file at the same CPU seconds of two "
        "cores and the same bytes: the challenge's baseline, trained and rounded to int8, and squeeze's "
        "larger model at fewer bits. Bits per byte, mean ± sd over n seeds; points that were not "
        "measured are not shown."
    )
    return f"{filled(head)}\n\n{beside(load('whole')['rows'])}"


def coders(name: str) -> dict[tuple[str, str], Result]:
    """Rows of one input at the error of int6, by quantizer and coder."""
    rows = [r for r in load("codec")["rows"] if r["input"] == name]
    return {
        (r["quantizer"], r["coder"]): r for r in rows if r["error"] is None or r["error"] < 0.02
    }


def others() -> Iterator[tuple[str, str, str, int, str]]:
    """Rows of the second table: question, ours, beside it, n, commit."""
    codec = load("codec")["commit"]
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
            codec,
        )
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
        codec,
    )
    rows = coders("gaussian")
    yield (
        "Independent Gaussian codes, where contexts know nothing: bytes",
        f"{rows['int6 k=12.85', 'squeeze context']['bytes']:,}",
        "histogram coder of constriction "
        f"{rows['int6 k=12.85', 'constriction, histogram']['bytes']:,} (**smaller**)",
        1,
        codec,
    )
    yield from wrapped_code()
    speed = load("codec-speed-8")
    r = speed["rows"][0]
    yield (
        f"{r['weights'] // 10**6}M weights, two cores: encode / decode",
        f"{r['encode_s']:.1f} s / {r['decode_s']:.1f} s",
        f"a weight, {r['encode_faster_than_brotli']:.0f} times as fast as brotli-11 / "
        f"{r['decode_faster_than_lrzip']:.0f} times as fast as lrzip",
        1,
        speed["commit"],
    )
    pack = load("pack-speed-best")
    yield (
        f"Packing {pack['weights'] / 1e6:.0f}M weights with `best`, two cores",
        f"{pack['wall_s']:.0f} s, {pack['peak_MiB'] / 1024:.1f} GiB",
        f"{pack['unused']} bytes of the limit unused",
        1,
        pack["commit"],
    )
    for row in load("models")["rows"]:
        if row["row"] == "reference-best":
            nearest, plain = (
                next(r for r in load("models")["rows"] if r["row"] == name)["bpb_mean"]
                for name in ("reference-nearest", "reference")
            )
            yield (
                f"Score of the reference checkpoint in {row['limit']:,} bytes (`best`)",
                f"{spread(row['bpb_mean'], row['bpb_sd'], 4)} BPB",
                f"rounded to nearest with brotli {nearest:.4f}; fp32 {plain:.4f}",
                row["n"],
                load("models")["commit"],
            )
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
    proof = load("prove")
    r = next(row for row in proof["rows"] if "run" in row)
    yield (
        f"Proof: {r['text_bytes']:,} bytes of text as a file, decoded again",
        f"{r['file_bytes']:,} bytes, {r['file_bpb']:.4f} BPB",
        f"{r['overhead']:+.3%} over the code length; {r['tokens_per_second']['encode']:.0f} "
        "tokens a second on a busy machine (**slow**)",
        1,
        r.get("measured_at", proof["commit"]),
    )
    scoring = load("scoring")
    ratios = [row["naive_over_sliding"] for row in scoring["rows"]]
    yield (
        "Sliding windows, speed over whole windows one by one",
        f"{min(ratios):.2f} to {max(ratios):.2f} times",
        f"{sum(ratio < 1.05 for ratio in ratios)} of {len(ratios)} models **gain nothing**",
        1,
        scoring["commit"],
    )
    train = load("train")
    ours, *_ = (row for row in train["rows"] if row["learner"] == "trainer")
    adam = min((row for row in train["rows"] if "AdamW" in row["learner"]), key=lambda x: x["loss"])
    yield (
        f"Training, {train['steps']} equal steps: nats a token (half-way)",
        f"{ours['loss']:.3f} ({ours['loss_halfway']:.3f})",
        f"AdamW at its best rate {adam['loss']:.3f} ({adam['loss_halfway']:.3f}: **ahead**)",
        1,
        train["commit"],
    )
    tiny = load("tiny")
    yield (
        f"`tiny` preset, {tiny['wall_seconds']:.0f} s on two cores with compilation",
        f"{tiny['score']['bpb']:.4f} BPB",
        f"first {tiny['score']['tokens']:,} targets of a FineWeb validation tail",
        1,
        tiny["commit"],
    )


def wrapped_code() -> Iterator[tuple[str, str, str, int, str]]:
    """Rows of the second table on one file of code: our own submission, then others' modules."""
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


def readme_block() -> str:
    """README's results, between its markers."""
    rest = table(("question", "squeeze", "beside it", "n", "commit"), others())
    return f"{BEGIN}\n\n{packing()}\n\n{whole_way()}\n\n**All else**:\n\n{rest}\n\n{END}"


def claim() -> str:
    """Sentence that README opens with: ours beside the record's recipe, at most seeds and bytes."""
    result = load("pack")
    rows = {(row["size"], row["what"]): row for row in result["summary"]}
    peers = [
        row for (size, what), row in rows.items() if what not in TARGETS and (size, "best") in rows
    ]
    peer = max(peers, key=lambda row: (row["n"], row["bytes"]))
    ours = rows[peer["size"], "best"]
    name = f"[record](docs/glossary.md#record) {peer['what'].replace('record-', '#')}"
    return (
        f"**At the same bytes, {peer['kl'] / ours['kl']:.0f} times less divergence.** Packed to the "
        f"{peer['bytes']:,.0f} bytes that the recipe of {name} needs, a model of 8.7M weights diverges "
        f"from its fp32 self by a [KL](docs/glossary.md#kl) of {spread(ours['kl'], ours['kl_sd'], 5)} "
        f"bits per byte; packed by that recipe, by {spread(peer['kl'], peer['kl_sd'], 5)}. Its score "
        f"changes by {spread(ours['gap'], ours['gap_sd'], 5, sign=True)}, with the recipe by "
        f"{spread(peer['gap'], peer['gap_sd'], 5, sign=True)} (mean ± sd over {peer['n']} calibration "
        "seeds; a model far below the challenge's scale)."
    )


def readme(text: str) -> str:
    """README with its claim and results replaced. Raises ValueError without the markers."""
    text = replaced(text, CLAIM, CLAIMED, f"{CLAIM}\n\n{filled(claim())}\n\n{CLAIMED}")
    return replaced(text, BEGIN, END, readme_block())


def replaced(text: str, begin: str, end: str, block: str) -> str:
    """Return text with a block in the place of what two markers enclose, markers included."""
    before, _, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_end:
        raise ValueError(f"README.md has no {begin!r} … {end!r}")
    return before + block + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="only say whether the pages are up to date"
    )
    check = parser.parse_args().check
    picture = find("pack")
    assert picture is not None  # load("pack") fails first
    pages = {
        "README.md": readme((ROOT / "README.md").read_text(encoding="utf-8")).encode(),
        "docs/results.md": results_page().encode(),
        PICTURE: picture.with_suffix(".png").read_bytes(),
    }
    stale = [
        name
        for name, data in pages.items()
        if not (ROOT / name).exists() or (ROOT / name).read_bytes() != data
    ]
    if check:
        sys.exit(f"not what the results give: {', '.join(stale)}; run make results" if stale else 0)
    for name in stale:
        write_atomic(ROOT / name, pages[name])
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
