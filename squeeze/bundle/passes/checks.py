"""Drop the texts of errors, or the checks that raise them, where the entrant asks for that.

Neither changes what a run without errors does. An exception that something catches and lives with is
no check but part of the program, and stays (see `handlers`).
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

from squeeze.bundle.analysis.effects import Effects
from squeeze.bundle.analysis.handlers import Handlers
from squeeze.bundle.load.fold import Filling
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import BLOCKS, walk

# Raised to tell something to whoever calls: an iteration, `hasattr`, the interpreter.
PROTOCOLS = frozenset(
    (
        "StopIteration StopAsyncIteration AttributeError KeyError IndexError LookupError "
        "NotImplementedError ImportError ModuleNotFoundError SystemExit KeyboardInterrupt "
        "GeneratorExit EOFError OSError"
    ).split()
)


def without_texts(tree: ast.Module) -> None:
    """Make `raise X(text, found=…)` into `raise X`, in place, where X needs no arguments.

    Exceptions of the program whose constructor only puts together a text lose it, and every instance
    its text.
    """
    classes = {node.name: node for node in walk(tree) if isinstance(node, ast.ClassDef)}
    handlers = Handlers(tree)
    mute = {
        node.name
        for node in classes.values()
        if "BaseException" in handlers.family(node.name) and _drop_text_maker(node)
    }
    makers = {
        node.name
        for node in classes.values()
        if any(isinstance(c, FUNCTIONS) and c.name in ("__init__", "__new__") for c in node.body)
    }
    examined = _examined(tree)
    for node in walk(tree):
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if named and handlers.family(node.func.id) & mute:
            node.args, node.keywords = [], []
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            called = node.exc.func
            family = handlers.family(called.id if isinstance(called, ast.Name) else "")
            plain = "Exception" in family and not family & makers and not _takes_more(family)
            if plain and not family & examined:
                node.exc = called


def _drop_text_maker(node: ast.ClassDef) -> bool:
    """Drop a constructor that only calls the one above it; return whether there was one."""
    for child in list(node.body):
        if isinstance(child, FUNCTIONS) and child.name == "__init__":
            calls_above = [
                n
                for n in walk(child)
                if isinstance(n, ast.Call) and ast.unparse(n.func) == "super().__init__"
            ]
            mine = child.args.args[0].arg
            keeps = any(isinstance(n, ast.Name) and n.id == mine for n in walk(child))
            if len(calls_above) == 1 and not keeps:
                node.body.remove(child)
                node.body = node.body or [ast.Pass()]
                return True
    return False


def _takes_more(family: set[str]) -> bool:
    """Return whether a builtin of the family cannot be made without arguments."""
    return bool(family & {"UnicodeError", "ExceptionGroup", "BaseExceptionGroup", "?"})


def _examined(tree: ast.Module) -> set[str]:
    """Return the exceptions whose arguments a handler looks at."""
    names: set[str] = set()
    for node in walk(tree):
        named = isinstance(node, ast.ExceptHandler) and node.name and node.type is not None
        if named and any(isinstance(n, ast.Attribute) and n.attr == "args" for n in walk(node)):
            names |= {n.id for n in walk(node.type) if isinstance(n, ast.Name)}
    return names


def without_checks(
    tree: ast.Module, only: frozenset[str] = frozenset(), keep: tuple[str, ...] = ()
) -> None:
    """Drop, in place, what only raises: `if …: raise`, asserts, and handlers that end by raising.

    Conditions must be free of effects. What ends with an error may then go on with anything: for
    programs whose inputs are known to be good. only: exceptions whose checks go; empty: all do.
    keep: names of functions and methods that somebody else may set or override.
    """
    _Drop(tree, only, keep).visit(tree)


class _Drop(Filling):
    def __init__(self, tree: ast.Module, only: frozenset[str], keep: tuple[str, ...]) -> None:
        self.effects, self.handlers, self.only = Effects(tree, keep), Handlers(tree), only
        self.values = self.handlers.values
        self.functions: list[str] = []

    def visit_FunctionDef(self, node: Any) -> Any:
        self.functions.append(node.name)
        only_raises = len(node.body) == 1 and isinstance(node.body[0], ast.Raise)
        result = node if only_raises else self.generic_visit(node)  # abstract methods
        self.functions.pop()
        return result

    visit_AsyncFunctionDef = visit_FunctionDef

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list) and not isinstance(node, ast.ExceptHandler):
                setattr(node, name, self._block(block))
        return super().generic_visit(node)

    def _block(self, block: list[ast.stmt]) -> list[ast.stmt]:
        """Return the statements of a block, its end dropped where that only raises."""
        if len(block) > 1 and self._only_raises(block[-1:]):
            before = block[-2]
            if (
                isinstance(before, ast.If)
                and not before.orelse
                and isinstance(before.body[-1], ast.Return)
                and self.effects.harmless(before.test)
            ):
                return [*block[:-2], *before.body]
            if not isinstance(before, ast.Try):
                return block[:-1]
        return block

    def visit_If(self, node: ast.If) -> Any:
        if self._only_raises(node.body) and self.effects.harmless(node.test):
            rest = ast.Module(node.orelse, [])
            self.generic_visit(rest)
            return rest.body
        if self._only_raises(node.orelse):
            node.orelse = []
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> Any:
        kept = self.only and "AssertionError" not in self.only
        is_caught = kept or self.handlers.sees(node, "AssertionError")
        return node if is_caught or not self.effects.harmless(node.test) else None

    def visit_Try(self, node: ast.Try) -> Any:
        node.handlers = [h for h in node.handlers if not self._only_raises(h.body)]
        if node.handlers or node.finalbody:
            return self.generic_visit(node)
        unguarded = ast.Module([*node.body, *node.orelse], [])
        self.generic_visit(unguarded)
        return unguarded.body

    def _only_raises(self, block: list[ast.stmt]) -> bool:
        """Return whether a block only raises a check's exception; names may be bound before."""
        *before, last = block or [ast.Pass()]
        if not isinstance(last, ast.Raise):
            return False
        assigned = all(
            isinstance(s, ast.Assign)
            and all(isinstance(t, ast.Name) for t in s.targets)
            and self.effects.harmless(s.value)
            for s in before
        )
        return assigned and self._is_check(last)

    def _is_check(self, node: ast.Raise) -> bool:
        called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if not isinstance(called, ast.Name) or (self.only and called.id not in self.only):
            return False
        family = self.handlers.family(called.id)
        if "Exception" not in family or "?" in family or family & PROTOCOLS:
            return False
        builtin = isinstance(getattr(builtins, called.id, None), type)
        if builtin and set(self.functions) & self.values:  # the caller may handle it
            return False
        return not self.handlers.sees(node, called.id)
