"""One module out of many: local imports resolved, names made unique, everything in running order."""

from __future__ import annotations

import ast
import builtins
import keyword
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from squeeze.bundle.fold import Filling
from squeeze.bundle.modules import BundleError, Graph, Module, absolute
from squeeze.bundle.scopes import (
    FUNCTIONS,
    Use,
    alias_name,
    arguments,
    bound_names,
    module_uses,
)

BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__builtins__"}


@dataclass(frozen=True)
class Origin:
    """What an imported name stands for: a local module (attribute None) or a name in one."""

    module: str
    attribute: str | None = None


@dataclass
class Flat:
    """The flat program. owners: module of each top-level statement; homes: (module, name) of each name.

    warnings: `file:line: what may not survive`. refused: names that stand for what cannot be bundled,
    and the error to raise if one of them is reached.
    """

    tree: ast.Module
    owners: dict[int, str]
    homes: dict[str, tuple[str, str]]
    warnings: list[str] = field(default_factory=list)
    refused: dict[str, BundleError] = field(default_factory=dict)

    def check(self) -> None:
        """Raise BundleError if the tree still holds anything that was refused."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id in self.refused:
                raise self.refused[node.id]


def flatten(graph: Graph) -> Flat:
    """Join the modules of a graph into one that runs them in order, once each.

    Top-level code of modules that are imported inside functions runs at the start, too. Raises
    BundleError, naming the line, where that cannot give the same program: star imports of computed
    names, assignments to another module's names. Modules used as values are `refused`.
    """
    modules = graph.ordered()
    aliases = {module.name: _aliases(graph, module) for module in modules}
    defined = {module.name: _defined(module, aliases[module.name]) for module in modules}
    names = _Names(graph, modules, aliases, defined)
    body: list[ast.stmt] = []
    owners: dict[int, str] = {}
    warnings: list[str] = []
    refused: dict[str, BundleError] = {}
    future = False
    for module in modules:
        future |= _takes_future_annotations(module)
        attributes = _Attributes(module, graph, names)
        attributes.visit(module.tree)
        refused |= attributes.refused
        _Locals(module, graph, names).visit(module.tree)
        _WithoutAll().visit(module.tree)
        uses = [use for use in module_uses(module.tree) if not hasattr(use.node, "_flat")]
        for use in uses:
            _rename(use, names.resolve(module.name, use.name), module)
        statements = [s for node in module.tree.body for s in _without_local(node, graph, module)]
        for statement in statements:
            owners[id(statement)] = module.name
        body += statements
        warnings += _warn(module)
    if future:
        body.insert(0, ast.ImportFrom("__future__", [ast.alias("annotations")], 0))
    body = _join_imports(body, owners)
    tree = ast.fix_missing_locations(ast.Module(body, []))
    homes = {new: key for key, new in names.chosen.items()}
    return Flat(tree, owners, homes, warnings, refused)


def _resolved(new: str, old: ast.expr, ctx: ast.expr_context) -> ast.Name:
    """A name of the flat program: already what it shall be."""
    node = ast.copy_location(ast.Name(new, ctx), old)
    node._flat = True  # type: ignore[attr-defined]
    return node


def _aliases(graph: Graph, module: Module) -> dict[str, Origin]:
    """Module-level names bound by imports of local modules."""
    found: dict[str, Origin] = {}
    for node in _top_level(module.tree):
        found |= _origins(graph, module, node)
    return found


class _WithoutAll(Filling):
    """Statements about `__all__` go: nothing in a single module reads it."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        return None if ast.unparse(node.targets[0]) == "__all__" else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        return None if ast.unparse(node.target) == "__all__" else node

    def visit_Expr(self, node: ast.Expr) -> Any:
        return None if ast.unparse(node).startswith("__all__.") else node


def _rename(use: Use, new: str, module: Module) -> None:
    if use.either:
        if new != use.name:
            raise BundleError(
                f"{module.where(use.node)}: a class body reads {use.name}, which it also binds, and "
                "another module binds that name, too"
            )
        return
    if not isinstance(use.node, ast.alias):
        use.rename(new)
        return
    name, bound = use.node.name, use.node.asname
    if bound is None and "." in name and name.partition(".")[0] != new:
        raise BundleError(
            f"{module.path}: import {name} and another module's {use.name} cannot both keep their name",
            fix=f"Write import {name} as something else.",
        )
    keeps = bound is None and "." in name
    use.node.asname = None if keeps or name == new else new


def _top_level(node: ast.AST) -> Iterator[Any]:
    """Statements that run in the module's own scope, those in blocks included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from _top_level(child)


def _origins(graph: Graph, module: Module, node: ast.Import | ast.ImportFrom) -> dict[str, Origin]:
    """What the local names bound by one import statement stand for; external ones are left out."""
    found: dict[str, Origin] = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            if graph.is_local(alias.name):
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias_name(node, alias)] = Origin(name)
        return found
    base = absolute(module, node)
    for alias in node.names:
        inner = f"{base}.{alias.name}" if base else alias.name
        if alias.name == "*":
            if graph.is_local(base):
                found |= {name: Origin(base, name) for name in _public(graph, graph.modules[base])}
        elif base and graph.is_local(base) and alias.name in graph.modules[base].bound:
            found[alias_name(node, alias)] = Origin(base, alias.name)
        elif graph.is_local(inner):
            found[alias_name(node, alias)] = Origin(inner)
        elif base and graph.is_local(base):
            raise BundleError(
                f"{module.where(node)}: {base} has no {alias.name}",
                fix="Define it at the module's top level, or add it to --keep as a module.",
            )
    return found


def _public(graph: Graph, module: Module) -> list[str]:
    """Names that `from module import *` binds."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            try:
                return list(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                raise BundleError(f"{module.where(node)}: __all__ is computed") from None
    return sorted(name for name in module.bound if not name.startswith("_") and name != "*")


def _defined(module: Module, aliases: dict[str, Origin]) -> set[str]:
    """Names the module binds itself (also by `global` in functions), imports of others included."""
    stored = {use.name for use in module_uses(module.tree) if use.stores or use.index is not None}
    imported = {
        alias_name(node, alias)
        for node in _top_level(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    both = {
        use.name: use for use in module_uses(module.tree)
        if use.stores and use.name in aliases and not isinstance(use.node, ast.alias)
    }  # fmt: skip
    for name, use in both.items():
        raise BundleError(
            f"{module.where(use.node)}: {name} is imported from a local module and bound again"
        )
    return (stored | imported) - aliases.keys() - {"*"}


class _Names:
    """The name each module-level name has in the flat program."""

    def __init__(
        self,
        graph: Graph,
        modules: list[Module],
        aliases: dict[str, dict[str, Origin]],
        defined: dict[str, set[str]],
    ) -> None:
        self.graph, self.aliases, self.defined = graph, aliases, defined
        self.modules = {module.name: module for module in modules}
        external = self._external()
        counts = Counter(name for names in defined.values() for name in names)
        local = {name for module in modules for name in _nested_names(module.tree)}
        respelled = self._respelled()
        # builtins, and names of star imports from modules outside
        free = {
            use.name for m in modules for use in module_uses(m.tree)
            if use.name not in defined[m.name] and use.name not in aliases[m.name]
        }  # fmt: skip
        taken: set[str] = set(keyword.kwlist) | BUILTINS | free
        self.chosen: dict[tuple[str, str], str] = {}
        shared: dict[tuple[str, ...], str] = {}
        meanings = Counter((what, name) for (_, name), what in external.items())
        for module in modules:
            for name in sorted(defined[module.name]):
                key = (module.name, name)
                what = external.get(key)
                if what is not None and what in shared:
                    self.chosen[key] = shared[what]
                    continue
                # where a name is spelled otherwise, a local one of its new spelling could hide it
                hidden = name in local and (
                    key in respelled or any(w == what and n != name for w, n in meanings)
                )
                alone = counts[name] == (meanings[what, name] if what is not None else 1)
                if (alone and name not in taken and not hidden) or (
                    name.startswith("__") and name.endswith("__") and counts[name] == 1
                ):
                    new = name
                else:
                    new = self._new(module.name, name, taken | local)
                taken.add(new)
                self.chosen[key] = new
                if what is not None:
                    shared[what] = new

    def _respelled(self) -> set[tuple[str, str]]:
        """Names that some module reads under another spelling: `as`, or an attribute of the module."""
        found: set[tuple[str, str]] = set()
        for module in self.modules.values():
            every = [
                origin_of
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for origin_of in _origins(self.graph, module, node).items()
            ]
            for spelled, origin in every:
                if origin.attribute is None:
                    whole = self.modules.get(origin.module)
                    names = self.defined[origin.module] if whole is not None else set()
                    found |= {(origin.module, name) for name in names}
                elif spelled != origin.attribute:
                    found.add((origin.module, origin.attribute))
        return found

    def _external(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """What names bound once, by a plain top-level import, mean: equal meanings share a name."""
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for module in self.modules.values():
            stores = Counter(
                u.name for u in module_uses(module.tree) if u.stores or u.index is not None
            )
            for node in module.tree.body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        name = alias_name(node, alias)
                        if name in self.defined[module.name] and stores[name] == 1:
                            found[module.name, name] = _meaning(node, alias)
        return found

    @staticmethod
    def _new(module: str, name: str, taken: set[str]) -> str:
        stem = f"{module.rpartition('.')[2].strip('_')}_{name.strip('_')}"
        new, number = stem, 2
        while new in taken:
            new, number = f"{stem}{number}", number + 1
        return new

    def resolve(self, module: str, name: str) -> str:
        """The flat name of a module's name, re-exports followed; a builtin stays what it is."""
        seen = set()
        while name not in self.defined[module]:
            origin = self.aliases[module].get(name)
            if origin is None or origin.attribute is None or (module, name) in seen:
                return name
            seen.add((module, name))
            module, name = origin.module, origin.attribute
        return self.chosen[module, name]

    def module_of(self, module: str, name: str) -> str | None:
        """The local module a name of another stands for, if that is what it is."""
        seen = set()
        while name not in self.defined[module] and (module, name) not in seen:
            seen.add((module, name))
            origin = self.aliases[module].get(name)
            if origin is None:
                return None
            if origin.attribute is None:
                return origin.module
            module, name = origin.module, origin.attribute
        return None


def _meaning(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> tuple[str, ...]:
    if isinstance(node, ast.ImportFrom):
        return ("from", node.module or "", alias.name)
    return ("import", alias.name if alias.asname else alias.name.partition(".")[0])


def _nested_names(tree: ast.Module) -> set[str]:
    """Names bound in any function, class or comprehension: a global of that name would be hidden."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            bound, redirected, _ = bound_names(body)
            found |= {arg.arg for arg in arguments(node.args)} | bound - redirected
        elif isinstance(node, ast.ClassDef):
            found |= bound_names(node.body)[0]
        elif isinstance(node, ast.comprehension):
            found |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    return found


class _Attributes(ast.NodeTransformer):
    """`module.name` becomes the flat name, for every alias of a local module."""

    def __init__(self, module: Module, graph: Graph, names: _Names) -> None:
        self.module, self.graph, self.names = module, graph, names
        self.refused: dict[str, BundleError] = {}
        self.global_ids = {id(u.node) for u in module_uses(module.tree)}
        self.functions: list[dict[str, Origin]] = []

    def _function(self, node: Any) -> Any:
        found: dict[str, Origin] = {}
        for child in _own_imports(node):
            found |= _origins(self.graph, self.module, child)
        self.functions.append(found)
        self.generic_visit(node)
        self.functions.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def _module(self, node: ast.expr) -> str | None:
        """The local module an expression stands for."""
        if isinstance(node, ast.Name):
            for found in reversed(self.functions):
                if node.id in found:
                    origin = found[node.id]
                    if origin.attribute is None:
                        return origin.module
                    return self.names.module_of(origin.module, origin.attribute)
            if id(node) in self.global_ids:
                return self.names.module_of(self.module.name, node.id)
        elif isinstance(node, ast.Attribute):
            base = self._module(node.value)
            if base is not None:
                inner = f"{base}.{node.attr}"
                if node.attr not in self.graph.modules[base].bound:
                    return inner if self.graph.is_local(inner) else None
                return self.names.module_of(base, node.attr)
        return None

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        base = self._module(node.value)
        if base is None:
            return self.generic_visit(node)
        if self._module(node) is not None:
            return self._as_value(node, ast.unparse(node))
        if not isinstance(node.ctx, ast.Load):
            raise BundleError(
                f"{self.module.where(node)}: assigns to {base}.{node.attr}",
                fix="Give that module a function that sets it.",
            )
        if node.attr not in self.graph.modules[base].bound:
            raise BundleError(f"{self.module.where(node)}: {base} has no {node.attr}")
        new = self.names.resolve(base, node.attr)
        return _resolved(new, node, node.ctx)

    def visit_Name(self, node: ast.Name) -> Any:
        if isinstance(node.ctx, ast.Load) and self._module(node) is not None:
            return self._as_value(node, node.id)
        return node

    def _as_value(self, node: ast.expr, name: str) -> ast.Name:
        error = BundleError(
            f"{self.module.where(node)}: the module {name} is used as a value",
            fix="Import the names that are needed from it.",
        )
        marker = f"_module_{name.replace('.', '_')}_{len(self.refused)}_{self.module.where(node)}"
        self.refused[marker] = error
        return _resolved(marker, node, ast.Load())


class _Locals(ast.NodeTransformer):
    """Names that functions import from local modules are read under their flat names."""

    def __init__(self, module: Module, graph: Graph, names: _Names) -> None:
        self.module, self.graph, self.names = module, graph, names

    def _function(self, node: Any) -> Any:
        for child in _own_imports(node):
            for name, origin in _origins(self.graph, self.module, child).items():
                if origin.attribute is not None:
                    _Rename(name, self.names.resolve(origin.module, origin.attribute)).body_of(node)
        self.generic_visit(node)
        node.body = [s for part in node.body for s in _without_local(part, self.graph, self.module)]
        node.body = node.body or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function


class _Rename(ast.NodeTransformer):
    """One name of a function, and of the functions in it that do not bind it themselves."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def body_of(self, node: Any) -> None:
        node.body = [self.visit(child) for child in node.body]

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id != self.old or hasattr(node, "_flat"):
            return node
        return _resolved(self.new, node, node.ctx)

    def _function(self, node: Any) -> Any:
        body = node.body if isinstance(node.body, list) else [node.body]
        bound, _, outer = bound_names(body)
        hidden = self.old in (bound - outer) | {arg.arg for arg in arguments(node.args)}
        if not hidden:
            return self.generic_visit(node)
        for name in ("decorator_list", "args"):
            if hasattr(node, name):
                value = getattr(node, name)
                for child in value if isinstance(value, list) else [value]:
                    self.visit(child)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function


def _own_imports(node: Any) -> list[ast.Import | ast.ImportFrom]:
    """Import statements of a function's own scope."""
    return list(_top_level(ast.Module(node.body, [])))


def _without_local(node: ast.stmt, graph: Graph, module: Module) -> list[ast.stmt]:
    """The statement without imports of local modules and of __future__; nothing if it was only that."""
    if isinstance(node, ast.Import):
        node.names = [alias for alias in node.names if not graph.is_local(alias.name)]
    elif isinstance(node, ast.ImportFrom):
        base = absolute(module, node)
        if base == "__future__" or graph.is_local(base):
            return []
        node.names = [
            a for a in node.names if not graph.is_local(f"{base}.{a.name}" if base else a.name)
        ]
    else:
        _Nested(graph, module).generic_visit(node)
        return [node]
    return [node] if node.names else []


class _Nested(ast.NodeTransformer):
    def __init__(self, graph: Graph, module: Module) -> None:
        self.graph, self.module = graph, module

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return _without_local(node, self.graph, self.module) or ast.Pass()
        return self.generic_visit(node)


def _takes_future_annotations(module: Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for node in module.tree.body
    )


def _join_imports(body: list[ast.stmt], owners: dict[int, str]) -> list[ast.stmt]:
    """Plain external imports once each and first, the others where they are."""
    imports: dict[str, ast.stmt] = {}
    rest: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                single: ast.stmt
                if isinstance(statement, ast.Import):
                    single = ast.Import([alias])
                else:
                    single = ast.ImportFrom(statement.module, [alias], statement.level)
                owners[id(single)] = owners.get(id(statement), "__main__")
                imports.setdefault(ast.unparse(ast.fix_missing_locations(single)), single)
        else:
            rest.append(statement)
    first = [text for text in imports if text.startswith("from __future__")]
    ordered = [imports.pop(text) for text in first]
    return [*ordered, *imports.values(), *rest]


def _warn(module: Module) -> Iterable[str]:
    """What a reader of the flat file should know may not work in it."""
    told: dict[str, str] = {
        "exec": "code in a string is not seen by the bundler",
        "eval": "code in a string is not seen by the bundler",
        "__import__": "an import that is computed is not bundled",
        "import_module": "an import that is computed is not bundled",
        "globals": "names in the bundle are not those of the source",
        "__file__": "the bundle is another file, in another folder",
        "getsource": "the bundle's source is minified",
    }
    places: dict[str, list[str]] = defaultdict(list)
    for node in ast.walk(module.tree):
        name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
        method = name in ("exec", "eval", "globals") and isinstance(node, ast.Attribute)
        if name in told and isinstance(node, ast.Name | ast.Attribute) and not method:
            places[f"{name}: {told[name]}"].append(module.where(node))
        if isinstance(node, ast.Call) and _opens_relative(node):
            places["open: a relative data file does not travel with the code"].append(
                module.where(node)
            )
    for text, where in places.items():
        for place in where:
            yield f"{place}: {text}"


def _opens_relative(node: ast.Call) -> bool:
    named = isinstance(node.func, ast.Name) and node.func.id in ("open", "Path")
    if not (named and node.args and isinstance(node.args[0], ast.Constant)):
        return False
    value = node.args[0].value
    return isinstance(value, str) and value != "" and not value.startswith(("/", "~"))
