"""The files of a folder that a script reaches, as its syntax tree tells: imported, named or opened.

Nothing is run. A name that is put together while the script runs is not found.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from functools import lru_cache
from pathlib import PurePosixPath

from squeeze.errors import SqueezeError
from squeeze.ledger.submission import is_paper
from squeeze.outside import script as packed_script
from squeeze.outside.source import Source

MOST_STRING = 4096  # characters of a string that are searched for names of files
# Calls that import the module which a string names, and calls that read the file which it names.
IMPORTERS = set("import_module __import__ run_module find_spec".split())
READERS = set(
    "open load loadtxt genfromtxt fromfile memmap read_csv read_text read_bytes run_path".split()
)
MOST_PATTERNS = 200  # with a star, of one script
PATTERN = re.compile(r"\S*\w{2}\S*")  # of a pattern with a star: says more than `*` or `*.*`


def reached_files(
    main: str, files: Mapping[str, int], read: Callable[[str], bytes]
) -> dict[str, int]:
    """Return bytes of the files that the script `main` reaches, and that those reach.

    files: bytes by name of all that lies there; read: gives the bytes of one by its name

    Papers count only where a call reads them: most scripts name the logs that they write.
    """
    names, waiting = {main}, [main]
    while waiting:
        name = waiting.pop()
        if name.endswith(".py"):
            source = source_of(read(name), name)
            new = _reached_from(source, name, files) - names
            names |= new
            waiting += sorted(new)
    return {name: files[name] for name in sorted(names - {main})}


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


def _reached_from(source: Source, name: str, files: Mapping[str, int]) -> set[str]:
    """Return the names of files that the code of the file `name` reaches.

    Code of another Python than this one does not parse: its words are searched instead.
    """
    shipped, papers = Leaves(), Leaves()
    for file in files:
        (papers if is_paper(file) else shipped)[PurePosixPath(file).name].append(file)
    if source.tree is None:
        words = set(re.findall(r"[\w.-]+", source.text))
        return {f for w in words for leaf in (w, f"{w}.py") for f in shipped.get(leaf, ())}
    modules, named, read = set[str](), set[str](), set[str]()
    docstrings = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules.update(_module_files(node, name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.update(() if id(node) in docstrings else node.value[:MOST_STRING].split())
        elif isinstance(node, ast.Call) and _called(node) in IMPORTERS:
            modules.update(file for text in _strings_in(node) for file in _files_of(text))
        elif isinstance(node, ast.Call) and _called(node) in READERS and not _writes(node):
            read.update(word for text in _strings_in(node) for word in text.split())
    imported = {f for end in modules for f in shipped.of(end) if f"/{f}".endswith(f"/{end}")}
    return imported | shipped.named_by(named) | papers.named_by(read)


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


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _strings_in(node: ast.Call) -> Iterator[str]:
    """Yield the strings of a call: of its arguments, and of the path that it is a method of."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _writes(node: ast.Call) -> bool:
    """Return whether a call of `open` says that it writes."""
    modes = [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant) and re.fullmatch(r"[rbt]*[wax][wbt+]*", str(mode.value))
        for mode in modes
    )
