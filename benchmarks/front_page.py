"""Write docs/results.md, README's results and its picture from benchmarks/results/.

    python benchmarks/front_page.py [--check]

With --check nothing is written; exit 1 when README.md or docs/results.md differ from what the
results on disk give. So no number on the front page is typed.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from front_rows import all_rows
from result_files import find, load, machine, spread, table
from result_tables import SECTIONS
from whole_tables import beside

from squeeze.files import write_atomic
from squeeze.packing.presets import TARGETS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by benchmarks/front_page.py -->", "<!-- end of results -->"
CLAIM, CLAIMED = "<!-- claim: written by benchmarks/front_page.py -->", "<!-- end of claim -->"
PICTURE = "docs/pack.png"


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


def readme_block() -> str:
    """README's results, between its markers."""
    rest = table(("question", "squeeze", "beside it", "n", "commit"), all_rows())
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
