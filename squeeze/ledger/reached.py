"""The files of a folder that a script reaches, as its syntax tree tells: imported, named or opened.

Nothing is run. A name that the script puts together is found as far as it is made of constants
(`squeeze.ledger.texts`); the files that the rest of such names may mean are told apart.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from squeeze.errors import SqueezeError
from squeeze.ledger.submission import REQUIREMENTS, is_paper
from squeeze.ledger.texts import UNKNOWN, Texts, called
from squeeze.outside import script as packed_script
from squeeze.outside.source import Source

MOST_STRING = 4096  # characters of a string that are searched for names of files
# Calls that import the module which a string names, and calls that read the file which it names.
IMPORTERS = set("import_module __import__ run_module find_spec".split())
READERS = set(
    "open load loadtxt genfromtxt fromfile memmap read_csv read_text read_bytes run_path".split()
)
WRITERS = set("save savez savez_compressed save_file write_text write_bytes makedirs mkdir".split())
MOST_PATTERNS = 200  # with a star, of one script
PATTERN = re.compile(r"\S*\w{2}\S*")  # of a pattern with a star: says more than `*` or `*.*`


@dataclass(frozen=True)
class Reached:
    """Files of a folder that a script reaches, bytes by name.

    doubtful: not among `files`, but fitting a name that is put together when the script runs
    """

    files: dict[str, int]
    doubtful: dict[str, int]


def reached_files(main: str, files: Mapping[str, int], read: Callable[[str], bytes]) -> Reached:
    """Return the files that the script `main` reaches, and that those reach.

    files: bytes by name of all that lies there; read: gives the bytes of one by its name

    Papers count only where a call reads them: most scripts name the logs that they write.
    """
    names, waiting, fitting = {main}, [main], set[str]()
    while waiting:
        name = waiting.pop()
        if name.endswith(".py"):
            source = source_of(read(name), name)
            certain, doubtful = _reached_from(source, name, files)
            waiting += sorted(certain - names)
            names |= certain
            fitting |= doubtful
    return Reached(
        *({n: files[n] for n in sorted(some)} for some in (names - {main}, fitting - names))
    )


def source_of(data: bytes, name: str) -> Source:
    """Return the code of a script: what is inside where it extracts itself."""
    packed = unpacked(data, name)
    return Source(data if packed is None or packed.code is None else packed.code)


@lru_cache(maxsize=1)  # a context-mixed payload takes seconds
def unpacked(data: bytes, name: str) -> packed_script.Script | None:
    """Return the parts of a script that extracts itself, None of any other."""
    try:
        return packed_script.read(Source(data), name)
    except SqueezeError:
        return None


def _reached_from(source: Source, name: str, files: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Return the files that the code of the file `name` reaches, and those that it may reach.

    Code of another Python than this one does not parse: its words are searched instead.
    """
    shipped, papers = Leaves(), Leaves()
    for file in files:
        (papers if is_paper(file) else shipped)[PurePosixPath(file).name].append(file)
    if source.tree is None:
        words = set(re.findall(r"[\w.-]+", source.text))
        return {f for w in words for leaf in (w, f"{w}.py") for f in shipped.get(leaf, ())}, set()
    modules, named, read, written = set[str](), set[str](), set[str](), set[str]()
    texts = Texts(source.tree, name)
    docstrings = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules.update(_module_files(node, name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.update(() if id(node) in docstrings else node.value[:MOST_STRING].split())
        elif isinstance(node, ast.JoinedStr | ast.BinOp | ast.Call):
            named.update(_words(texts.of(node)))
        if isinstance(node, ast.Call) and called(node) in IMPORTERS:
            modules.update(f for text in _strings_in(node, texts) for f in _files_of(text))
        elif isinstance(node, ast.Call) and (called(node) in WRITERS or _writes(node)):
            written.update(_words(_strings_in(node, texts)))
        elif isinstance(node, ast.Call) and called(node) in READERS:
            read.update(_words(_strings_in(node, texts)))
    ends = {end for end in modules if UNKNOWN not in end}
    imported = {f for end in ends for f in shipped.of(end) if f"/{f}".endswith(f"/{end}")}
    doubtful = shipped.fitting((named | modules) - written) | papers.fitting(read)
    return imported | shipped.named_by(named) | papers.named_by(read), doubtful


class Leaves(defaultdict[str, list[str]]):
    """Files of a folder by the last part of their path."""

    def __init__(self) -> None:
        super().__init__(list)

    def of(self, path: str) -> list[str]:
        """Return the files that are called as the last part of a path."""
        return self.get(PurePosixPath(path).name, [])

    def named_by(self, words: Set[str]) -> set[str]:
        """Return the files that words name, by the last part of a path or by a pattern."""
        stars = sorted(word for word in words if "*" in word and PATTERN.fullmatch(word))
        return {file for word in words for file in self.of(word)} | {
            file
            for files in self.values()
            for file in files
            if any(map(PurePosixPath(file).match, stars[:MOST_PATTERNS]))
        }

    def fitting(self, words: Set[str]) -> set[str]:
        """Return the files that words with unknown parts fit, in the folders that a word tells."""
        told = sorted(
            word
            for word in words
            if UNKNOWN in word and PATTERN.fullmatch(PurePosixPath(word).name.replace(UNKNOWN, ""))
        )
        ends = [f"/{word}".rpartition(f"/{UNKNOWN}/")[2].lstrip("./") for word in told]
        # a suffix is told where the word has one, and else not among what is unknown
        gaps = ["[^/]*" if "." in PurePosixPath(end).name else "[^/.]*" for end in ends]
        patterns = [
            gap.join(map(re.escape, end.split(UNKNOWN)))
            for gap, end in zip(gaps, ends, strict=True)
        ]
        compiled = [re.compile(f"(?:.*/)?{pattern}") for pattern in patterns[:MOST_PATTERNS]]
        every = {f for leaf, files in self.items() for f in files if leaf != REQUIREMENTS}
        return {file for file in every if any(pattern.fullmatch(file) for pattern in compiled)}


def _module_files(node: ast.Import | ast.ImportFrom, name: str) -> Iterator[str]:
    """Yield ends of the paths that an import in the file `name` may read."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _files_of(alias.name)
        return
    if node.module:
        yield from _files_of(node.module)
    above = PurePosixPath(name).parent.name if node.level else ""
    package = (node.module or above).rpartition(".")[2]
    for alias in node.names:
        inside = f"{package}/{alias.name}".lstrip("/")
        yield from (f"{inside}.py", f"{inside}/__init__.py")


def _files_of(module: str) -> Iterator[str]:
    """Yield ends of the paths of a module and of the packages that it is in."""
    *packages, last = module.strip(".").split(".")
    yield f"{last}.py"
    yield from (f"{package}/__init__.py" for package in (*packages, last))


def _strings_in(node: ast.Call, texts: Texts) -> Iterator[str]:
    """Yield the strings of a call: of its arguments, and of the path that it is a method of."""
    for part in ast.walk(node):
        if isinstance(part, ast.expr):
            yield from (text for text in texts.of(part) if isinstance(text, str))


def _words(texts: Iterable[object]) -> Iterator[str]:
    """Yield the words of texts; of one whose folder alone is unknown, the name of the file."""
    for word in (word for text in texts if isinstance(text, str) for word in text.split()):
        leaf = PurePosixPath(word).name
        yield word if UNKNOWN in leaf else leaf


def _writes(node: ast.Call) -> bool:
    """Return whether a call of `open` says that it writes."""
    modes = [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant) and re.fullmatch(r"[rbt]*[wax][wbt+]*", str(mode.value))
        for mode in modes
    )
