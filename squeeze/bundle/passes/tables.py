"""`f(**TABLE)` of a table that never changes becomes a call that spells out what it gives."""

from __future__ import annotations

import ast
import copy
from typing import Any

from squeeze.bundle.analysis.places import Places
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.analysis.variables import Variable, variables_of

READING = frozenset(("copy", "get", "items", "keys", "values"))  # methods of a dictionary


def spell_tables(tree: ast.Module) -> None:
    """Put keywords, in place, for `**` of a dictionary of literals that the program only reads."""
    if look_ups(tree):
        return
    places = Places(tree)
    for variable in variables_of(tree):
        if not (isinstance(variable.scope, ast.Module) and variable.once and variable.stores):
            continue
        statement: Any = places.parent(variable.stores[0])
        table = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(table, ast.Dict) or not _only_read(variable, places):
            continue
        keys = [key.value if isinstance(key, ast.Constant) else None for key in table.keys]
        if all(isinstance(key, str) and key.isidentifier() for key in keys) and _literal(table):
            for read in variable.reads:
                word = places.parent(read)
                if isinstance(word, ast.keyword):
                    call: Any = places.parent(word)
                    at = call.keywords.index(word)
                    call.keywords[at : at + 1] = [
                        ast.keyword(str(key), copy.deepcopy(value))
                        for key, value in zip(keys, table.values, strict=True)
                    ]
    ast.fix_missing_locations(tree)


def _literal(table: ast.Dict) -> bool:
    try:
        ast.literal_eval(table)
    except ValueError:
        return False
    return True


def _only_read(variable: Variable, places: Places) -> bool:
    """Return whether nothing can change a table."""
    for read in variable.reads:
        parent: Any = places.parent(read)
        if isinstance(parent, ast.keyword):
            if parent.arg is not None:
                return False
        elif isinstance(parent, ast.Call):
            if parent.func is read or getattr(parent.func, "id", "") not in (
                "dict",
                "len",
                "sorted",
            ):
                return False
        elif isinstance(parent, ast.Attribute):
            if parent.attr not in READING:
                return False
        elif isinstance(parent, ast.Subscript):
            if parent.value is not read or not isinstance(parent.ctx, ast.Load):
                return False
        elif not isinstance(parent, ast.Compare):
            return False
    return True
