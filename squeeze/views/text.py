"""The tree in a terminal or a CI log: indented names, figures on the right, one verdict line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from squeeze.errors import printable
from squeeze.ledger.gate import NO_MODEL
from squeeze.ledger.table import Ledger
from squeeze.views.compare import Change
from squeeze.views.console import PlainConsole
from squeeze.views.scores import Scores
from squeeze.views.totals import Totals
from squeeze.views.tree import Node, tree
from squeeze.views.what_if import WhatIf

PADDING = 2  # characters between two columns
LEAST_NAME = 12  # characters of a name, however narrow a terminal is
WIDE = 120  # columns of a terminal that has room for bars
BAR = 24  # characters of the longest bar
MOST = 24  # rows below one: the largest are shown, a script has hundreds of definitions
STYLES = {
    "weights": "cyan",
    "container": "magenta",
    "code": "green",
    "tokenizer": "yellow",
    "papers": "dim",
}


def print_tree(root: Node, limit: int, depth: int) -> None:
    """Print nodes down to `depth` levels below the total. Columns without any figure are left out."""
    rows = list(_lines(root, depth))
    columns = {
        "bytes": lambda n: f"{_about(n)}{n.bytes:,}",
        "% limit": lambda n: f"{100 * n.bytes / limit:.2f}",
        "bits/w": _bits,
        "floor": lambda n: "" if n.floor is None else f"{n.floor:,.0f}",
        "waste": lambda n: "" if n.waste is None else f"{n.waste:+,.0f}",
        "B/mBPB": lambda n: "" if n.price is None else f"{n.price:,.0f}",
    }
    every = {title: [figure(node) for _, node, _ in rows] for title, figure in columns.items()}
    shown = {title: figures for title, figures in every.items() if any(figures)}
    if PlainConsole().width >= WIDE:
        largest = max((node.bytes for level, node, _ in rows if level), default=1)
        shown[""] = [_bar(node.bytes / max(largest, 1)) if level else "" for level, node, _ in rows]
    table = _table([[title, *cells] for title, cells in shown.items()])
    room = room_for_names([title, *figures] for title, figures in shown.items())
    for index, (level, node, component) in enumerate(rows):
        text = shortened(printable(node.name), room - 2 * level)
        name = Text("  " * level + text, style=STYLES.get(component, ""))
        table.add_row(name, *(figures[index] for figures in shown.values()), end_section=level == 0)
    PlainConsole().print(table)
    if any(node.estimated for _, node, _ in rows):
        PlainConsole().print(
            "≈ shares of a compressed stream: estimates, of which only the sums are measured"
        )


def _about(node: Node) -> str:
    return "≈" if node.estimated else ""


def _bits(node: Node) -> str:
    """Return bits a weight, fewer digits of an estimate."""
    if node.bits is None:
        return ""
    return f"≈{node.bits:.2f}" if node.estimated else f"{node.bits:.3f}"


def _bar(share: float) -> str:
    """Return a bar of BAR characters at most, in eighths of one."""
    eighths = round(8 * BAR * share)
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()).ljust(BAR)


def room_for_names(columns: Iterable[Sequence[str]]) -> int:
    """Return the characters that columns of figures leave for the names before them."""
    taken = sum(max(map(len, cells)) + PADDING for cells in columns)
    return PlainConsole().width - taken - PADDING


def shortened(name: str, room: int) -> str:
    """Return a name, its beginning cut where it is longer than `room` characters: files end paths."""
    return name if len(name) <= max(room, LEAST_NAME) else f"…{name[1 - max(room, LEAST_NAME) :]}"


def print_ledger(ledger: Ledger, limit: int) -> None:
    """Print two levels of the tree and the verdict, as commands show what they wrote."""
    print_tree(tree(ledger), limit, depth=2)
    PlainConsole().print()
    PlainConsole().print(verdict(ledger, limit))


def _table(columns: Iterable[Sequence[str]]) -> Table:
    """Return an empty table with names on the left and columns of figures.

    columns: title and figures of each, which no narrow terminal takes away
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for title, *cells in columns:
        width = max(map(len, [title, *cells]))
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    return table


def _lines(
    node: Node, depth: int, level: int = 0, component: str = ""
) -> list[tuple[int, Node, str]]:
    lines = [(level, node, component)]
    if depth > 0:
        for child in folded(node.children):
            lines += _lines(child, depth - 1, level + 1, component or child.name)
    return lines


def folded(children: Sequence[Node]) -> list[Node]:
    """Return the MOST largest, in their order, and one node for the rest."""
    if len(children) <= MOST + 1:
        return list(children)
    smallest = sorted(children, key=lambda child: child.bytes)[:-MOST]
    rest = {id(child) for child in smallest}
    weights, weight_bytes = sum(c.weights for c in smallest), sum(c.weight_bytes for c in smallest)
    floors = [child.floor for child in smallest]
    floor = None if None in floors else sum(floor for floor in floors if floor is not None)
    more = Node(
        name=f"… {len(smallest)} more",
        bytes=sum(child.bytes for child in smallest),
        weights=weights,
        weight_bytes=weight_bytes,
        floor=floor,
    )
    return [child for child in children if id(child) not in rest] + [more]


def verdict(ledger: Ledger, limit: int, totals: Totals | None = None) -> str:
    """Return one line: weights, bits per weight, unattributed bytes, and what is left of the limit.

    totals: of a submission, whose papers do not count.
    """
    size = ledger.total if totals is None else totals.shipped_bytes
    if not ledger.has_model:
        return f"{NO_MODEL}; {size:,} bytes of other files, unattributed {ledger.unattributed}"
    density = "no weights told apart"
    if ledger.weights:
        density = f"{ledger.weights:,} weights at {ledger.bits_per_weight():.3f} bits"
    return f"{density}; unattributed {ledger.unattributed}; {_room(size, limit)}"


def _room(size: int, limit: int) -> str:
    unused = limit - size
    return f"{unused:,} of {limit:,} unused" if unused >= 0 else f"OVER {limit:,} by {-unused:,}"


def print_totals(totals: Totals, limit: int) -> None:
    """Print the three counts of a submission, each with its verdict, and why they differ."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for name, total in totals.named().items():
        size = "?" if total.bytes is None else f"{total.bytes:,}"
        style = "bold" if name == "shipped" else "dim"
        room = total.verdict(limit) if totals.has_model else "no model"
        table.add_row(name, size, room, total.counted, style=style)
    PlainConsole().print(table)
    PlainConsole().print(totals.difference)
    if totals.papers:
        PlainConsole().print(
            f"not counted: {sum(totals.papers.values()):,} bytes of papers, {', '.join(totals.papers)}"
        )


def print_changes(
    changes: list[Change], before: Ledger, after: Ledger, scores: Scores | None = None
) -> None:
    """Print a table of changed groups, then the totals and what is known of the scores."""
    rows = [
        (f"{change.before:,}", f"{change.after:,}", f"{change.delta:+,}", change.what)
        for change in changes
    ]
    columns = list(zip(("before", "after", "change", ""), *rows, strict=True))
    table, room = _table(columns), room_for_names(columns)
    for change, figures in zip(changes, rows, strict=True):
        if change.delta:
            style = "red" if change.delta > 0 else "green"
            table.add_row(shortened(printable(change.name), room), *figures, style=style)
    PlainConsole().print(table)
    if any(node.estimated for ledger in (before, after) for node in tree(ledger).children):
        PlainConsole().print(
            "groups of compressed streams are estimates, of which only the sums are measured"
        )
    delta = after.total - before.total
    same = sum(not change.delta for change in changes)
    PlainConsole().print(
        f"{before.total:,} → {after.total:,} bytes ({delta:+,}); "
        f"{same} group{'' if same == 1 else 's'} unchanged"
    )
    if scores is not None and (scores.before or scores.after):
        old, new = (f"{s.bpb:.6f}" if s else "unknown" for s in (scores.before, scores.after))
        more = "" if scores.delta is None else f" ({scores.delta:+.6f})"
        PlainConsole().print(f"{old} → {new} bits per byte{more}")


def print_what_if(foreseen: WhatIf, limit: int) -> None:
    """Print the tensors under other bits, then the file and the score."""
    plan, size = foreseen.plan, foreseen.size
    rows = []
    for t in foreseen.tensors:
        bits = f"{t.bits[0]:.3f}", f"{t.bits[1]:.3f}"
        sizes = f"{t.bytes[0]:,}", f"{t.bytes[1]:,}"
        rows.append((*bits, *sizes, f"{plan.in_bits(t.loss[1] - t.loss[0]):+.6f}"))
    titles = "bits/w", "→", "bytes", "→", f"cost, {plan.unit}"
    columns = list(zip(titles, *rows, strict=True))
    table, room = _table(columns), room_for_names(columns)
    for t, figures in zip(foreseen.tensors, rows, strict=True):
        table.add_row(shortened(printable(t.name), room), *figures)
    PlainConsole().print(table)
    before, after = foreseen.cost
    change = f"{plan.size:,} → {size:,} bytes ({size - plan.size:+,})"
    PlainConsole().print(f"{change}; {_room(size, limit)}")
    tokens = f"; measured on {plan.measured_tokens:,} tokens" if plan.measured_tokens else ""
    PlainConsole().print(
        f"cost {before:z.6f} → {after:z.6f} {plan.unit} ({after - before:+.6f}){tokens}"
    )
