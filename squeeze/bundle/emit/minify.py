"""Minification by python-minifier, with settings chosen by measuring the compressed result."""

from __future__ import annotations

import ast
import builtins
import zlib
from typing import Any

from squeeze.bundle.emit.fstrings import old_quotes
from squeeze.bundle.emit.naming import NOTHING_SHOWN, Shown, rename_locals
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.load.scopes import FUNCTIONS, module_uses
from squeeze.bundle.load.tree import walk

# Both values of each are tried, with the best of those before; what remains at its default either never
# helped or changes meaning (removing asserts and `__debug__` branches is the caller's decision).
CHOICES = ("hoist_literals", "prefer_single_line")
# python-minifier renames no global where these are mentioned. Calls of them look into the function
# around, whose names `rename_locals` keeps, or into an argument.
SCOPES = ("locals", "vars")


def minify(source: str, keep: tuple[str, ...] = (), shown: Shown = NOTHING_SHOWN) -> str:
    """Return the minification of a module that compresses best; names in `keep` and shown ones stay.

    Local and global names and redundant syntax go.
    The result parses, and python-minifier has compared its syntax tree with the one it meant to print.
    Raises BundleError when python-minifier is missing or refuses: never another count.
    """
    try:
        import python_minifier.f_string
    except ImportError:
        raise BundleError(
            "python-minifier is not installed", fix="pip install python_minifier"
        ) from None

    def once(text: str, settings: dict[str, Any]) -> str:
        with old_quotes(python_minifier.f_string):
            minified = python_minifier.minify(
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
                preserve_globals=[*keep, *sorted(shown.definitions), *dir(builtins)],
                **settings,
            )
        for alias, name in aliases.items():
            minified = minified.replace(alias, name)
        return minified

    def size(text: str) -> tuple[int, str]:
        return len(zlib.compress(text.encode(), 9)), text

    try:
        tree = rename_locals(ast.parse(source), keep, shown)
        aliases = _hide_scopes(tree, source)
        named = ast.unparse(tree)
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


def _hide_scopes(tree: ast.Module, source: str) -> dict[str, str]:
    """Give harmless calls of `locals` and `vars` other names, in place; return them with the real ones.

    At the top level they list what the module binds: there they keep their names.
    """
    aliases = {f"hidden_{name}": name for name in SCOPES}
    own = {use.name for use in module_uses(tree) if use.stores or use.index is not None}
    if own & set(SCOPES) or any(alias in source for alias in aliases):
        return {}
    inside = {
        id(node)
        for function in walk(tree)
        if isinstance(function, (*FUNCTIONS, ast.Lambda))
        for node in walk(function)
    }
    for node in walk(tree):
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if named and node.func.id in SCOPES and (node.args or id(node) in inside):
            node.func.id = f"hidden_{node.func.id}"
    return aliases
