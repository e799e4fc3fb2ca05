"""README.md of a submission: its score, its bytes, its training, and the commands that check it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from squeeze.ledger.table import Ledger
from squeeze.submit.plain import is_number, shown
from squeeze.views.totals import Totals
from squeeze.views.tree import Node, tree

Claims = Mapping[str, Any]


def card(claims: Claims, ledger: Ledger, totals: Totals) -> str:
    """Return the Markdown page; the same claims give the same bytes."""
    parts = [
        [f"# {shown(claims['name'])}", ""],
        [shown(claims["blurb"], 2000), ""] if claims["blurb"] else [],
        _score(claims),
        _bytes(claims, totals),
        _ledger(ledger, claims["limit"]),
        _clock(claims),
        _parents(claims),
        _people(claims),
        _run(claims),
        _hashes(claims),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    marks = ["---" if i == 0 else "---:" for i in range(len(titles))]
    lines = [titles, marks, *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines] + [""]


def _score(claims: Claims) -> Iterator[str]:
    score, seeds = claims["score"], claims["seeds"]
    kind = f"the official {score['official']} set" if score.get("official") else "not official"
    part = "part of the data" if score.get("partial") else "all of the data"
    yield "## Score"
    yield ""
    yield (
        f"**{claims['val_bpb']:.6f} bits per byte** ({claims['val_loss']:.6f} nats per token) of the "
        f"model that ships: mode {shown(score['mode'])}, {score['tokens']:,} targets, "
        f"{score['bytes']:,} bytes of text, {part}, {kind}."
    )
    yield ""
    rows = [
        [
            "—" if row["seed"] is None else row["seed"],
            f"{row['val_bpb']:.6f}",
            f"{row['val_loss']:.6f}",
            "ships" if row["model"] == claims["sha256"]["model"] else "",
        ]
        for row in seeds
    ]
    if "val_bpb_mean" in claims:
        sd = claims["val_bpb_std"]
        rows.append(["mean", f"{claims['val_bpb_mean']:.6f}", f"{claims['val_loss_mean']:.6f}", ""])
        rows.append(["standard deviation", f"{sd:.6f}", f"{claims['val_loss_std']:.6f}", ""])
    yield from _table(["seed", "val_bpb", "val_loss", ""], rows)


def _bytes(claims: Claims, totals: Totals) -> Iterator[str]:
    limit = claims["limit"]
    yield "## Bytes"
    yield ""
    rows = [
        [
            name,
            "unknown" if total.bytes is None else f"{total.bytes:,}",
            total.verdict(limit),
            shown(total.counted, 200),
        ]
        for name, total in totals.named().items()
    ]
    yield from _table(["count", "bytes", f"limit {limit:,}", "of"], rows)
    yield f"The limit is held against *shipped*. {shown(totals.difference, 400)}."
    yield ""


def _ledger(ledger: Ledger, limit: int) -> Iterator[str]:
    rows = [
        [
            "&nbsp;" * 4 * level + shown(node.name),
            f"{node.bytes:,}",
            f"{100 * node.bytes / limit:.2f}",
            "" if node.bits is None else f"{node.bits:.3f}",
        ]
        for level, node in _nodes(tree(ledger), 2)
    ]
    yield from _table(["", "bytes", "% of limit", "bits per weight"], rows)


def _nodes(node: Node, depth: int, level: int = 0) -> Iterator[tuple[int, Node]]:
    yield level, node
    if depth:
        for child in node.children:
            yield from _nodes(child, depth - 1, level + 1)


def _clock(claims: Claims) -> Iterator[str]:
    if "clock" not in claims:
        return
    yield "## Clock"
    yield ""
    rows = [
        [shown(row["stage"]), f"{row['seconds']:.1f}", "inside" if row["inside"] else "outside"]
        for row in claims["clock"]
    ]
    rows.append(["**inside the budget**", f"{claims['training_seconds']:.1f}", ""])
    yield from _table(["stage", "seconds", "budget"], rows)


def _parents(claims: Claims) -> Iterator[str]:
    for parent in claims["parents"]:
        name = shown(parent.get("name", parent["source"]))
        by = f" by {shown(parent['author'])}" if "author" in parent else ""
        yield f"## Changed since {name}{by}"
        yield ""
        if is_number(parent.get("val_bpb")) and abs(parent["val_bpb"]) < 1e6:
            change = claims["val_bpb"] - parent["val_bpb"]
            yield f"val_bpb {parent['val_bpb']:.6f} → {claims['val_bpb']:.6f} ({change:+.6f})."
            yield ""
        changed = parent.get("changed")
        if changed is None:
            yield "Its papers do not tell its configuration."
            yield ""
        elif not changed:
            yield "No setting differs."
            yield ""
        else:
            rows = [[shown(key), _value(old), _value(new)] for key, (old, new) in changed.items()]
            yield from _table(["setting", "parent", "here"], rows)


def _value(value: object) -> str:
    return "—" if value is None else shown(value, 60)


def _people(claims: Claims) -> Iterator[str]:
    yield "## Authors"
    yield ""
    yield ", ".join(shown(name) for name in claims["authors"]) + f" ({shown(claims['github_id'])})"
    yield ""
    if claims["assistance"]:
        yield "Assistance: " + "; ".join(shown(text, 500) for text in claims["assistance"]) + "."
        yield ""


def _run(claims: Claims) -> Iterator[str]:
    yield "## Run it"
    yield ""
    yield "```sh"
    yield "pip install -r requirements.txt"
    for way in ("evaluate", "scorer"):
        if way in claims:
            yield " ".join(claims[way]) + (
                "" if way == "evaluate" else "  # speaks squeeze's protocol"
            )
    yield "sha256sum -c SHA256SUMS"
    yield "squeeze audit . --tokenizer TOKENIZER --val SHARD"
    yield "```"
    yield ""


def _hashes(claims: Claims) -> Iterator[str]:
    yield "## SHA-256"
    yield ""
    rows = [
        [name, "<br>".join(value) if isinstance(value, list) else value]
        for name, value in claims["sha256"].items()
        if value
    ]
    yield from _table(["of", ""], rows)
    yield f"Written by squeeze {claims['squeeze']}."
