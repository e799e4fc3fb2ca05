"""Variables that are one constant wherever they are read give way to it, so that it decides branches."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import Any

from squeeze.bundle.analysis.places import Binding, Places
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.analysis.variables import Variable, constant_names, variables_of
from squeeze.bundle.load.fold import UNKNOWN, value_of
from squeeze.bundle.load.tree import walk

SHORT = 4  # characters of a value that costs no more than a name


def settle(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Put constants, in place, where variables that are bound once and to nothing else are read.

    A constant is a literal, or the name of a definition. It must be bound before every read, in the
    block of the read or in one around it. keep: names of the module that somebody else may set.
    """
    if look_ups(tree):
        return
    settled = True
    while settled:
        settled = False
        places = Places(tree)
        variables = variables_of(tree)
        names = constant_names(variables) - set(keep)
        for variable in variables:
            if variable.name in keep and isinstance(variable.scope, ast.Module):
                continue
            settled |= _settle(variable, places, names)
    ast.fix_missing_locations(tree)


def constant(node: ast.expr, names: set[str]) -> bool:
    """Return whether an expression is a literal, or a name that means one thing everywhere."""
    return value_of(node) is not UNKNOWN or (isinstance(node, ast.Name) and node.id in names)


def put(reads: Sequence[ast.expr], value: ast.expr, places: Places) -> None:
    """Replace reads, in place, by a value."""
    for read in reads:
        places.replace(read, copy.deepcopy(value))


def _settle(variable: Variable, places: Places, names: set[str]) -> bool:
    """Put the value of a variable where it is read, if it has one; return whether it had."""
    if not (variable.once and variable.stores) or id(variable.scope) in places.inspecting:
        return False
    if variable.name.startswith("__") or isinstance(variable.scope, ast.comprehension):
        return False
    binding = places.binding(variable.stores[0])
    if binding is None:
        return False
    if not isinstance(variable.scope, ast.Module) and _is_returned(binding, variable, places):
        places.replace(variable.reads[0], binding.value)
        places.drop(binding)
        return True
    if not constant(binding.value, names):
        return False
    block = places.block(binding.statement)
    at_top = places.parent(binding.statement) is variable.scope
    if isinstance(variable.scope, ast.Module) and not at_top:
        return False
    if not _pays(binding.value, variable) or not allowed(binding.value, variable.reads, places):
        return False
    if not _dominates(binding.statement, block, variable):
        return False
    put(variable.reads, binding.value, places)
    places.drop(binding)
    return True


def _is_returned(binding: Binding, variable: Variable, places: Places) -> bool:
    """Return whether all that is done with a name is to return it right after it is bound."""
    if binding.at is not None or len(variable.reads) != 1:
        return False
    block = places.block(binding.statement)
    at = next((n for n, part in enumerate(block) if part is binding.statement), len(block))
    after = block[at + 1] if at + 1 < len(block) else None
    return isinstance(after, ast.Return) and after.value is variable.reads[0]


def _pays(value: ast.expr, variable: Variable) -> bool:
    """Return whether a program is no longer with the value than with the name, or decides by it."""
    if isinstance(value, ast.Name) or value_of(value) in (None, True, False, ()):
        return True
    return len(variable.reads) < 2 or len(ast.unparse(value)) <= SHORT


def allowed(value: ast.expr, reads: Sequence[ast.expr], places: Places) -> bool:
    """Return whether Python takes a value where a name is read, and without a warning."""
    return isinstance(value, ast.Name) or all(_takes(value_of(value), r, places) for r in reads)


def _takes(value: object, read: ast.expr, places: Places) -> bool:
    parent: Any = places.parent(read)
    single = value is None or isinstance(value, bool)
    if isinstance(parent, ast.Assert) or (isinstance(parent, ast.Call) and parent.func is read):
        return False
    if isinstance(parent, ast.Subscript) and parent.value is read:
        return isinstance(value, str | bytes | tuple)
    if isinstance(parent, ast.Compare) and not single:
        return not any(isinstance(op, ast.Is | ast.IsNot) for op in parent.ops)
    # before Python 3.12 an expression in an f-string has no backslashes
    return single or isinstance(value, int | float) or not places.in_text(read)


def _dominates(statement: ast.stmt, block: list[ast.stmt], variable: Variable) -> bool:
    """Return whether a statement runs before all reads of what it binds."""
    at = next((n for n, part in enumerate(block) if part is statement), len(block))
    after = {id(node) for later in block[at + 1 :] for node in walk(later)}
    return all(id(read) in after for read in variable.reads)
