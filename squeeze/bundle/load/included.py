"""Files that a script runs in its own place, `exec(open(…).read())`: they become part of it."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from squeeze.bundle.load.tree import last_name, parsed

MOST_FILES = 16  # of one script


def included(tree: ast.Module, path: Path) -> list[Path]:
    """Put the statements of files that the script at `path` runs in its place, and return the files.

    Only those whose path is made of constants and `__file__`; any other `exec` stays as it is.
    """
    path = path.absolute()  # a path made of `__file__` and a constant one have one meaning then
    files: list[Path] = []
    at = 0
    while at < len(tree.body) and len(files) < MOST_FILES:
        file = _executed(tree.body[at], path)
        if file is None:
            at += 1
            continue
        tree.body[at : at + 1] = parsed(file.read_text(encoding="utf-8"), str(file)).body
        files.append(file)
    return files


def _executed(statement: ast.stmt, path: Path) -> Path | None:
    """Return the file that a statement `exec(…)` runs, None if it is none or cannot be read."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or last_name(call.func) != "exec" or len(call.args) != 1:
        return None
    text = call.args[0]
    if isinstance(text, ast.Call) and last_name(text.func) == "compile" and text.args:
        text = text.args[0]
    if not isinstance(text, ast.Call) or not isinstance(text.func, ast.Attribute):
        return None
    opened = text.func.value
    if text.func.attr == "read" and isinstance(opened, ast.Call):
        if last_name(opened.func) != "open" or not opened.args:
            return None
        opened = opened.args[0]
    elif text.func.attr != "read_text":
        return None
    value = _value(opened, path)
    if value is None or os.path.realpath(value) == os.path.realpath(path):
        return None
    file = path.parent / value
    return file if file.is_file() else None


def _value(node: ast.expr, path: Path) -> str | None:
    """Return the path that an expression of constants and `__file__` is; None for any other."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return str(path) if node.id == "__file__" else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        left, right = _value(node.left, path), _value(node.right, path)
        if left is None or right is None:
            return None
        return left + right if isinstance(node.op, ast.Add) else os.path.join(left, right)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, path)
        return os.path.dirname(owner) if owner is not None and node.attr == "parent" else None
    if not isinstance(node, ast.Call):
        return None
    values = [_value(value, path) for value in node.args]
    texts = [value for value in values if value is not None]
    if len(texts) < len(values):
        return None
    return _called(node.func, texts, path)


def _called(function: ast.expr, texts: list[str], path: Path) -> str | None:
    """Return the path that a function or method of paths gives."""
    name = last_name(function)
    if name in ("abspath", "realpath", "Path", "str", "fspath") and len(texts) == 1:
        return texts[0]
    if name == "dirname" and len(texts) == 1:
        return os.path.dirname(texts[0])
    if name == "join" and texts:
        return os.path.join(*texts)
    owner = _value(function.value, path) if isinstance(function, ast.Attribute) else None
    if owner is None:
        return None
    if name in ("resolve", "absolute") and not texts:
        return owner
    if name == "replace" and len(texts) == 2:
        return owner.replace(texts[0], texts[1])
    if name == "with_name" and len(texts) == 1:
        return os.path.join(os.path.dirname(owner), texts[0])
    return None
