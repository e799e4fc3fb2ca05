"""Parameters of a program's functions that a keyword may reach, and those that none can."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from squeeze.bundle.analysis.readers import Readers
from squeeze.bundle.load.scopes import FUNCTIONS, alias_name, module_uses
from squeeze.bundle.load.tree import last_name, walk

IMPORTS = (ast.Import, ast.ImportFrom)
VARIABLES = (ast.Name, ast.Attribute)

# Decorators behind which the names of parameters stay the program's own affair.
TRANSPARENT = frozenset(
    (
        "njit jit property setter staticmethod classmethod cache lru_cache cached_property "
        "contextmanager wraps no_grad inference_mode enable_grad compile abstractmethod"
    ).split()
)
# Classes from outside that call the methods of classes derived from them by position.
POSITIONAL = frozenset(
    {
        "object",
        "ABC",
        "Protocol",
        "Generic",
        "Module",
        "Function",
        "Thread",
        *(name for name in dir(builtins) if name.endswith(("Error", "Exception"))),
    }
)


@dataclass(eq=False)
class Scope:
    """A function, lambda or comprehension; parent: the one around it; owner: a method's class."""

    node: Any
    parent: Scope | None
    owner: ast.ClassDef | None

    @property
    def unit(self) -> Scope:
        """The outermost scope around it, or itself."""
        return self.parent.unit if self.parent else self


class Parameters:
    """Evidence of a module's calls and texts about its functions' parameters.

    A keyword reaches the functions that the call names, `f` or `x.f`, whatever x is. Functions that
    are used as values, and those that Python calls by itself, may be reached by any keyword and by any
    name in a string constant. `**` reaches all parameters of what it may call. By any
    keyword what may look at a function may call it.

    A module-level function that is only ever called, and by its name, is *direct*: its keywords can be
    renamed with its parameters.
    """

    def __init__(self, tree: ast.Module) -> None:
        nodes = list(walk(tree))
        calls = [n for n in nodes if isinstance(n, ast.Call)]
        self.classes = {n.name: n for n in nodes if isinstance(n, ast.ClassDef)}
        self.known = {n.name for n in nodes if isinstance(n, FUNCTIONS)} | set(self.classes)
        self.words = {
            word
            for n in nodes
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
            for word in _words(n.value)
        }
        called = {id(call.func) for call in calls}
        self.values = {"__init__", "__new__", "__call__", "__init_subclass__", "forward"}
        self.values |= {_last(n) for n in nodes if isinstance(n, VARIABLES) and id(n) not in called}
        self.values |= self.words
        self.said: dict[str, list[ast.keyword]] = defaultdict(
            list
        )  # by last name of what is called
        for call in calls:
            self.said[_last(call.func)] += call.keywords
        spelled = {word.arg for call in calls for word in call.keywords}
        spelled |= {word.arg for node in self.classes.values() for word in node.keywords}
        self.anywhere = spelled | self.words
        self.readers = Readers(tree)
        self.open: set[str] = set()  # functions called with ** of unknown keys
        self._open(nodes, calls)
        self.direct = self._direct(tree, called)

    def keywords(self, scope: Scope, name: str) -> list[ast.keyword]:
        """Return the keywords of calls that are to be renamed with a parameter."""
        if not self._is_direct(scope):
            return []
        return [word for word in self.said[scope.node.name] if word.arg == name]

    def renamable(self, scope: Scope, name: str) -> bool:
        """Return whether a parameter may change its name, together with its `keywords`."""
        node, owner = scope.node, scope.owner
        if self._is_direct(scope):
            return True
        if getattr(node, "name", None) in self.readers.given or id(node) in self.readers.lambdas:
            return False
        decorators = {_last(d) for d in getattr(node, "decorator_list", [])}
        first = [*node.args.posonlyargs, *node.args.args][:1]
        if owner and "staticmethod" not in decorators and any(arg.arg == name for arg in first):
            return True
        function = getattr(node, "name", None)
        if function is None or function in self.values:
            reached = name in self.anywhere or "*" in self.open
        else:
            reached = any(word.arg == name for word in self.said[function])
        return (
            not reached
            and function not in self.open
            and transparent(node)
            and transparent(scope.unit.node)
            and (owner is None or self._by_position(owner))
        )

    def _is_direct(self, scope: Scope) -> bool:
        module_level = scope.parent is None and scope.owner is None
        return module_level and getattr(scope.node, "name", None) in self.direct

    def _direct(self, tree: ast.Module, called: set[int]) -> set[str]:
        uses = module_uses(tree)
        used = Counter(use.name for use in uses)
        calls = Counter(use.name for use in uses if id(use.node) in called)
        return {
            node.name
            for node in tree.body
            if isinstance(node, FUNCTIONS)
            and used[node.name] == calls[node.name] + 1  # its definition
            and node.name not in self.open | self.values
            and node.args.kwarg is None
            and transparent(node)
        }

    def _open(self, nodes: list[ast.AST], calls: list[ast.Call]) -> None:
        """Collect names of what a `**` of unknown keys may call; "*": any function used as a value."""
        forwarded, makers = _forwarded(nodes), _makers(nodes)
        imported = {alias_name(n, a) for n in nodes if isinstance(n, IMPORTS) for a in n.names}
        outside = imported | set(dir(builtins))
        for call in calls:
            stars = [word for word in call.keywords if word.arg is None]
            if all(word in forwarded or _spelled(word) for word in stars):
                continue
            name = _last(call.func)
            self.open |= {name, "__init__", "__new__", *map(_last, call.args)}
            local = isinstance(call.func, ast.Name) and name not in self.known | outside
            if (local and call not in makers) or not isinstance(call.func, VARIABLES):
                self.open.add("*")

    def _by_position(self, owner: ast.ClassDef, visited: tuple[str, ...] = ()) -> bool:
        """Return whether all bases of a class call its methods by position."""
        for base in owner.bases:
            name = _last(base)
            if name in self.classes and name not in visited:
                if not self._by_position(self.classes[name], (*visited, name)):
                    return False
            elif name not in POSITIONAL:
                return False
        return True


def transparent(node: Any) -> bool:
    """Return whether only the program's own calls depend on the names of a function's parameters."""
    return all(
        _last(decorator) in TRANSPARENT
        # numba's `locals` names local variables
        and not any(word.arg in (None, "locals") for word in getattr(decorator, "keywords", []))
        for decorator in getattr(node, "decorator_list", [])
    )


def _last(node: ast.expr) -> str:
    """Return the c of `c`, `a.c`, `c(...)` and `c[...]`."""
    if isinstance(node, ast.Call):
        return _last(node.func)
    if isinstance(node, ast.Subscript):
        return _last(node.value)
    return last_name(node)


def _words(text: str) -> list[str]:
    """Return the names in a text that holds nothing else; none of other texts."""
    words = re.split(r"[\s,]+", text)
    return words if all(word.isidentifier() or not word for word in words) else []


def _forwarded(nodes: list[ast.AST]) -> set[ast.keyword]:
    """Return every `**rest` of a call that passes on the function's own `**rest`."""
    return {
        word
        for node in nodes
        if isinstance(node, FUNCTIONS) and node.args.kwarg
        for call in walk(node)
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg is None
        and isinstance(word.value, ast.Name)
        and word.value.id == node.args.kwarg.arg
    }


def _spelled(word: ast.keyword) -> bool:
    """Return whether `**` is followed by a dictionary with literal keys."""
    return isinstance(word.value, ast.Dict) and all(
        isinstance(key, ast.Constant) for key in word.value.keys
    )


def _makers(nodes: list[ast.AST]) -> set[ast.Call]:
    """Return the calls `cls(...)` in class methods."""
    makers = set()
    for node in nodes:
        if isinstance(node, FUNCTIONS) and "classmethod" in map(_last, node.decorator_list):
            first = [*node.args.posonlyargs, *node.args.args][0].arg
            calls = (n for n in walk(node) if isinstance(n, ast.Call))
            makers |= {c for c in calls if isinstance(c.func, ast.Name) and c.func.id == first}
    return makers
