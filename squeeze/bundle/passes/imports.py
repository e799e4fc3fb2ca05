"""Imports of the flat program: each once, and none before what its module may depend on."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict

from squeeze.bundle.analysis.purity import Purity
from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.names import meaning_of
from squeeze.bundle.load.scopes import alias_name, module_uses
from squeeze.bundle.load.tree import is_docstring


def join_imports(flat: Flat) -> None:
    """Part imports at the top level into one a name, in place, and drop those that repeat.

    Those before the first statement that does anything come first; the others stay where they are, for
    what is done before an import, to the environment say, may matter to it.
    """
    tree, origins = flat.tree, flat.loading.origins
    purity, stable = Purity(tree), _stable_names(tree)
    future: list[ast.stmt] = []
    first: list[ast.stmt] = []
    rest: list[ast.stmt] = []
    earlier: set[str] = set()
    nothing_done = True
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            nothing_done &= purity.only_binds(statement) or is_docstring(statement)
            rest.append(statement)
            continue
        if getattr(statement, "module", "") == "__future__":
            future.append(statement)
            continue
        for alias in statement.names:
            single: ast.stmt
            if isinstance(statement, ast.Import):
                single = ast.Import([alias])
            else:
                single = ast.ImportFrom(statement.module, [alias], statement.level)
            origins[single] = origins[statement]
            text = ast.unparse(ast.fix_missing_locations(single))
            once = alias_name(statement, alias) in stable
            if not (once and text in earlier):
                (first if nothing_done and once else rest).append(single)
            earlier.add(text)
    documented = int(ast.get_docstring(tree) is not None)
    tree.body = [*rest[:documented], *future, *first, *rest[documented:]]


def _stable_names(tree: ast.Module) -> set[str]:
    """Return the names that only imports of one meaning bind, all of them at the top level."""
    meanings: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    plain = Counter[str]()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                meanings[alias_name(node, alias)].add(meaning_of(node, alias))
                plain[alias_name(node, alias)] += 1
    stores = Counter(u.name for u in module_uses(tree) if u.stores or u.index is not None)
    return {
        name
        for name, every in meanings.items()
        if len(every) == 1 and plain[name] == stores[name] and name != "*"
    }
