"""Annotations that are texts, `x: "Config"`: the names in them, and others made such texts."""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Iterator

from squeeze.bundle.load.scopes import FUNCTIONS, arguments
from squeeze.bundle.load.tree import children, plain_names, walk


def renamed_texts(tree: ast.AST, resolve: Callable[[str], str]) -> None:
    """Rename the names in annotations that are texts, in place. resolve: from a name to its new one."""
    for text in _texts(tree):
        hint = _parsed(text.value)
        changed = False
        for node in walk(hint):
            if isinstance(node, ast.Name) and resolve(node.id) != node.id:
                node.id, changed = resolve(node.id), True
        if changed:
            text.value = ast.unparse(hint)


def names_in_texts(tree: ast.AST) -> set[str]:
    """Return the names in annotations that are texts."""
    return {name for text in _texts(tree) for name in plain_names(_parsed(text.value))}


def make_texts(statement: ast.stmt, others: Container[ast.AST]) -> None:
    """Make all annotations in a statement texts, as Python does. others: statements to pass over."""
    nodes: list[ast.AST] = [statement]
    for node in nodes:  # grows meanwhile
        nodes += [child for child in children(node) if child not in others]
        for holder, name in _slots(node):
            hint = getattr(holder, name)
            text = ast.Constant(ast.unparse(hint))
            setattr(holder, name, ast.copy_location(text, hint))


def in_hints(tree: ast.AST) -> set[ast.AST]:
    """Return all nodes of annotations."""
    hints = [getattr(holder, name) for node in walk(tree) for holder, name in _slots(node)]
    return {node for hint in hints for node in walk(hint)}


def has_hints(statement: ast.stmt) -> bool:
    """Return whether something in a statement is annotated."""
    return any(True for node in walk(statement) for _ in _slots(node))


def _slots(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that hold annotations of a definition or variable, and the field of each."""
    if isinstance(node, ast.AnnAssign):
        yield node, "annotation"
    elif isinstance(node, FUNCTIONS):
        yield from ((arg, "annotation") for arg in arguments(node.args) if arg.annotation)
        if node.returns is not None:
            yield node, "returns"


def _texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts in annotations, those inside others such as `list["Config"]` too."""
    for node in walk(tree):
        for holder, name in _slots(node):
            for part in walk(getattr(holder, name)):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part


def _parsed(text: object) -> ast.expr:
    try:
        return ast.parse(str(text).strip(), mode="eval").body
    except SyntaxError:  # a text for people
        return ast.Constant(None)
