"""The local modules that an entry script really uses, found without running any of them."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from squeeze.bundle.load.included import included
from squeeze.bundle.load.scopes import FUNCTIONS, module_uses
from squeeze.bundle.load.tree import children, drop_literals_, parsed, walk
from squeeze.errors import SqueezeError

OUR_NJIT = "squeeze.codecs.jit"  # numba's, with a cache that is keyed by the sources around it


class BundleError(SqueezeError):
    """Sources that cannot be made into one file that does the same."""


@dataclass
class Module:
    """One source file. tree: parsed, branches that never run in a bundle taken out.

    bound: names of its top level, those that only functions bind by `global` among them.
    """

    name: str
    path: Path
    source: str
    is_package: bool = False
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))
    bound: frozenset[str] = frozenset()

    def where(self, node: ast.AST) -> str:
        """Return file:line of a node, for messages."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@dataclass(frozen=True)
class Import:
    """A local module named by an import statement. lazy: inside a function."""

    module: str
    lazy: bool


class Graph:
    """Modules by name, in the order in which a bundle runs them: what is imported comes first.

    entry: the script, named `__main__`. packages: top-level names that are bundled wherever they are
    installed; modules beside the script are bundled too. constants: values of module-level flags,
    which decide branches (see `fold`). text: source of the script, where it is not what the file says.
    Raises BundleError for a file that is missing or not Python.
    """

    def __init__(
        self,
        entry: Path,
        packages: Iterable[str] = (),
        constants: dict[str, object] | None = None,
        text: str | None = None,
    ) -> None:
        self.packages = tuple(packages)
        self.folder = entry.resolve().parent
        self.constants = dict(constants or {})
        self.modules: dict[str, Module] = {}
        self.imports: dict[str, list[Import]] = {}
        self._locations: dict[str, tuple[Path, bool] | None] = {}
        self._mentioned: set[str] = set()  # names of top levels that something reads or binds
        self.included: list[Path] = []  # files that the script runs in its own place
        for package in self.packages:
            if self._locate(package) is None and _find_spec(package) is None:
                raise BundleError(
                    f"--package {package}: no such package",
                    expected=f"a folder beside {entry.name}, or an installed one",
                )
        self._load("__main__", entry, False, text)
        queue = ["__main__"]
        while queue:
            for imported in self.imports[queue.pop(0)]:
                if imported.module not in self.modules:
                    path, is_package = self._locate(imported.module) or (Path(), False)
                    self._load(imported.module, path, is_package)
                    queue.append(imported.module)
        for name in self.constants.keys() - self._mentioned:
            raise BundleError(
                f"--define {name}: nothing at the top level of a module has that name"
            )

    def ordered(self) -> list[Module]:
        """Return the modules, each after those it imports at its top level; the entry last."""
        done: dict[str, Module] = {}
        running: set[str] = set()

        def visit(name: str) -> None:
            if name in done or name in running:
                return  # a circle: the one that was begun first goes on, as at run time
            running.add(name)
            for imported in self.imports[name]:
                if not imported.lazy:
                    visit(imported.module)
            done[name] = self.modules[name]

        for name in [*(n for n in self.modules if n != "__main__"), "__main__"]:
            visit(name)
        done["__main__"] = done.pop("__main__")
        return list(done.values())

    def at_start(self) -> set[str]:
        """Return the modules that run without any function being called."""
        names: set[str] = set()
        queue = ["__main__"]
        while queue:
            name = queue.pop()
            if name not in names:
                names.add(name)
                queue += [i.module for i in self.imports[name] if not i.lazy]
        return names

    def is_local(self, name: str) -> bool:
        """Return whether a dotted name is a module that goes into the bundle."""
        return self._locate(name) is not None

    def binds(self, module: str, name: str) -> bool:
        """Return whether a local module binds a name; a folder without `__init__.py` binds none."""
        return module in self.modules and name in self.modules[module].bound

    @property
    def sources(self) -> tuple[Path, ...]:
        """All files that go into the bundle."""
        return (*(module.path for module in self.modules.values()), *self.included)

    def _load(self, name: str, path: Path, is_package: bool, text: str | None = None) -> None:
        from squeeze.bundle.load.fold import fold

        try:
            source = _read_source(path) if text is None else text
            tree = parsed(source, str(path))
            if name == "__main__":
                self.included += included(tree, path)
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise BundleError(f"{path}: cannot be read", found=cause) from None
        except (SyntaxError, ValueError, RecursionError) as error:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise BundleError(
                f"{path}: not Python",
                expected=f"what Python {version} understands",
                found=str(error)[:200],
                fix="Bundle newer syntax with the Python that runs it.",
            ) from None
        _with_plain_numba(tree)
        for node in walk(tree):  # they would become docstrings once what stands before them goes
            drop_literals_(node)
        module = Module(name, path, source, is_package, tree)
        self._mentioned |= {use.name for use in module_uses(tree)}
        constants = {"TYPE_CHECKING": False, **self.constants}
        if name != "__main__":  # the entry's name is another one in a process it starts
            docstring = ast.get_docstring(tree, clean=False)
            constants |= {"__name__": name, "__doc__": docstring}
        module.tree = fold(tree, constants)
        uses = module_uses(module.tree)
        module.bound = frozenset(use.name for use in uses if use.stores or use.index is not None)
        self.modules[name] = module
        self.imports[name] = list(dict.fromkeys(self.local_imports(module, module.tree)))

    def local_imports(self, module: Module, tree: ast.Module) -> Iterator[Import]:
        """Yield the local modules that `tree`, a part of `module`, imports, packages around them too."""
        for node, lazy in imports_of(tree):
            for name in self.targets(module, node):
                parts = name.split(".")
                for depth in range(1, len(parts) + 1):  # importing a.b runs a first
                    parent = ".".join(parts[:depth])
                    if self.is_local(parent) and parent != module.name:
                        yield Import(parent, lazy)

    def targets(self, module: Module, node: ast.Import | ast.ImportFrom) -> list[str]:
        """Return the dotted names of all local modules an import statement loads."""
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names if self.is_local(alias.name)]
        base = absolute(module, node)
        submodules = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
        return [name for name in [base, *submodules] if name and self.is_local(name)]

    def _locate(self, name: str) -> tuple[Path, bool] | None:
        """Return (source file, is a package) of a local module; None for everything else."""
        if name not in self._locations:
            self._locations[name] = self._search(name)
        return self._locations[name]

    def _search(self, name: str) -> tuple[Path, bool] | None:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        beside = self.folder.joinpath(*parts)
        for path, is_package in (
            (beside / "__init__.py", True),
            (beside.with_suffix(".py"), False),
        ):
            if path.is_file():
                return path, is_package
        if parts[0] not in self.packages:
            return None
        spec = _find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        return Path(spec.origin), spec.submodule_search_locations is not None


def _read_source(path: Path) -> str:
    """Return the text of a script in the encoding that its mark or a comment states, as Python does."""
    with tokenize.open(path) as file:
        return file.read()


def _with_plain_numba(tree: ast.Module) -> None:
    """Import numba's own `njit` instead of ours: a bundle has no sources beside it, and no cache."""
    for node in walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == OUR_NJIT:
            node.module = "numba"


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of a module without importing its parents, which would run them."""
    path: list[str] | None = None
    parts, spec = name.split("."), None
    for depth in range(1, len(parts) + 1):
        full = ".".join(parts[:depth])
        for finder in sys.meta_path:
            spec = finder.find_spec(full, path)
            if spec is not None:
                break
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the dotted name after `from`, relative ones resolved. Raises BundleError beyond the top."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".") if module.name != "__main__" else []
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    if keep < 0 or (keep == 0 and not node.module and module.name == "__main__"):
        raise BundleError(f"{module.where(node)}: relative import beyond the top-level package")
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def imports_of(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield every import statement, and whether it stands inside a function."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
        for child in children(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child, lazy
            yield from visit(child, lazy or isinstance(child, FUNCTIONS))

    yield from visit(tree, False)
