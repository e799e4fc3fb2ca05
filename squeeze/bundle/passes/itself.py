"""Programs that read their own file: what they find there, and the form that lets them.

Where the text is read by an expression that is recognised, the bundle's restored source stands for it,
as a text whose length and encoding are those of the shipped file: what a program prints as the size
of its code is that of the file. Any other use of the file's path may read it in ways that are not
seen: such a program ships as text, which it reads as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from squeeze.bundle.analysis.effects import dotted_origin, import_origins
from squeeze.bundle.load.scopes import FUNCTIONS, module_uses
from squeeze.bundle.load.tree import children, walk

# Calls whose result is a path of the same file, when they get one.
SAME = frozenset(
    "os.fspath os.path.abspath os.path.normpath os.path.realpath pathlib.Path pathlib.PurePath "
    "str".split()
)
SAME_METHODS = frozenset("absolute as_posix expanduser resolve".split())
OPENING = frozenset("codecs.open io.open open tokenize.open".split())
# Calls that do not read a file as text.
OTHER = frozenset("bool hash len print repr shutil.copy shutil.copy2 shutil.copyfile".split())
OTHER_MODULES = frozenset("os os.path subprocess".split())
SOURCE_TEXT = "SourceText"
TEXT = """
class SourceText(str):
    encode = lambda self, *_: open(__file__, "rb").read()
    __len__ = lambda self: len(self.encode())
"""
READ = f"{SOURCE_TEXT}(''.join(linecache.getlines(__file__)))"
HOLDERS = (
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Return,
    ast.Yield,
    ast.Attribute,
    ast.keyword,
)


@dataclass
class SelfReads:
    """Expressions of a program that read its own file.

    texts: those that give its text. unclear: uses of its path that may read it in another way.
    """

    texts: list[ast.expr] = field(default_factory=list)
    unclear: list[ast.AST] = field(default_factory=list)


def self_reads(tree: ast.Module) -> SelfReads:
    """Return what reads the program's own file, `__file__` or `sys.argv[0]`."""
    return _Finder(tree).reads


def restore_reads(tree: ast.Module, reads: SelfReads) -> None:
    """Put the restored source for the texts, in place."""
    if not reads.texts:
        return
    _Replace({id(node) for node in reads.texts}).visit(tree)
    at = int(ast.get_docstring(tree) is not None)
    while at < len(tree.body) and getattr(tree.body[at], "module", "") == "__future__":
        at += 1
    tree.body[at:at] = ast.parse("import linecache\n" + TEXT).body
    ast.fix_missing_locations(tree)


class _Replace(ast.NodeTransformer):
    def __init__(self, texts: set[int]) -> None:
        self.texts = texts

    def visit(self, node: ast.AST) -> ast.AST:
        if id(node) in self.texts:
            return ast.parse(READ, mode="eval").body
        return self.generic_visit(node)


class _Finder:
    """Walk from every mention of the program's path to what is done with it."""

    def __init__(self, tree: ast.Module) -> None:
        self.reads = SelfReads()
        self._origins = import_origins(tree)
        self._parents = {child: node for node in walk(tree) for child in children(node)}
        self._module = {use.node for use in module_uses(tree) if isinstance(use.node, ast.Name)}
        self._tree = tree
        self._followed: set[tuple[ast.AST, str]] = set()
        for node in list(walk(tree)):
            if isinstance(node, ast.Name) and node.id == "__file__" and node in self._module:
                self._follow(node)
            elif (
                isinstance(node, ast.Subscript)
                and dotted_origin(node.value, self._origins) == "sys.argv"
            ):
                if isinstance(node.slice, ast.Constant) and node.slice.value == 0:
                    self._follow(node)
            elif isinstance(node, ast.Call) and self._gets_source(node):
                self._text(node)

    def _gets_source(self, node: ast.Call) -> bool:
        named = dotted_origin(node.func, self._origins) == "inspect.getsource"
        return named and any(self._is_itself(value) for value in node.args)

    def _is_itself(self, node: ast.expr) -> bool:
        """Return whether an expression is the module of the program."""
        if isinstance(node, ast.Subscript):
            return dotted_origin(node.value, self._origins) == "sys.modules"
        return dotted_origin(node, self._origins) == "__main__"

    def _follow(self, node: ast.expr) -> None:
        """Follow a path of the program's file to where it ends."""
        parent = self._parents[node]
        if isinstance(parent, ast.Call) and node in parent.args:
            self._given(parent, node)
        elif isinstance(parent, ast.Attribute):
            self._method(parent)
        elif isinstance(parent, ast.Assign | ast.NamedExpr | ast.AnnAssign):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            if isinstance(parent, ast.NamedExpr):
                self._follow(parent)
            for target in targets:
                if isinstance(target, ast.Name):
                    for use in self._loads(target):
                        self._follow(use)
                else:
                    self.reads.unclear.append(node)
        elif isinstance(parent, ast.List | ast.Tuple):
            call = self._parents[parent]
            if isinstance(call, ast.For | ast.comprehension) and isinstance(call.target, ast.Name):
                for use in self._loads(call.target):
                    self._follow(use)
                return
            name = dotted_origin(call.func, self._origins) if isinstance(call, ast.Call) else ""
            if name.rpartition(".")[0] not in OTHER_MODULES:
                self.reads.unclear.append(node)
        elif not isinstance(
            parent, ast.FormattedValue | ast.Compare | ast.BinOp | ast.Subscript | ast.Expr | ast.If
        ):
            self.reads.unclear.append(node)

    def _given(self, call: ast.Call, node: ast.expr) -> None:
        """Go on from a call that is given the path."""
        name = dotted_origin(call.func, self._origins)
        if name in SAME:
            self._follow(call)
        elif name in OPENING and call.args[0] is node:
            self._opened(call, call.args[1:])
        elif name not in OTHER and name.rpartition(".")[0] not in OTHER_MODULES:
            self.reads.unclear.append(node)

    def _method(self, attribute: ast.Attribute) -> None:
        """Go on from an attribute of the path; what is none of these gives something else than text."""
        call = self._parents[attribute]
        if not isinstance(call, ast.Call) or call.func is not attribute:
            return
        if attribute.attr in SAME_METHODS:
            self._follow(call)
        elif attribute.attr == "read_text":
            self._text(call)
        elif attribute.attr == "open":
            self._opened(call, call.args)

    def _opened(self, call: ast.Call, rest: list[ast.expr]) -> None:
        """Go on from a call that opens the file: rest, its arguments after the path."""
        modes = [*rest[:1], *(word.value for word in call.keywords if word.arg == "mode")]
        if (
            all(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
            and modes
        ):
            return
        parent = self._parents[call]
        handles: list[ast.expr] = [call]
        if isinstance(parent, ast.withitem):
            handles = []
            if isinstance(parent.optional_vars, ast.Name):
                handles = list(self._loads(parent.optional_vars))
        elif isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name):
            handles = list(self._loads(parent.targets[0]))
        for handle in handles:
            method = self._parents[handle]
            read = self._parents[method]
            name = method.attr if isinstance(method, ast.Attribute) else ""
            if name == "read" and isinstance(read, ast.Call) and not read.args:
                self._text(read)
            elif name != "close":
                self.reads.unclear.append(handle)

    def _text(self, node: ast.expr) -> None:
        """Note an expression that gives the text, unless that is kept where it must be a plain one."""
        self.reads.texts.append(node)
        parent = self._parents[node]
        uses: list[ast.expr] = [node]
        if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name):
            uses = list(self._loads(parent.targets[0]))
        for use in uses:
            holder = self._parents[use]
            method = isinstance(holder, ast.Attribute) and isinstance(
                self._parents[holder], ast.Call
            )
            if isinstance(holder, HOLDERS) and not method:
                self.reads.unclear.append(use)

    def _loads(self, target: ast.Name) -> Iterator[ast.Name]:
        """Yield the reads of a variable: in its function, or of the module."""
        scope: ast.AST = self._tree
        if target not in self._module:
            scope = target
            while not isinstance(scope, (*FUNCTIONS, ast.Lambda, ast.Module)):
                scope = self._parents[scope]
        if (scope, target.id) in self._followed:
            return
        self._followed.add((scope, target.id))
        for node in list(walk(scope)):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
                continue
            if node.id == target.id and (scope is not self._tree or node in self._module):
                yield node
