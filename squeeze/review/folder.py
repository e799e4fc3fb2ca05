"""The files of a submission folder, as they lie there: claims, logs, card and script."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.submission import CARD, CLAIMS, CODE, MODELS, is_log, is_paper
from squeeze.outside import script as packed_script
from squeeze.outside.source import Source
from squeeze.review.claims import Claims, read_claims
from squeeze.review.logs import LoggedRun, distinct_runs, read_runs

MOST_FILES = 10_000
MOST_TEXT = 32 << 20  # bytes of one log, card or JSON file
MOST_STRING = 4096  # characters of a string that are searched for names of files
TOKENIZERS = {".model", ".vocab"}
MOST_LOGS = 64 << 20  # bytes of all logs


@dataclass(frozen=True)
class Script:
    """The script of a submission and the files that it names.

    name: relative to the folder
    size: bytes
    uses: bytes of other files that it, or what it imports, names; papers left out
    faults: sentences on a script that does not run as it lies there
    """

    name: str
    size: int
    uses: Mapping[str, int]
    faults: tuple[str, ...]

    @property
    def code(self) -> dict[str, int]:
        """Bytes of the script and of all that it uses but the model and tokenizers."""
        apart = TOKENIZERS | MODELS
        others = {n: size for n, size in self.uses.items() if PurePosixPath(n).suffix not in apart}
        return {self.name: self.size, **others}


@dataclass(frozen=True)
class Folder:
    """A submission folder, read. runs: each once; copies: names of logs that repeat another."""

    path: Path
    files: Mapping[str, int]
    claims: Claims | None
    card: str | None
    runs: tuple[LoggedRun, ...]
    copies: tuple[str, ...]
    script: Script | None

    @property
    def name(self) -> str:
        """Name of the folder itself."""
        return self.path.resolve().name

    @cached_property
    def models(self) -> dict[str, int]:
        """Bytes of the files that are models by their names; those that the script names, if any."""
        found = {n: s for n, s in self.files.items() if PurePosixPath(n).suffix in MODELS}
        used = found.keys() & (self.script.uses.keys() if self.script else ())
        return {name: size for name, size in found.items() if name in used or not used}

    @cached_property
    def is_record(self) -> bool:
        """False where the folder says that it is no record, or of the track without a time limit."""
        return is_record(self.path, self.claims)


def is_record(path: Path, claims: Claims | None) -> bool:
    """Return False for a folder whose claims or place say that it is no record, or has no time limit."""
    track = claims.text("track") if claims else ""
    said = f"{track} {path.resolve().parent.name}".lower().replace("-", "_")
    return "non_record" not in said and "unlimited" not in said


def read_folder(path: Path) -> Folder:
    """Read a folder, running nothing of it.

    Raises SqueezeError when it is no folder, or holds more files or text than a submission has.
    """
    if not path.is_dir():
        raise SqueezeError(f"{path}: cannot be reviewed", expected="a submission folder")
    files = list_files(path)
    logs = [name for name in files if is_log(name)]
    if sum(files[name] for name in logs) > MOST_LOGS:
        raise SqueezeError(f"{path}: too much text in logs", expected=f"≤ {MOST_LOGS} bytes")
    runs = [run for name in logs for run in read_runs(name, _text(path / name))]
    unique = distinct_runs(runs)
    copies = [run.log for run in runs if run.measured and all(run is not other for other in unique)]
    return Folder(
        path,
        files,
        read_folder_claims(path),
        _text(path / CARD) if CARD in files else None,
        tuple(unique),
        tuple(copies),
        read_script(path, files, {run.code for run in unique}),
    )


def list_files(folder: Path) -> dict[str, int]:
    """Return bytes by relative name of all files below a folder; links are left out."""
    files: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
        if len(files) > MOST_FILES:
            raise SqueezeError(f"{folder}: too many files", expected=f"≤ {MOST_FILES}")
    return dict(sorted(files.items()))


def read_script(folder: Path, files: Mapping[str, int], counted: set[int | None]) -> Script | None:
    """Return the script of a folder: train_gpt.py, or else the one most like it; None without any.

    counted: sizes of code in the logs, which tell several scripts apart.
    """
    scripts = [name for name in files if name.endswith(".py")]
    if not scripts:
        return None

    def likeness(name: str) -> tuple[bool, bool, bool, bool, int]:
        return bool(files[name]), name == CODE, files[name] in counted, "train" in name, files[name]

    main = max(scripts, key=likeness)
    return Script(main, files[main], _used_by(folder, main, files), _faults(folder, main, files))


def _faults(folder: Path, main: str, files: Mapping[str, int]) -> tuple[str, ...]:
    """Return sentences on a script that is empty or no Python."""
    empty = tuple(f"{name} is empty" for name in (CODE,) if files.get(name) == 0)
    if not files[main]:
        return empty or (f"{main} is empty",)
    data = read_file(folder / main, MOST_TEXT)
    broken = Source(data).tree is None
    if broken and (packed := _packed(data, main)) is not None:
        # an archive, which Python runs all the same
        broken = packed.code is not None and Source(packed.code).tree is None
    return (*empty, *((f"{main} does not parse as Python",) if broken else ()))


def _used_by(folder: Path, main: str, files: Mapping[str, int]) -> dict[str, int]:
    """Return bytes of the files that a script names, and those that they name; papers left out."""
    leaves = {PurePosixPath(name).name: name for name in files if not is_paper(name)}
    names, waiting = {main}, [main]
    while waiting:
        name = waiting.pop()
        if not name.endswith(".py"):
            continue
        source = _source(read_file(folder / name, MOST_TEXT), name)
        for leaf in _names_in(source, leaves.keys()):
            if leaves[leaf] not in names:
                names.add(leaves[leaf])
                waiting.append(leaves[leaf])
    return {name: files[name] for name in sorted(names - {main})}


def _source(data: bytes, name: str) -> Source:
    """Return the code of a script: what is inside where it extracts itself."""
    packed = _packed(data, name)
    return Source(data if packed is None or packed.code is None else packed.code)


@lru_cache(maxsize=1)  # a context-mixed payload takes seconds
def _packed(data: bytes, name: str) -> packed_script.Script | None:
    """Return the parts of a script that extracts itself, None of any other."""
    try:
        return packed_script.read(Source(data), name)
    except SqueezeError:
        return None


def _names_in(source: Source, leaves: Set[str]) -> set[str]:
    """Return those of `leaves`, names of files, that code imports as modules or spells in a string.

    Code of another Python than this one does not parse: its words are searched instead.
    """
    if source.tree is None:
        words = set(re.findall(r"[\w.-]+", source.text))
        return {leaf for leaf in leaves if leaf in words or leaf.removesuffix(".py") in words}
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names |= {f"{alias.name.rpartition('.')[2]}.py" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(f"{node.module.rpartition('.')[2]}.py")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {PurePosixPath(word).name for word in node.value[:MOST_STRING].split()}
    return names & leaves


def read_folder_claims(folder: Path) -> Claims | None:
    """Return the claims of submission.json, or of the first JSON file whose name begins like it."""
    files = [
        path.name for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()
    ]
    stem = CLAIMS.removesuffix(".json")
    names = [name for name in files if name.startswith(stem) and name.endswith(".json")]
    if not names:
        return None
    name = CLAIMS if CLAIMS in names else names[0]
    return read_claims(name, read_file(folder / name, MOST_TEXT))


def _text(path: Path) -> str:
    return read_file(path, MOST_TEXT).decode("utf-8", "replace")
