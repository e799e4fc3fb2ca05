"""Minification by python-minifier, with settings chosen by measuring the compressed result."""

from __future__ import annotations

import ast
import builtins
import zlib
from typing import Any

from squeeze.bundle.emit.naming import rename_locals
from squeeze.bundle.load.modules import BundleError

# Both values of each are tried, with the best of those before; what remains at its default either never
# helped or changes meaning (removing asserts and `__debug__` branches is the caller's decision).
CHOICES = ("hoist_literals", "prefer_single_line")


def minify(source: str, keep: tuple[str, ...] = ()) -> str:
    """Return the minification of a module that compresses best; names in `keep` stay as they are.

    Local and global names and redundant syntax go.
    The result parses, and python-minifier has compared its syntax tree with the one it meant to print.
    Raises BundleError when python-minifier is missing or refuses: never another count.
    """
    try:
        import python_minifier
    except ImportError:
        raise BundleError(
            "python-minifier is not installed", fix="pip install python_minifier"
        ) from None

    def once(text: str, settings: dict[str, Any]) -> str:
        return python_minifier.minify(
            text,
            # what of these nothing reads is gone already
            remove_annotations=False,
            remove_literal_statements=False,
            # a parameter before `/` may share its name with a keyword
            convert_posargs_to_args=False,
            # a branch that never runs may make names local
            remove_dead_branches=False,
            rename_locals=False,
            rename_globals=True,
            combine_imports=True,
            # a builtin by its own name is as short once compressed, and needs no assignment
            preserve_globals=[*keep, *dir(builtins)],
            **settings,
        )

    def size(text: str) -> tuple[int, str]:
        return len(zlib.compress(text.encode(), 9)), text

    try:
        named = ast.unparse(rename_locals(ast.parse(source), keep))
        settings = dict.fromkeys(CHOICES, False)
        best = once(named, settings)
        for choice in CHOICES:
            changed = settings | {choice: True}
            other = once(named, changed)
            if size(other) < size(best):
                settings, best = changed, other
    except (SyntaxError, python_minifier.UnstableMinification, RecursionError) as error:
        raise BundleError("the code cannot be minified", found=str(error)[:200]) from None
    ast.parse(best)
    return best
