"""Star imports of local modules, spelled out: the names that `from module import *` binds."""

from __future__ import annotations

import ast

from squeeze.bundle.load.modules import BundleError, Graph, Module, absolute
from squeeze.bundle.load.scopes import top_level
from squeeze.bundle.load.tree import walk

GROWING = ("append", "extend")  # methods that add to `__all__`


def spell_stars(graph: Graph) -> None:
    """Put the names that they bind in the place of the stars, and add them to what modules bind.

    Raises BundleError where the names are computed.
    """
    stars = [
        (module, node, base)
        for module in graph.modules.values()
        for node in top_level(module.tree)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        for base in [absolute(module, node)]
        if graph.is_local(base)
    ]
    growing = True
    while growing:  # a star may pass on what another one binds
        growing = False
        for module, node, base in stars:
            names = exported(graph, graph.modules[base])
            node.names = [ast.alias(name) for name in names]
            growing |= not module.bound.issuperset(names)
            module.bound |= frozenset(names)


def exported(graph: Graph, module: Module) -> list[str]:
    """Return the names that `from module import *` binds."""
    names: list[str] | None = None
    for node in module.tree.body:
        changed = _change(node)
        if changed is None:
            continue
        value, is_new = changed
        more = _texts(graph, module, value)
        if more is None or (names is None and not is_new):
            raise BundleError(f"{module.where(node)}: __all__ is computed")
        names = more if is_new else [*(names or []), *more]
    if names is None:
        return sorted(name for name in module.bound if not name.startswith("_") and name != "*")
    for name in names:
        inner = f"{module.name}.{name}"
        if name not in module.bound and graph.is_local(inner) and inner not in graph.modules:
            raise BundleError(
                f"{module.path}: __all__ names the module {inner}, which nothing imports",
                fix=f"Import {inner} by its name.",
            )
    return list(dict.fromkeys(names))


def _change(node: ast.stmt) -> tuple[ast.expr, bool] | None:
    """Return the value that a statement gives `__all__` or adds to it, and whether it is all of it."""
    if isinstance(node, ast.Assign) and any(map(_is_all, node.targets)):
        return node.value, True
    if isinstance(node, ast.AnnAssign) and _is_all(node.target) and node.value is not None:
        return node.value, True
    if isinstance(node, ast.AugAssign) and _is_all(node.target):
        return node.value, False
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    if not _is_all(call.func.value):
        return None
    if call.func.attr not in GROWING or len(call.args) != 1:
        return call, False
    return (ast.List(call.args) if call.func.attr == "append" else call.args[0]), False


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _texts(graph: Graph, module: Module, node: ast.expr) -> list[str] | None:
    """Return the texts of a list that is made of constants and of `__all__` of other local modules."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Starred):
        return _texts(graph, module, node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [node.left, node.right]
    elif isinstance(node, ast.List | ast.Tuple):
        parts = node.elts
    elif isinstance(node, ast.Attribute) and node.attr == "__all__":
        other = _named(graph, module, node.value)
        return exported(graph, graph.modules[other]) if other in graph.modules else None
    else:
        return None
    lists = [_texts(graph, module, part) for part in parts]
    return None if None in lists else [text for texts in lists for text in texts or ()]


def _named(graph: Graph, module: Module, node: ast.expr) -> str:
    """Return the dotted name of the local module that an expression stands for; "" for any other."""
    spelled = ast.unparse(node)
    for statement in walk(module.tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if spelled == (alias.asname or alias.name):
                    return alias.name
        elif isinstance(statement, ast.ImportFrom):
            base = absolute(module, statement)
            for alias in statement.names:
                if spelled == (alias.asname or alias.name):
                    return f"{base}.{alias.name}" if base else alias.name
    return ""
