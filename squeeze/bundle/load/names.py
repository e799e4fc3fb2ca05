"""The meaning of every module-level name, and the name it has in the flat program."""

from __future__ import annotations

import ast
import builtins
import keyword
from collections import Counter, defaultdict
from dataclasses import dataclass

from squeeze.bundle.load.hints import in_hints
from squeeze.bundle.load.imports import takes_future_annotations
from squeeze.bundle.load.modules import BundleError, Graph, Module, absolute
from squeeze.bundle.load.scopes import (
    FUNCTIONS,
    alias_name,
    arguments,
    bound_names,
    module_uses,
    top_level,
)
from squeeze.bundle.load.tree import walk

BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__builtins__"}


@dataclass(frozen=True)
class Origin:
    """The meaning of an imported name: a local module (attribute None) or a name in one."""

    module: str
    attribute: str | None = None


def aliases_of(graph: Graph, module: Module) -> dict[str, Origin]:
    """Return the module-level names bound by imports of local modules, and their meanings."""
    aliases: dict[str, Origin] = {}
    for node in top_level(module.tree):
        aliases |= origins(graph, module, node)
    return aliases


def origins(graph: Graph, module: Module, node: ast.Import | ast.ImportFrom) -> dict[str, Origin]:
    """Return the meanings of names bound by one import statement; external ones are left out."""
    meanings: dict[str, Origin] = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            if graph.is_local(alias.name):
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                meanings[alias_name(node, alias)] = Origin(name)
        return meanings
    base = absolute(module, node)
    for alias in node.names:
        inner = f"{base}.{alias.name}" if base else alias.name
        itself = base == module.name and graph.is_local(inner)  # `from . import inner` binds it
        if base and graph.binds(base, alias.name) and not itself:
            meanings[alias_name(node, alias)] = Origin(base, alias.name)
        elif graph.is_local(inner):
            meanings[alias_name(node, alias)] = Origin(inner)
        elif base and graph.is_local(base):
            raise BundleError(
                f"{module.where(node)}: {base} has no {alias.name}",
                fix="Define it at the module's top level, or add it to --keep as a module.",
            )
    return meanings


def defined_by(module: Module, aliases: dict[str, Origin]) -> set[str]:
    """Return the names a module binds (also by `global` in functions), external imports included."""
    stored = {use.name for use in module_uses(module.tree) if use.stores or use.index is not None}
    imported = {
        alias_name(node, alias)
        for node in top_level(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return (stored | imported) - aliases.keys() - {"*"}


class Names:
    """Names that module-level names have in the flat program."""

    def __init__(
        self,
        graph: Graph,
        modules: list[Module],
        aliases: dict[str, dict[str, Origin]],
        defined: dict[str, set[str]],
    ) -> None:
        self.graph, self.aliases, self.defined = graph, aliases, defined
        self._settled: set[ast.AST] = set()
        self.modules = {module.name: module for module in modules}
        external = self._external()
        counts = Counter(name for names in defined.values() for name in names)
        local = {name for module in modules for name in nested_names(module.tree)}
        respelled = self._respelled()
        free = {name for m in modules for name in self._free(m)}
        taken: set[str] = set(keyword.kwlist) | BUILTINS | free
        self.chosen: dict[tuple[str, str], str] = {}
        shared: dict[tuple[str, ...], str] = {}
        meanings = Counter((what, name) for (_, name), what in external.items())
        for meaning in {external[key] for key in self._dotted() & external.keys()}:
            name = meaning[1]  # no other would do
            hidden = name in local and any(w == meaning and n != name for w, n in meanings)
            if name not in taken and not hidden:
                shared[meaning] = name
                taken.add(name)
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
                if (
                    (alone and name not in taken and not hidden)
                    or (name.startswith("__") and name.endswith("__") and counts[name] == 1)
                    or len(modules) == 1
                ):
                    new = name
                else:
                    new = self._new(module.name, name, taken | local)
                taken.add(new)
                self.chosen[key] = new
                if what is not None:
                    shared[what] = new

    def _dotted(self) -> set[tuple[str, str]]:
        """Return the names that imports such as `import a.b` bind."""
        return {
            (module.name, alias.name.partition(".")[0])
            for module in self.modules.values()
            for node in top_level(module.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if "." in alias.name and alias.asname is None
        }

    def _free(self, module: Module) -> set[str]:
        """Return the builtins that a module reads, and names of star imports from modules outside.

        Not what only postponed annotations name, which may be imported for type checkers alone.
        """
        own = self.defined[module.name] | self.aliases[module.name].keys()
        hints = in_hints(module.tree) if takes_future_annotations(module) else set()
        uses = [use for use in module_uses(module.tree) if not use.either and use.node not in hints]
        return {use.name for use in uses} - own

    def _respelled(self) -> set[tuple[str, str]]:
        """Return names that some module reads under another spelling: `as`, or `module.name`."""
        respelled: set[tuple[str, str]] = set()
        for module in self.modules.values():
            every = [
                origin_of
                for node in walk(module.tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for origin_of in origins(self.graph, module, node).items()
            ]
            for spelled, origin in every:
                if origin.attribute is None:
                    whole = self.modules.get(origin.module)
                    names = self.defined[origin.module] if whole is not None else set()
                    respelled |= {(origin.module, name) for name in names}
                elif spelled != origin.attribute:
                    respelled.add((origin.module, origin.attribute))
        return respelled

    def _external(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return meanings of names that only plain top-level imports bind: equal ones share a name."""
        external: dict[tuple[str, str], tuple[str, ...]] = {}
        for module in self.modules.values():
            stores = Counter(
                u.name for u in module_uses(module.tree) if u.stores or u.index is not None
            )
            meanings: dict[str, list[tuple[str, ...]]] = defaultdict(list)
            for node in module.tree.body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        meanings[alias_name(node, alias)].append(meaning_of(node, alias))
            for name in meanings.keys() & self.defined[module.name]:
                if stores[name] == len(meanings[name]) and len(set(meanings[name])) == 1:
                    external[module.name, name] = meanings[name][0]
        return external

    @staticmethod
    def _new(module: str, name: str, taken: set[str]) -> str:
        stem = f"{module.rpartition('.')[2].strip('_')}_{name.strip('_')}"
        new, number = stem, 2
        while new in taken:
            new, number = f"{stem}{number}", number + 1
        return new

    def resolve(self, module: str, name: str) -> str:
        """Return the flat name of a module's name, re-exports followed; a builtin stays what it is."""
        visited = set()
        while name not in self.defined[module]:
            origin = self.aliases[module].get(name)
            if origin is None or origin.attribute is None or (module, name) in visited:
                return name
            visited.add((module, name))
            module, name = origin.module, origin.attribute
        return self.chosen[module, name]

    def settled(self, new: str, old: ast.expr, ctx: ast.expr_context) -> ast.Name:
        """Return a node for a name that is the flat one already, to stand where `old` stood."""
        node = ast.copy_location(ast.Name(new, ctx), old)
        self._settled.add(node)
        return node

    def is_settled(self, node: ast.AST) -> bool:
        """Return whether a node came from `settled`, so that it is not to be renamed again."""
        return node in self._settled

    def module_of(self, module: str, name: str) -> str | None:
        """Return the local module that a name of another one stands for, None if it is no module."""
        visited = set()
        while name not in self.defined[module] and (module, name) not in visited:
            visited.add((module, name))
            origin = self.aliases[module].get(name)
            if origin is None:
                return None
            if origin.attribute is None:
                return origin.module
            module, name = origin.module, origin.attribute
        return None


def meaning_of(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> tuple[str, ...]:
    """Return what tells the value an import binds from that of another one."""
    if isinstance(node, ast.ImportFrom):
        return ("from", node.module or "", alias.name)
    return ("import", alias.name if alias.asname else alias.name.partition(".")[0])


def nested_names(tree: ast.Module) -> set[str]:
    """Return names bound in any function, class or comprehension, which would hide a global one."""
    names: set[str] = set()
    for node in walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            bound, redirected, _ = bound_names(body)
            names |= {arg.arg for arg in arguments(node.args)} | bound - redirected
        elif isinstance(node, ast.ClassDef):
            names |= bound_names(node.body)[0]
        elif isinstance(node, ast.comprehension):
            names |= {n.id for n in walk(node.target) if isinstance(n, ast.Name)}
    return names
