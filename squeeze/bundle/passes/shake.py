"""Drop what the program can never reach: definitions, methods, names of imports.

Reachability starts from statements with effects, of the modules that are loaded at the start or by
what is reached (`reach.py`). A top-level definition without effects of its own (`def`, `class`, an
import, an assignment of a plain value) stays only if something that stays names it. A method stays if
its class stays and anything that stays reads an attribute of that name, or the class inherits from
outside, where callers cannot be seen.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable

from squeeze.bundle.load.loading import Loading
from squeeze.bundle.passes.reach import Reached, Reads

EVERYTHING_AT_START = Loading()


def shake(
    tree: ast.Module, keep: Iterable[str] = (), loading: Loading = EVERYTHING_AT_START
) -> ast.Module:
    """Return the tree, changed in place, with only what effects and the names in `keep` reach.

    keep: names of definitions or methods that stay even if nothing reads them. loading: modules that
    statements came from, and load; by default all run at the start.
    """
    keep = set(keep)
    reads: dict[ast.AST, Reads] = {}
    loading.adopt(tree.body)
    changed = True
    while changed:
        reached = Reached(tree, keep, loading, reads)
        changed = _drop_unreached(tree, reached) | _drop_imports(tree, keep, reached, reads)
    return ast.fix_missing_locations(tree)


def _drop_unreached(tree: ast.Module, reached: Reached) -> bool:
    """Drop statements and methods that are not reached; return whether any went."""
    before = len(tree.body)
    tree.body = [statement for statement in tree.body if statement in reached]
    changed = len(tree.body) < before
    for node in tree.body:
        unread = {method for method in reached.methods.get(node, ()) if method not in reached}
        if unread:
            assert isinstance(node, ast.ClassDef)
            node.body = [child for child in node.body if child not in unread] or [ast.Pass()]
            changed = True
    return changed


def _drop_imports(
    tree: ast.Module, keep: set[str], reached: Reached, reads: dict[ast.AST, Reads]
) -> bool:
    """Drop the names of imports that nothing reads, all but one; return whether any went."""
    used = [own for node, own in reads.items() if node in reached]
    readers = Counter(name for own in used for name in reached.names(own))
    changed = False
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if getattr(statement, "module", "") == "__future__":
            continue
        own = reads[statement].names  # what an import binds is among it
        needed = []
        for alias in statement.names:
            name = alias.asname or alias.name.partition(".")[0]
            if name in keep or readers[name] > (name in own):
                needed.append(alias)
        if needed and len(needed) < len(statement.names):
            statement.names = needed
            del reads[statement]
            changed = True
    return changed
