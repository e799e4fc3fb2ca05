"""Branches that constants decide are cut before anything else looks at the code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from squeeze.bundle.load.scopes import FUNCTIONS, bound_names, module_uses
from squeeze.bundle.load.tree import BLOCKS, children, walk

UNKNOWN = object()
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
PLAIN = (bool, int, float, str, bytes, tuple, type(None))
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def fold(tree: ast.Module, constants: dict[str, object]) -> ast.Module:
    """Return the tree with `if`, `while` and conditional expressions on known flags decided.

    constants: module-level names and what they are; wherever such a name is read, the value stands
    instead. Modules that set such names set them to the value.
    """
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        name = targets[0].id if isinstance(targets[0], ast.Name) else ""
        if len(targets) == 1 and name in constants and getattr(node, "value", None) is not None:
            vars(node)["value"] = literal_node(constants[name])
    values: dict[ast.AST, object] = {
        use.node: constants[use.name]
        for use in module_uses(tree)
        if isinstance(use.node, ast.Name) and use.name in constants and not use.stores
    }
    return ast.fix_missing_locations(_Fold(values).visit(tree))


def fold_constants(tree: ast.Module) -> ast.Module:
    """Return the tree with what literals decide decided, and nothing after the end of a block."""
    return ast.fix_missing_locations(_Fold({}).visit(tree))


def literal_node(value: object) -> ast.expr:
    """Return the expression that stands for a plain value."""
    return ast.parse(repr(value), mode="eval").body


def value_of(node: ast.expr) -> Any:
    """Return the constant an expression is known to be, or UNKNOWN."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING":
        return False
    if isinstance(node, ast.Tuple):
        values = tuple(value_of(part) for part in node.elts)
        return UNKNOWN if any(value is UNKNOWN for value in values) else values
    if isinstance(node, ast.UnaryOp):
        return _unary(node)
    if isinstance(node, ast.BoolOp):
        return _decided(node)
    if isinstance(node, ast.BinOp):
        return _computed(node)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _compared(node)
    return UNKNOWN


def _computed(node: ast.BinOp) -> Any:
    """Return what arithmetic of whole numbers gives."""
    left, right = value_of(node.left), value_of(node.right)
    if type(left) is not int or type(right) is not int or type(node.op) not in ARITHMETIC:
        return UNKNOWN
    if not right and isinstance(node.op, ast.FloorDiv | ast.Mod):
        return UNKNOWN
    return ARITHMETIC[type(node.op)](left, right)


def _unary(node: ast.UnaryOp) -> Any:
    inner = value_of(node.operand)
    if inner is UNKNOWN:
        return UNKNOWN
    if isinstance(node.op, ast.Not):
        return not inner
    return -inner if isinstance(node.op, ast.USub) and type(inner) in (int, float) else UNKNOWN


def _decided(node: ast.BoolOp) -> Any:
    """Return the value that a leading run of known values decides: the rest may have effects."""
    values = [value_of(part) for part in node.values]
    for value in values:
        if value is UNKNOWN:
            return UNKNOWN
        if bool(value) is isinstance(node.op, ast.Or):
            return value
    return values[-1]


def _compared(node: ast.Compare) -> Any:
    left, right = value_of(node.left), value_of(node.comparators[0])
    if (
        right == ()
        and isinstance(node.left, ast.Name)
        and isinstance(node.ops[0], ast.In | ast.NotIn)
    ):
        return isinstance(node.ops[0], ast.NotIn)
    if not (isinstance(left, PLAIN) and isinstance(right, PLAIN)):
        return UNKNOWN
    kind = type(node.ops[0])
    if kind in (ast.Is, ast.IsNot):  # of other values it is the interpreter's affair
        if left is None or right is None or isinstance(left, bool) or isinstance(right, bool):
            return (left is right) is (kind is ast.Is)
        return UNKNOWN
    try:
        return COMPARISONS[kind](left, right)
    except TypeError:  # the program will say so
        return UNKNOWN


class Filling(ast.NodeTransformer):
    """Transformer that drops statements: a block left without the one it must hold gets `pass`."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


class _Fold(Filling):
    """Transformer that decides what constants decide.

    values: the nodes that read a constant, and what it is. What goes from a function may have made it a
    generator, or a name its own: then a branch that never runs goes on saying so.
    """

    def __init__(self, values: dict[ast.AST, object]) -> None:
        self.values = values

    def visit_FunctionDef(self, node: Any) -> Any:
        yields, (bound, *declared) = _yields(node), bound_names(node.body)
        self.generic_visit(node)
        left, *_ = bound_names(node.body)
        missing: list[ast.stmt] = []
        lost = (bound - left).difference(*declared)
        if lost:
            read = {n.id for n in walk(node) if isinstance(n, ast.Name)}
            missing += [
                ast.Assign([ast.Name(name, ast.Store())], literal_node(0))
                for name in sorted(lost & read)
            ]
        if yields and not _yields(node):
            missing.append(ast.Expr(ast.Yield()))
        if missing:
            never = ast.If(literal_node(0), missing, [])
            node.body.insert(int(ast.get_docstring(node) is not None), never)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, _up_to_the_end(block))
        return node

    def visit_If(self, node: ast.If) -> Any:
        node.test = self.test(node.test)
        value = value_of(node.test)
        if value is UNKNOWN:
            return self.generic_visit(node)
        branch = ast.Module(node.body if value else node.orelse, [])
        self.generic_visit(branch)
        return branch.body

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        node.test = self.test(node.test)
        value = value_of(node.test)
        if value is UNKNOWN:
            return self.generic_visit(node)
        return self.visit(node.body if value else node.orelse)

    def visit_While(self, node: ast.While) -> Any:
        node.test = self.test(node.test)
        if value_of(node.test) in (False, 0, None) and not node.orelse:
            return None
        return self.generic_visit(node)

    def test(self, node: ast.expr) -> ast.expr:
        """Return a condition, of which only the truth matters, as short as it goes."""
        node = self.visit(node)
        value = value_of(node)
        if value is not UNKNOWN and not isinstance(node, ast.Constant):
            return ast.copy_location(ast.Constant(bool(value)), node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """Drop known values that do not decide, and what follows one that does."""
        deciding = isinstance(node.op, ast.Or)
        needed: list[ast.expr] = []
        parts = [self.visit(part) for part in node.values]
        for at, part in enumerate(parts):
            value = value_of(part)
            if value is UNKNOWN or at == len(parts) - 1:
                needed.append(part)
            elif bool(value) is deciding:
                needed.append(part)
                break
        if len(needed) == 1:
            return needed[0]
        node.values = needed
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        value: Any = value_of(node) if isinstance(node.op, ast.Not) else UNKNOWN
        return node if value is UNKNOWN else ast.copy_location(ast.Constant(value), node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        value = value_of(node)
        return node if value is UNKNOWN else ast.copy_location(ast.Constant(value), node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        value = value_of(node)
        if value is UNKNOWN or len(repr(value)) > len(ast.unparse(node)):
            return node
        return ast.copy_location(literal_node(value), node)

    def visit_For(self, node: ast.For) -> Any:
        if value_of(node.iter) != ():
            return self.generic_visit(node)
        rest = ast.Module(node.orelse, [])
        self.generic_visit(rest)
        return rest.body

    def visit_ListComp(self, node: Any) -> Any:
        self.generic_visit(node)
        if value_of(node.generators[0].iter) != ():
            return node
        empty = {ast.ListComp: "[]", ast.SetComp: "set()", ast.DictComp: "{}"}[type(node)]
        return ast.copy_location(ast.parse(empty, mode="eval").body, node)

    visit_SetComp = visit_DictComp = visit_ListComp

    def visit_Name(self, node: ast.Name) -> Any:
        if node not in self.values:
            return node
        return ast.copy_location(literal_node(self.values[node]), node)


def _yields(node: ast.AST) -> bool:
    """Return whether a function is a generator."""
    return any(
        isinstance(child, ast.Yield | ast.YieldFrom)
        or (not isinstance(child, (*FUNCTIONS, ast.Lambda)) and _yields(child))
        for child in children(node)
    )


def _up_to_the_end(block: list[Any]) -> list[Any]:
    """Return a block up to its return, raise, continue or break."""
    ends = (at for at, statement in enumerate(block) if isinstance(statement, ENDS))
    return block[: next(ends, len(block)) + 1]
