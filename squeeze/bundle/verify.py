"""A bundle beside its original: the same arguments, the same environment, and what each of them leaves.

Both run in clean folders of their own, the original with the modules it uses. Compared are standard
output, standard error but for tracebacks and places of warnings, the exit code, and the files written.
Two numbers may differ by as much as the scripts do in size, those before kB or MB once rounded, and the
hashes of the scripts may: programs state what they ship. What differs between two runs of the original
itself, such as times, is no difference of the bundle.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from squeeze.bundle.load.modules import BundleError

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
TRACEBACK = "Traceback (most recent call last):"
WARNING = re.compile(r".+:\d+: (\w*Warning: .*)")  # of Python's own: file, line, and a line of it
SPELLING = "SyntaxWarning: "  # of the compiler, about how a file is written and not what it does
SHOWN = 3  # differences in a message
ROUNDED = ("kb", "ki", "mb", "mi")  # beginnings of units of sizes, and their bytes
UNITS = (1e3, 1e6, 1024.0, 1048576.0)


@dataclass(frozen=True)
class Check:
    """Terms on which a bundle is compared with its original.

    arguments: of both programs
    tolerance: relative difference that two numbers may have
    timeout: seconds that each run may take; None for no limit
    beside: files that lie beside both scripts, by name
    """

    arguments: tuple[str, ...] = ()
    tolerance: float = 0.0
    timeout: float | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Traces that one run of a program left.

    texts: standard output, standard error without tracebacks, and the files written that hold text.
    blobs: other files written. size: bytes of the script.
    """

    exit_code: int
    texts: Mapping[str, str]
    blobs: Mapping[str, bytes]
    size: int


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison: how the original ended, and one line for each difference.

    last_line: of its standard error
    """

    exit_code: int
    last_line: str = ""
    differences: tuple[str, ...] = field(default=())

    def check(self) -> None:
        """Raise BundleError if there were differences."""
        if self.differences:
            more = len(self.differences) - SHOWN
            lines = [*self.differences[:SHOWN], *([f"{more} more"] if more > 0 else [])]
            raise BundleError(
                "the bundle does not do what its original does",
                found="; ".join(lines),
                fix="Run both to see it. Numbers that may differ: --tolerance.",
            )


def verify(sources: Mapping[str, Path], entry: str, shipped: bytes, check: Check) -> Verdict:
    """Run an original and its bundle, and compare them.

    sources: files of the original by their path in its folder; entry: the path of the script among them
    """
    originals = {name: path.read_bytes() for name, path in sources.items()}
    before = run_once(originals, entry, check)
    after = run_once({entry: shipped}, entry, check)
    lines = differences(before, after, check.tolerance)
    if lines:
        again = run_once(originals, entry, check)
        lines = differences(before, after, check.tolerance, again)
    last = before.texts["standard error"].strip().rpartition("\n")[2]
    return Verdict(before.exit_code, last, tuple(lines))


def run_once(files: Mapping[str, bytes], entry: str, check: Check) -> Outcome:
    """Run a script in a clean folder that holds these files, and return what it left.

    Raises BundleError if it does not end in time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        files = {**files, **check.beside}
        for name, data in files.items():
            target = folder / "code" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        work = folder / "work"
        work.mkdir()
        command = [sys.executable, "-B", str(folder / "code" / entry), *check.arguments]
        try:
            done = subprocess.run(
                command,
                cwd=work,
                capture_output=True,
                timeout=check.timeout,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise BundleError(
                f"{entry} did not end in time", expected=f"≤ {check.timeout:g} s"
            ) from None
        digest = hashlib.sha256(files[entry]).hexdigest()

        def settled(data: bytes, errors: str = "replace") -> str:
            """Return a text without the names of the scratch folder and the script's own hash."""
            text = data.decode(errors=errors).replace(str(folder), "<folder>")
            return text.replace(digest, "<sha256 of the script>")

        texts = {
            "standard output": settled(done.stdout),
            "standard error": _without_places(settled(done.stderr)),
        }
        blobs = {}
        for path in sorted(folder.rglob("*")):
            at = path.relative_to(folder).as_posix()
            known = files.get(at.removeprefix("code/")) if at.startswith("code/") else None
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            data = path.read_bytes()
            if data == known:
                continue
            try:
                texts[at] = settled(data, "strict")
            except UnicodeDecodeError:
                blobs[at] = data
        return Outcome(done.returncode, texts, blobs, len(files[entry]))


def _without_places(text: str) -> str:
    """Return standard error without what is about the source: frames, places of warnings, spelling."""
    lines, inside = [], False
    for line in text.splitlines():
        bare = line.lstrip(" |+-")
        if bare == TRACEBACK or bare == "Exception Group Traceback (most recent call last):":
            inside = True
        elif inside and (line.startswith((" ", "\t")) or not line):
            continue
        else:
            warned = WARNING.match(line)
            inside = warned is not None  # its line of the source follows
            said = line if warned is None else warned[1]
            if warned is None or not said.startswith(SPELLING):
                lines.append(said)
    return "\n".join(lines)


def differences(
    before: Outcome, after: Outcome, tolerance: float = 0.0, again: Outcome | None = None
) -> list[str]:
    """Return a line for each difference.

    again: another run of the original; what changes from run to run does not count.
    """
    lines = []
    if before.exit_code != after.exit_code:
        lines.append(f"exit code {before.exit_code}, then {after.exit_code}")
    growth = before.size - after.size
    unstable = set[str]()
    if again is not None:
        unstable = (set(before.texts) | set(before.blobs)) ^ (set(again.texts) | set(again.blobs))
    for name in sorted({*before.texts, *after.texts, *before.blobs, *after.blobs} - unstable):
        if name in before.texts and name in after.texts:
            third = again.texts.get(name) if again is not None else None
            compared = _Texts(before.texts[name], after.texts[name], third, tolerance, growth)
            lines += [f"{name}: {line}" for line in compared.differences()]
        elif name in before.blobs and name in after.blobs:
            stable = again is None or again.blobs.get(name) == before.blobs[name]
            if stable and before.blobs[name] != after.blobs[name]:
                lines.append(f"{name}: other bytes")
        else:
            where = "original" if name in {*before.texts, *before.blobs} else "bundle"
            lines.append(f"{name}: only the {where} writes it so")
    return lines


@dataclass(frozen=True)
class _Texts:
    """Two texts to compare, and a third that shows what of the first changes from run to run."""

    before: str
    after: str
    again: str | None
    tolerance: float
    growth: int

    def differences(self) -> list[str]:
        third = self.again.splitlines() if self.again is not None else []
        pairs = zip_longest(self.before.splitlines(), self.after.splitlines())
        lines = []
        for number, (old, new) in enumerate(pairs, start=1):
            changing = third[number - 1] if number <= len(third) else None
            if not self._same(old, new, changing):
                lines.append(f"line {number}: {_short(old)} became {_short(new)}")
        return lines

    def _same(self, old: str | None, new: str | None, changing: str | None) -> bool:
        if old == new:
            return True
        if old is None or new is None or NUMBER.sub("0", old) != NUMBER.sub("0", new):
            return changing is not None and old is not None and changing != old and new is not None
        numbers = zip(NUMBER.finditer(old), NUMBER.findall(new), strict=True)
        others = NUMBER.findall(changing) if changing is not None else []
        return all(
            self._near(match[0], other, old[match.end() :].lstrip()[:2].lower() in ROUNDED)
            or (at < len(others) and others[at] != match[0])
            for at, (match, other) in enumerate(numbers)
        )

    def _near(self, old: str, new: str, rounded: bool) -> bool:
        """Return whether two numbers count as the same. rounded: they are sizes in kB or MB."""
        if old == new:
            return True
        first, second = float(old), float(new)
        change, growth = abs(first - second), abs(self.growth)
        if old.isdigit() and new.isdigit() and change == growth:
            return True
        place = 10.0 ** -max(len(text.partition(".")[2]) for text in (old, new))
        # each was rounded by half a place
        if rounded and any(abs(change - growth / unit) <= 1.001 * place for unit in UNITS):
            return True
        return change <= self.tolerance * max(abs(first), abs(second))


def _short(line: str | None) -> str:
    return "nothing" if line is None else repr(line[:60])


def by_path(sources: Sequence[Path], entry: Path) -> dict[str, Path]:
    """Return the sources that lie in the folder of an entry by their paths there.

    Packages from elsewhere are imported from where they are installed.
    """
    folder = entry.resolve().parent
    return {
        path.relative_to(folder).as_posix(): path
        for path in (source.resolve() for source in sources)
        if path.is_relative_to(folder)
    }
