"""Calls of functions that only return an expression give way to it, where that is shorter."""

from __future__ import annotations

import ast
import copy
from typing import Any

from squeeze.bundle.analysis.calls import Called, Calls
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.load.fold import UNKNOWN, value_of
from squeeze.bundle.load.tree import walk

# What an argument must not be moved into: it may run later, more than once, or never.
DELAYING = (
    ast.Lambda,
    ast.GeneratorExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.IfExp,
    ast.BoolOp,
)
YIELDING = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


def inline(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Put what small functions return, in place, where they are called.

    These are functions without decorators that the program only calls: those called once, and those
    that return a literal. Arguments are names and literals. keep: names of functions that stay.
    """
    if look_ups(tree):
        return
    calls = Calls(tree, keep)
    for called in calls.known():
        owner = calls.places.parent(called.node)
        if isinstance(owner, ast.Module) and not called.node.decorator_list:
            _inline(called, calls)
    ast.fix_missing_locations(tree)


def _inline(called: Called, calls: Calls) -> None:
    """Put what a function returns into its calls, if that pays; the function is left empty."""
    body = called.node.body
    if isinstance(called.node, ast.AsyncFunctionDef) or len(body) != 1:
        return
    if not isinstance(body[0], ast.Return) or body[0].value is None or not called.calls:
        return
    result = body[0].value
    literal = value_of(result) is not UNKNOWN or ast.unparse(result) in ("set()", "{}", "[]")
    own = {id(node) for node in walk(called.node)}
    if not literal and (len(called.calls) > 1 or id(called.calls[0]) in own):
        return
    if any(isinstance(node, YIELDING) for node in walk(result)) or not _movable(called, calls):
        return
    for call in called.calls:
        for parameter in called.parameters:
            variable = calls.local[id(called.node), parameter.arg]
            value: Any = called.given(call, parameter) or called.default(parameter)
            for read in variable.reads:
                calls.places.replace(read, _another(value, calls))
        made = body[0].value  # a parameter alone is another node now
        calls.places.replace(call, copy.deepcopy(made) if literal else made)
    called.node.body = [ast.Pass()]


def _another(value: ast.expr, calls: Calls) -> ast.expr:
    """Return a copy of a name, which reads the same variable, or of a literal."""
    other = copy.deepcopy(value)
    variable = calls.read_by.get(id(value))
    if variable is not None:
        variable.reads.append(other)  # type: ignore[arg-type]
        calls.read_by[id(other)] = variable
    return other


def _movable(called: Called, calls: Calls) -> bool:
    """Return whether the names in what a function returns, and its arguments, mean the same anywhere."""
    result = called.node.body[0].value
    own = {
        id(read)
        for parameter in called.parameters
        for read in calls.local[id(called.node), parameter.arg].reads
    }
    # names of comprehensions and lambdas inside could hide those of arguments
    bound = {
        n.id for n in walk(result) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    }
    bound |= {n.arg for n in walk(result) if isinstance(n, ast.arg)}
    free = [n for n in walk(result) if isinstance(n, ast.Name) and id(n) not in own]
    if not all(n.id in calls.names | calls.builtins or n.id in bound for n in free):
        return False
    late = {id(n) for part in walk(result) if isinstance(part, DELAYING) for n in walk(part)}
    for parameter in called.parameters:
        reads = calls.local[id(called.node), parameter.arg].reads
        delayed = any(id(read) in late for read in reads)
        for value in called.values(parameter):
            if value is None:
                return False
            if value_of(value) is not UNKNOWN:
                continue
            if not isinstance(value, ast.Name) or value.id in bound or delayed:
                return False
    return True
