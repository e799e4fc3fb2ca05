"""requirements.txt: what a script imports beyond the standard library, pinned to what is installed.

Scripts are read, never run: a self-extracting one is decompressed (`squeeze.outside.script`).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version

from squeeze.ledger.submission import CODE
from squeeze.outside.script import read
from squeeze.outside.source import MAX_TOKENS, Source
from squeeze.submit.plain import BadSubmission

GUARDS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
# modules of coders that are not in the standard library
CODERS = {"brotli": {"brotli"}, "zstd": {"zstandard"}, "mixed": {"numba", "numpy"}}
LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!_-]+)")


@dataclass(frozen=True)
class Imports:
    """Top-level modules from outside the standard library.

    optional: those imported only where their absence is caught.
    """

    needed: frozenset[str]
    optional: frozenset[str]


def imports_of_script(data: bytes, beside: Collection[str] = ()) -> Imports:
    """Return the imports of a script, those in functions included.

    beside: names of files that ship with it

    Raises BadSubmission when it is no Python, or unpacks itself in a way that cannot be read.
    """
    own = {name.removesuffix(".py") for name in beside if name.endswith(".py")}
    needed: set[str] = set()
    optional: set[str] = set()
    script = read(Source(data), CODE)
    code = data if script is None else script.code
    if code is None:
        unread = "" if script is None else script.unread
        raise BadSubmission(f"{CODE}: its payload cannot be read", found=unread)
    tree = _parsed(code)
    if script is not None:
        needed |= CODERS.get(script.coder, set())
    elif any(map(_runs_text, tree.body)):
        raise BadSubmission(
            "train_gpt.py runs text that cannot be read without running it",
            expected="Python, or a script that unpacks itself as `squeeze bundle` and records do",
        )
    for name, guarded in _imported(tree):
        (optional if guarded else needed).add(name)
    outside = {
        name
        for name in needed | optional
        if name not in sys.stdlib_module_names and name not in own
    }
    return Imports(frozenset(needed & outside), frozenset((optional - needed) & outside))


def _parsed(code: bytes) -> ast.Module:
    tree = Source(code).tree
    if tree is None:
        raise BadSubmission(
            "train_gpt.py: neither Python nor a script that unpacks itself readably",
            expected=f"Python of ≤ {MAX_TOKENS:,} tokens",
        )
    return tree


def _runs_text(statement: ast.stmt) -> bool:
    """Return whether a statement is `exec(...)`, which would hide the rest of a program."""
    called = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(called, ast.Call) and getattr(called.func, "id", "") == "exec"


def _imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield (top-level module, whether its absence is caught), without recursion: trees may be deep."""
    queue: list[tuple[ast.AST, bool]] = [(tree, False)]
    while queue:
        node, guarded = queue.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], guarded
        elif isinstance(node, ast.Try) and any(map(_catches, node.handlers)):
            queue += [(child, True) for child in node.body]
            rest = [*node.handlers, *node.orelse, *node.finalbody]
            queue += [(child, guarded) for child in rest]
            continue
        queue += [(child, guarded) for child in ast.iter_child_nodes(node)]


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in GUARDS for kind in kinds)


def requirements(imports: Imports) -> str:
    """Return lines `name==version` of the distributions installed here, sorted.

    Optional modules that are not installed were not used here and are left out. Raises BadSubmission
    for a needed one that is not installed, and for squeeze itself, which a submission does without.
    """
    if "squeeze" in imports.needed | imports.optional:
        raise BadSubmission(
            "train_gpt.py imports squeeze, which is not there when it is run",
            fix="Ship what `squeeze bundle train_gpt.py --package squeeze` makes of it.",
        )
    pins = {}
    for module in imports.needed | imports.optional:
        distributions = _distributions().get(module, ())
        if not distributions and module in imports.needed:
            raise BadSubmission(
                f"train_gpt.py imports {module}, which is not installed here",
                fix="Install the version it is to run with.",
            )
        for name in distributions:
            pins[_canonical(name)] = version(name).split("+")[0]  # no index has local builds
    return "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))


def check_requirements(text: str, imports: Imports) -> None:
    """Raise BadSubmission unless every line pins a version and all needed imports are covered."""
    pinned = set()
    for line in text.splitlines():
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise BadSubmission(
                "requirements.txt: not a pinned requirement",
                expected="name==version",
                found=repr(line)[:80],
            )
        pinned.add(_canonical(match[1]))
    for module in sorted(imports.needed):
        names = {_canonical(name) for name in _distributions().get(module, (module,))}
        if not names & pinned:
            raise BadSubmission(
                "requirements.txt does not cover what train_gpt.py imports",
                expected=" or ".join(sorted(names)),
                found=", ".join(sorted(pinned)) or "nothing",
            )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _distributions() -> dict[str, list[str]]:
    return {module: sorted(set(names)) for module, names in packages_distributions().items()}
