"""Names of the code in a ledger: by original module and definition, from the report of a bundle.

A minified file tells its own names only. `squeeze bundle --json` knows the original ones, and
`squeeze submit` leaves them in `code.csv` beside the file: a paper, so it ships no bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path, PurePath
from typing import Any

from squeeze.bundle.cost import Part
from squeeze.errors import SqueezeError
from squeeze.files import parse_json, read_file
from squeeze.ledger.submission import CODE
from squeeze.ledger.table import Ledger
from squeeze.rows import Row, split_bytes

TABLE = "code.csv"
COLUMNS = tuple(field.name for field in fields(Part))
MAX_REPORT = 16 << 20  # bytes
KINDS = ("payload", "source")  # rows that hold code, not what surrounds it


def parts_csv(parts: Iterable[Part]) -> str:
    """Return the table that `read_parts` reads: module, name, bytes, chars."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(part) for part in parts)
    return text.getvalue()


def read_parts(path: Path) -> tuple[Part, ...]:
    """Read the parts of a bundle: `code.csv`, or the JSON of `squeeze bundle`.

    Raises SqueezeError for anything else.
    """
    data = read_file(path, MAX_REPORT)
    try:
        if path.suffix == ".csv":
            table: Iterable[dict[str, Any]] = csv.DictReader(io.StringIO(data.decode()))
        else:
            table = parse_json(data, str(path))["parts"]
        parts = tuple(
            Part(str(row["module"]), str(row["name"]), int(row["bytes"]), int(row["chars"]))
            for row in table
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, csv.Error) as error:
        raise SqueezeError(
            f"{path}: not the report of a bundle",
            expected=f"squeeze bundle --json, or {TABLE}",
            found=repr(error)[:200],
        ) from None
    if any(part.bytes < 0 or part.chars < 0 for part in parts):
        raise SqueezeError(f"{path}: not the report of a bundle", found="sizes below zero")
    return parts


def named(result: Ledger, parts: Sequence[Part], source: str) -> Ledger:
    """Return the ledger with the code of one file split by the parts of its bundle.

    Raises SqueezeError when no script has the size of these parts: they are another file's.
    """
    size = sum(part.bytes for part in parts)
    code = {row.file for row in result.rows if row.component == "code" and row.kind in KINDS}
    of_size = [name for name in code if result.files[name] == size]
    if not of_size or not parts:
        raise SqueezeError(
            f"{source}: of another file",
            expected=" or ".join(f"{result.files[name]:,} bytes ({name})" for name in sorted(code))
            or "a script among the files",
            found=f"{size:,}",
            fix="Bundle again, or leave it out.",
        )
    file = min(of_size, key=lambda name: (PurePath(name).name != CODE, name))
    old = [row for row in result.rows if row.file == file and row.kind in KINDS]
    plain = old[0].kind == "source"
    shares = split_bytes(
        sum(row.bytes for row in old), [part.chars if plain else part.bytes for part in parts]
    )
    new = [
        replace(old[0], bytes=share, role=part.module, tensor=part.name, elements=part.chars)
        for part, share in zip(parts, shares, strict=True)
    ]
    rows: list[Row] = []
    for row in result.rows:
        if row == old[0]:
            rows += new
        elif row not in old:
            rows.append(row)
    return replace(result, rows=tuple(rows))


def with_names(result: Ledger, paths: Iterable[str | Path], report: Path | None) -> Ledger:
    """Return the ledger with original names, from the report given or a `code.csv` beside the script.

    A table that lies there and is of another file is not used, and a note says so.
    """
    if report is not None:
        return named(result, read_parts(report), str(report))
    for table in (Path(path) / TABLE for path in paths):
        if not table.is_file() or table.is_symlink():
            continue
        try:
            result = named(result, read_parts(table), str(table))
        except SqueezeError as error:
            result = replace(result, notes=(*result.notes, f"{error} Names are the minified ones."))
    return result
