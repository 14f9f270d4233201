"""What can be mutated in one node of a syntax tree, as a slip of the hand would.

A bound that is off by one, a sign, a condition the wrong way round, a fall-back or an argument that was forgotten.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import cast

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
OPPOSITES = dict(
    [
        *(("max", "min"), ("min", "max"), ("any", "all"), ("all", "any")),
        *(("lower", "upper"), ("upper", "lower"), ("startswith", "endswith"), ("endswith", "startswith")),
        *(("lstrip", "rstrip"), ("rstrip", "lstrip"), ("partition", "rpartition"), ("rpartition", "partition")),
        *(("removeprefix", "removesuffix"), ("removesuffix", "removeprefix"), ("append", "remove")),
    ]
)
NOT_FORGOTTEN = {"strict", "gc", "maxsize", "default_factory", "match"}
"""Keywords without which a call does the same, or that only guard against what never is."""

Replacement = tuple[str, ast.AST]


def mutations(node: ast.AST, describing: set[str]) -> Iterator[Replacement]:
    """Every mutation of a node itself: the operator's name and the node that takes its place."""
    make = _MUTATE.get(type(node))
    if make is not None:
        yield from make(node)
    if isinstance(node, ast.Call):
        yield from _forgotten_arguments(node, describing | NOT_FORGOTTEN)


def _compare(node: ast.AST) -> Iterator[Replacement]:
    node = cast(ast.Compare, node)
    for number, operator in enumerate(node.ops):
        operators = [*node.ops[:number], COMPARISONS[type(operator)](), *node.ops[number + 1 :]]
        yield "comparison", ast.Compare(node.left, operators, node.comparators)


def _arithmetic(node: ast.AST) -> Iterator[Replacement]:
    if isinstance(node, ast.BinOp):
        if (other := ARITHMETIC.get(type(node.op))) is not None:
            yield "arithmetic", ast.BinOp(node.left, other(), node.right)
    elif isinstance(node, ast.AugAssign) and (other := ARITHMETIC.get(type(node.op))) is not None:
        yield "arithmetic", ast.AugAssign(node.target, other(), node.value)


def _boolean(node: ast.AST) -> Iterator[Replacement]:
    node = cast(ast.BoolOp, node)
    yield "and, or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _sign(node: ast.AST) -> Iterator[Replacement]:
    node = cast(ast.UnaryOp, node)
    if isinstance(node.op, ast.Not | ast.USub):
        yield "sign", node.operand


def _constant(node: ast.AST) -> Iterator[Replacement]:
    value = cast(ast.Constant, node).value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, str):
        yield "text", ast.Constant(f"XX{value}XX")
    elif isinstance(value, bytes):
        yield "text", ast.Constant(b"XX" + value + b"XX")


def _call(node: ast.AST) -> Iterator[Replacement]:
    node = cast(ast.Call, node)
    other = OPPOSITES.get(called(node))
    if other is None:
        return
    function: ast.expr = ast.Name(other, ast.Load())
    if isinstance(node.func, ast.Attribute):
        function = ast.Attribute(node.func.value, other, ast.Load())
    yield "call", ast.Call(function, node.args, node.keywords)


def _forgotten_arguments(node: ast.Call, needless: set[str]) -> Iterator[Replacement]:
    for number, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in needless:
            rest = [*node.keywords[:number], *node.keywords[number + 1 :]]
            yield "argument left out", ast.Call(node.func, node.args, rest)


def _result(node: ast.AST) -> Iterator[Replacement]:
    value = cast(ast.Return, node).value
    if value is not None and not isinstance(value, ast.Constant):
        yield "result", ast.Return(ast.Constant(None))


def _break(node: ast.AST) -> Iterator[Replacement]:
    yield "break, continue", ast.Continue() if isinstance(node, ast.Break) else ast.Break()


_MUTATE: dict[type[ast.AST], Callable[[ast.AST], Iterator[Replacement]]] = {
    ast.Compare: _compare,
    ast.BinOp: _arithmetic,
    ast.AugAssign: _arithmetic,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _sign,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.Return: _result,
    ast.Break: _break,
    ast.Continue: _break,
}


def called(node: ast.Call) -> str:
    """Name of the function or method that is called."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def turned_round(node: ast.AST) -> Iterator[Replacement]:
    """A condition whose own parts cannot be turned round is turned round as a whole."""
    if isinstance(node, ast.expr) and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
        yield "condition", ast.UnaryOp(ast.Not(), node)


def left_out(statement: ast.AST) -> Iterator[Replacement]:
    """A statement that a program can do without: it sets something that is there, or only acts."""
    if isinstance(statement, ast.Assign):
        can = all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    elif isinstance(statement, ast.Expr):
        can = isinstance(statement.value, ast.Call)
    else:
        can = isinstance(statement, ast.AugAssign | ast.Delete)
    if can:
        yield "left out", ast.Pass()
