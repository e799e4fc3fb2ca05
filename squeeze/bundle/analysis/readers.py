"""Parts of a program that something may look at: annotations, docstrings, names of definitions.

No list names everything that reads them, so they stay unless nothing can: unless the program reads
none itself, what decorates a definition or takes it as an argument is listed as one that does not
look, and whatever else the program imports is listed likewise.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from squeeze.bundle.analysis.effects import dotted_origin, import_origins
from squeeze.bundle.analysis.outside import BASE_MODULES, BLIND, BLIND_MODULES, DECORATORS
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import plain_names, walk

HINT_READERS = frozenset(
    "__annotate__ __annotations__ __kwdefaults__ annotationlib co_varnames get_annotations "
    "get_type_hints getfullargspec signature singledispatch singledispatchmethod".split()
)
DOC_READERS = frozenset("__doc__ doctest getdoc pydoc".split())
NAME_READERS = frozenset(
    "__code__ __name__ __qualname__ co_name cProfile cloudpickle copyreg dill f_code findCaller "
    "funcName inspect pickle profile shelve unittest".split()
)
# They look a name up by what it is called, in their own scope, in the module, or in a caller's.
LOOKING_UP = frozenset(("eval", "exec", "globals"))
SCOPES = frozenset(("dir", "locals", "vars"))
FRAMES = frozenset("_getframe currentframe f_back f_globals f_locals getouterframes".split())
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class LookUp:
    """A place where a program finds names by their text. node: what does; frames: in any scope."""

    node: ast.AST
    name: str
    frames: bool


class Readers:
    """Evidence of what a program may read of its own definitions.

    every_hint, every_doc, module_doc: annotations, docstrings and that of the program may be read.
    names: those of functions may be. given: names of definitions that what may look is given, which may
    then call them by what their parameters are called. lambdas: ids of those that it is given.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._origins = import_origins(tree)
        words, plain = _words(tree), plain_names(tree)
        modules = {origin.partition(".")[0] for origin in self._origins.values()}
        modules |= _imported_inside(tree)
        self.blind = modules <= BLIND_MODULES
        self.every_hint = bool((words | plain) & HINT_READERS) or self._compiles_hints(tree)
        self.module_doc = "__doc__" in plain
        self.every_doc = bool(words & DOC_READERS) or "help" in plain
        self.names = bool(words & NAME_READERS)
        calls = [node for node in walk(tree) if isinstance(node, ast.Call)]
        self._looked_at = {
            node.name
            for node in walk(tree)
            if isinstance(node, FUNCTIONS) and not all(map(self._is_blind, node.decorator_list))
        }
        looking = [call for call in calls if self._may_look(call)]
        handed = [
            part
            for call in looking
            for value in [*call.args, *(word.value for word in call.keywords)]
            for part in walk(value)
        ]
        self.lambdas = {id(part) for part in handed if isinstance(part, ast.Lambda)}
        if not self.blind:
            called = {id(call.func) for call in calls}
            handed = [node for node in walk(tree) if id(node) not in called]
        self.given = {
            part.id if isinstance(part, ast.Name) else part.attr
            for part in handed
            if isinstance(part, ast.Name | ast.Attribute)
        }

    def looks_at(self, node: Definition) -> bool:
        """Return whether a decorator, a base or a caller from outside may look at a definition."""
        if node.name in self.given or not all(map(self._is_blind, node.decorator_list)):
            return True
        if isinstance(node, ast.ClassDef):
            return not all(map(self._is_blind_base, node.bases))
        return False

    def _compiles_hints(self, tree: ast.Module) -> bool:
        """Return whether anything compiles what it can reach by what the annotations say."""
        return any(
            isinstance(node, ast.Name | ast.Attribute)
            and dotted_origin(node, self._origins) == "torch.jit.script"
            for node in walk(tree)
        )

    def _is_blind(self, decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and called.attr in ("setter", "getter", "deleter"):
            return isinstance(called.value, ast.Name)
        name = dotted_origin(called, self._origins)
        return (name in DECORATORS and not name.startswith("triton.")) or name in BLIND

    def _is_blind_base(self, base: ast.expr) -> bool:
        root = base.value if isinstance(base, ast.Subscript) else base
        name = dotted_origin(root, self._origins)
        return "." not in name or name.rpartition(".")[0] in BASE_MODULES

    def _may_look(self, call: ast.Call) -> bool:
        """Return whether a call may look at what it is handed.

        Listed modules do not, but for these and for what they made of a definition. Others may.
        """
        name = dotted_origin(call.func, self._origins)
        root = name.partition(".")[0]
        if name.startswith(("triton.", "torch.library.", "torch.jit.", "torch.fx.")):
            return True
        if isinstance(call.func, ast.Attribute) and root in self._looked_at:
            return True
        return not self.blind and root not in BLIND_MODULES and "." in name


def _words(tree: ast.AST) -> set[str]:
    """Return attributes, parts of imports and short texts of a program, but names of classes alone."""
    words: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.Attribute):
            if not (node.attr == "__name__" and _is_class(node.value)):
                words.add(node.attr)
        elif isinstance(node, ast.alias):
            words.update(node.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            words.update(node.module.split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier():
                words.add(node.value)
            elif "%(funcName)" in node.value or "{funcName" in node.value:
                words.add("funcName")
    return words


def _is_class(node: ast.expr) -> bool:
    """Return whether an expression is `type(x)` or `x.__class__`."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return isinstance(node.func, ast.Name) and node.func.id == "type"
    return isinstance(node, ast.Attribute) and node.attr == "__class__"


def _imported_inside(tree: ast.Module) -> set[str]:
    """Return the top-level names of all modules imported anywhere."""
    names: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def look_ups(tree: ast.Module) -> list[LookUp]:
    """Return the places where names of the module, or of any frame, are found by their text.

    Not those where a function looks into its own scope alone.
    """
    inside = {
        id(node)
        for function in walk(tree)
        if isinstance(function, (*FUNCTIONS, ast.Lambda, ast.ClassDef))
        for node in walk(function)
    }
    places = []
    for node in walk(tree):
        if isinstance(node, ast.Name):
            if node.id in LOOKING_UP:
                places.append(LookUp(node, node.id, False))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in SCOPES and not node.args and id(node) not in inside:
                places.append(LookUp(node, f"{node.func.id}()", False))
        elif isinstance(node, ast.Attribute):
            if node.attr in FRAMES or (node.attr == "stack" and _root(node) == "inspect"):
                places.append(LookUp(node, node.attr, True))
            elif node.attr in ("eval", "exec") and _root(node) in ("builtins", "__builtins__"):
                places.append(LookUp(node, node.attr, False))
            elif node.attr == "modules" and _root(node) == "sys" and _names_itself(tree):
                places.append(LookUp(node, "sys.modules", False))
        elif isinstance(node, ast.alias) and node.name in ("__main__", *FRAMES):
            places.append(LookUp(node, node.name, node.name != "__main__"))
        elif isinstance(node, ast.alias) and node.name in LOOKING_UP:
            places.append(LookUp(node, node.name, False))
    return places


def _root(node: ast.Attribute) -> str:
    return node.value.id if isinstance(node.value, ast.Name) else ""


def _names_itself(tree: ast.Module) -> bool:
    """Return whether the program knows what it is called in `sys.modules`."""
    return bool((_words(tree) | plain_names(tree)) & {"__name__", "__main__", "__module__"})
