"""Attributes that code may read by their names in texts, and classes that nobody outside looks at."""

from __future__ import annotations

import ast
import builtins
import re

from squeeze.bundle.analysis.values import PLAIN_BASES
from squeeze.bundle.load.tree import last_name, walk


def attribute_words(tree: ast.AST) -> set[str]:
    """Return the names in texts and patterns by which code may read attributes."""
    names: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w.]+", node.value) or "{" in node.value:  # no text for people
                names.update(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.MatchClass):
            names.update(node.kwd_attrs)
    return names


def has_known_bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    """Return whether a class inherits from nothing that may call its methods by itself."""
    for base in node.bases:
        root = base.value if isinstance(base, ast.Subscript) else base
        name = last_name(root)
        if name in classes and classes[name] is not node:
            if not has_known_bases(classes[name], classes):
                return False
        elif name not in PLAIN_BASES and not _is_exception(name):
            return False
    return all(keyword.arg == "metaclass" for keyword in node.keywords)


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)
