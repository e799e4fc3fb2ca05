"""Attribution: every byte of the files that ship goes to exactly one row.

Reads headers only, so it imports neither torch nor numba and takes milliseconds on a 16 MB artifact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from squeeze import codecs
from squeeze.artifact import container
from squeeze.artifact.facts import assumed_notes, assumed_of
from squeeze.artifact.roles import roles_of_file
from squeeze.files import of_file, read_file
from squeeze.ledger.files import Paths, Read, files_of, left_out
from squeeze.ledger.reached import reached_files
from squeeze.ledger.submission import CODE, is_paper, is_submission
from squeeze.ledger.table import Ledger
from squeeze.outside import registry
from squeeze.rows import Row, split_bytes
from squeeze.tensors.roles import layer_of

HEAD = 4096  # bytes of a file that tell text from weights
# Beginnings of pictures, of PDF, and of text in UTF-16, as Windows writes logs.
DOCUMENTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"%PDF", b"\xff\xfe", b"\xfe\xff")
BY_PRODUCTS = {".git", "__pycache__", ".DS_Store"}  # of tools, beside a model and never one
COMPONENTS = {".py": "code", ".model": "tokenizer", ".vocab": "tokenizer"}


def attribute_paths(paths: Paths, read: Read = read_file) -> Ledger:
    """Return the ledger of files and folders (all files below them).

    Files of others are taken apart as far as their format allows (`squeeze.outside`). read: gives a
    file's bytes. Raises SqueezeError for a file that cannot be read or is malformed.
    """
    paths = list(paths)
    rows: list[Row] = []
    sizes: dict[str, int] = {}
    models: list[str] = []
    notes = left_out(paths)
    for name, path in files_of(paths):
        data = read(path)
        sizes[name] = len(data)
        own, said = _rows_of(name, data)
        rows += own
        notes += said
        if _may_be_model(name, data, own):
            models.append(name)
    has_model = bool(models) or not any(Path(path).is_dir() for path in paths)
    ledger = Ledger(tuple(rows), sizes, tuple(notes), has_model, tuple(models))
    return _with_read_papers(ledger, dict(files_of(paths)), read)


def _with_read_papers(ledger: Ledger, paths: Mapping[str, Path], read: Read) -> Ledger:
    """Return the ledger of a submission with the papers that its script reads among what ships."""
    if not is_submission(ledger) or not ledger.papers:
        return ledger
    (main,) = [name for name in ledger.files if Path(name).name == CODE]
    reached = reached_files(main, ledger.files, lambda name: read(paths[name]))
    used = reached.files.keys() & ledger.papers
    rows = (replace(row, component="other") if row.file in used else row for row in ledger.rows)
    notes = [f"{name}: read by {CODE}, so it is no paper and counts" for name in sorted(used)]
    notes += [
        f"{name}: {CODE} may read it by a name that it puts together; it is taken for a paper"
        for name in sorted(reached.doubtful.keys() & ledger.papers)
    ]
    return replace(ledger, rows=tuple(rows), notes=(*ledger.notes, *notes))


def _rows_of(name: str, data: bytes) -> tuple[Sequence[Row], Sequence[str]]:
    """Return the rows of a file, and sentences on how it was read. Raises SqueezeError."""
    if data[:4] == container.MAGIC:
        with of_file(name):
            said = assumed_notes(assumed_of(container.parse(data).config))
            return artifact_rows(name, data), [f"{name}: {note}" for note in said]
    if is_paper(name) and _is_document(data):
        return [Row(name, "papers", "file", len(data))], ()
    outside = registry.read(name, data)
    if outside is not None:
        return outside.rows, outside.notes
    return [Row(name, COMPONENTS.get(Path(name).suffix, "other"), "file", len(data))], ()


def _may_be_model(name: str, data: bytes, rows: Sequence[Row]) -> bool:
    """Return whether a file holds weights, or is of no known format and no text."""
    if any(row.component == "weights" for row in rows):
        return True
    unknown = rows[0].component == "other" and is_binary(data)
    return unknown and not BY_PRODUCTS & set(Path(name).parts)


def _is_document(data: bytes) -> bool:
    """Return whether a file is what names of papers promise: text or a picture."""
    return data.startswith(DOCUMENTS) or not is_binary(data)


def is_binary(data: bytes) -> bool:
    """Return whether the beginning of a file is no text."""
    try:
        head = data[:HEAD].decode()
    except UnicodeDecodeError as error:
        return error.start < len(data[:HEAD]) - 3  # else a character is cut
    return "\0" in head


def artifact_rows(name: str, data: bytes) -> list[Row]:
    """Return the rows of one `.sqz` file; they sum to its size.

    Raises CorruptData or UnsupportedFormat for a malformed file.
    """
    parsed = container.parse(data)
    roles = roles_of_file(parsed.config, [tensor.name for tensor in parsed.tensors])
    rows = [
        Row(name, "container", "prologue", container.PROLOGUE_SIZE),
        Row(name, "container", "header", parsed.header_size),
    ]
    for stream in parsed.streams:
        shares = split_bytes(stream.size, stream.counts)
        for member, count, share in zip(stream.members, stream.counts, shares, strict=True):
            tensor = parsed.tensors[member].name
            rows.append(
                Row(
                    file=name,
                    component="weights",
                    kind=stream.kind,
                    bytes=share,
                    role=roles[tensor],
                    layer=layer_of(tensor),
                    tensor=tensor,
                    codec=codecs.name_of(stream.codec_id),
                    elements=count,
                    shared=len(stream.members) > 1,
                )
            )
    return rows
