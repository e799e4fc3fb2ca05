"""The files of a submission folder, as they lie there: claims, logs, card and script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.reached import reached_files, unpacked
from squeeze.ledger.submission import CARD, CLAIMS, CODE, MODELS, is_log
from squeeze.outside.source import Source
from squeeze.review.claimed import ClaimedRuns, claimed_runs, with_training
from squeeze.review.claims import Claims, read_claims
from squeeze.review.logs import LoggedRun, distinct_runs, read_runs
from squeeze.review.values import MOST_TEXT, decode_text

MOST_FILES = 10_000
TOKENIZERS = {".model", ".vocab"}
MOST_LOGS = 64 << 20  # bytes of all logs


@dataclass(frozen=True)
class Script:
    """The script of a submission and the files that it names.

    name: relative to the folder
    size: bytes
    uses: bytes of other files that it, or what it imports, names; of papers those that it reads
    doubtful: bytes of files that fit a name which it puts together when it runs, and are in no count
    faults: sentences on a script that does not run as it lies there
    """

    name: str
    size: int
    uses: Mapping[str, int]
    doubtful: Mapping[str, int]
    faults: tuple[str, ...]

    @property
    def code(self) -> dict[str, int]:
        """Bytes of the script and of all that it uses but the model and tokenizers."""
        apart = TOKENIZERS | MODELS
        others = {n: size for n, size in self.uses.items() if PurePosixPath(n).suffix not in apart}
        return {self.name: self.size, **others}


@dataclass(frozen=True)
class Folder:
    """A submission folder, read.

    runs: each once
    claimed: those that the stated score is made of
    copies: names of logs that repeat another
    """

    path: Path
    files: Mapping[str, int]
    claims: Claims | None
    card: str | None
    runs: tuple[LoggedRun, ...]
    claimed: ClaimedRuns
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
    def trained(self) -> list[LoggedRun]:
        """The claimed runs, and for those that only evaluate the runs that trained their seeds."""
        return with_training(self.claimed.runs, self.runs)

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
    _check_one(path, files)
    logs = [name for name in files if is_log(name)]
    if sum(files[name] for name in logs) > MOST_LOGS:
        raise SqueezeError(f"{path}: too much text in logs", expected=f"≤ {MOST_LOGS} bytes")
    runs = [run for name in logs for run in read_runs(name, _text(path / name))]
    unique = distinct_runs(runs)
    copies = [run.log for run in runs if run.measured and all(run is not other for other in unique)]
    claims = read_folder_claims(path)
    claimed = claimed_runs(claims, unique)
    if (
        claimed.kind == "none"
    ):  # where no score with its loss is the stated one, those without count
        with_bits = [replace(run, scores=(*run.scores, *run.bits), bits=()) for run in unique]
        by_bits = claimed_runs(claims, with_bits)
        if by_bits.kind != "none" or not any(run.scores for run in unique):
            unique, claimed = with_bits, by_bits
    counted = {run.code for run in with_training(claimed.runs, unique)}
    return Folder(
        path,
        files,
        claims,
        _text(path / CARD) if CARD in files else None,
        tuple(unique),
        claimed,
        tuple(copies),
        read_script(path, files, counted),
    )


def _check_one(path: Path, files: Mapping[str, int]) -> None:
    """Raise SqueezeError for a folder of submissions: claims lie in several below it, and none in it."""
    claimed = [PurePosixPath(name).parent for name in files if PurePosixPath(name).name == CLAIMS]
    if len(claimed) > 1 and PurePosixPath() not in claimed:
        raise SqueezeError(
            f"{path}: cannot be reviewed",
            expected="one submission",
            found=f"{len(claimed)} folders with a {CLAIMS}",
            fix=f"Name one of them, such as {path / claimed[0]}.",
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
    """Return the script that the stated runs counted, else train_gpt.py, else the one most like it.

    A train_gpt.py that reaches the counted one is the script all the same. None without any script.

    counted: sizes of code in the logs of the stated runs, which tell several scripts apart.
    """
    scripts = [name for name in files if name.endswith(".py")]
    if not scripts:
        return None

    def likeness(name: str) -> tuple[bool, bool, bool, bool, int]:
        return bool(files[name]), files[name] in counted, name == CODE, "train" in name, files[name]

    def read(name: str) -> bytes:
        return read_file(folder / name, MOST_TEXT)

    main = max(scripts, key=likeness)
    reached = reached_files(main, files, read)
    if main != CODE and files.get(CODE):
        from_code = reached_files(CODE, files, read)
        main, reached = (CODE, from_code) if main in from_code.files else (main, reached)
    faults = _faults(folder, main, files)
    return Script(main, files[main], reached.files, reached.doubtful, faults)


def _faults(folder: Path, main: str, files: Mapping[str, int]) -> tuple[str, ...]:
    """Return sentences on a script that is empty or no Python."""
    empty = tuple(f"{name} is empty" for name in (CODE,) if files.get(name) == 0)
    if not files[main]:
        return empty or (f"{main} is empty",)
    data = read_file(folder / main, MOST_TEXT)
    broken = Source(data).tree is None
    if broken and (packed := unpacked(data, main)) is not None:
        # an archive, which Python runs all the same
        broken = packed.code is not None and Source(packed.code).tree is None
    return (*empty, *((f"{main} does not parse as Python",) if broken else ()))


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
    return decode_text(read_file(path, MOST_TEXT))
