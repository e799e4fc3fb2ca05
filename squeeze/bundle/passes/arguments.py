"""Parameters that every call gives the same constant, or that nothing reads, go from functions."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.calls import Called, Calls
from squeeze.bundle.analysis.effects import Effects
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.passes.settle import allowed, constant, put


def settle_arguments(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Drop, in place, parameters of functions whose every call is known.

    keep: names of functions that somebody else may call
    """
    if look_ups(tree):
        return
    calls, effects = Calls(tree, keep), Effects(tree, keep)
    for called in list(calls.known()):
        for parameter in called.parameters:
            if _settled(called, parameter, calls, effects):
                for call in called.calls:
                    _withdraw(called, call, parameter)
                _remove(called.node.args, parameter)
    ast.fix_missing_locations(tree)


def _settled(called: Called, parameter: ast.arg, calls: Calls, effects: Effects) -> bool:
    """Put what a parameter always is where it is read; return whether nothing needs it then."""
    variable = calls.local[id(called.node), parameter.arg]
    values = called.values(parameter)
    if variable.stores or variable.otherwise > 1 or not values or None in values:
        return False
    default = called.default(parameter)
    if default is not None and not effects.harmless(default):
        return False
    if parameter.annotation is not None:  # the idle ones are gone
        return False
    if not variable.reads:
        given = [called.given(call, parameter) for call in called.calls]
        return all(value is None or effects.harmless(value) for value in given)
    value: Any = values[0]
    same = len({ast.dump(part) for part in values if part is not None}) == 1
    if not (same and constant(value, calls.names) and allowed(value, variable.reads, calls.places)):
        return False
    put(variable.reads, value, calls.places)
    return True


def _withdraw(called: Called, call: ast.Call, parameter: ast.arg) -> None:
    at = called.position(parameter)
    if at is not None and at < len(call.args):
        del call.args[at]
    call.keywords = [word for word in call.keywords if word.arg != parameter.arg]


def _remove(arguments: ast.arguments, parameter: ast.arg) -> None:
    """Take a parameter from a signature, with its default."""
    for at, part in enumerate(arguments.kwonlyargs):
        if part is parameter:
            del arguments.kwonlyargs[at], arguments.kw_defaults[at]
            return
    first = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    several = [*arguments.posonlyargs, *arguments.args]
    at = next(n for n, part in enumerate(several) if part is parameter)
    if at >= first:
        del arguments.defaults[at - first]
    own = arguments.posonlyargs if at < len(arguments.posonlyargs) else arguments.args
    own[:] = [part for part in own if part is not parameter]
