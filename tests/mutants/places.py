"""Which nodes of a syntax tree are mutated.

Left alone is what no behaviour depends on or no test should: docstrings, annotations (but not the constraints within
`Annotated`), decorators, log lines, the texts of errors, f-strings, descriptions and prose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
DESCRIBING = {"description", "title", "examples", "help", "message", "detail", "comment"}
"""Keywords of texts for people: neither left out nor mutated."""
TYPES = {"Literal", "Callable", "dict", "list", "tuple", "set", "frozenset", "Sequence", "Mapping"}
PROSE = re.compile(r"(?!SELECT|CREATE|INSERT|WITH)[\w'’`«»,;:.()/-]+(?: [\w'’`«»,;:.()/-]+){3,}", re.DOTALL)
"""A text of four words or more is for people."""
SKIPPED = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.Pass)
STATEMENT, CONDITION, ANNOTATION, EXPRESSION = "statement", "condition", "annotation", "expression"


@dataclass(frozen=True)
class Scope:
    """Classes and functions around a node."""

    name: str = ""
    """As in `__qualname__`."""
    function: str | None = None
    """Innermost function."""

    def within(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Scope:
        """The scope of a definition's body."""
        between = "" if not self.name else ".<locals>." if self.name == self.function else "."
        name = f"{self.name}{between}{node.name}"
        return Scope(name, self.function if isinstance(node, ast.ClassDef) else name)


@dataclass(frozen=True)
class Place:
    """One node, and where in its parent it is."""

    node: ast.AST
    parent: ast.AST
    field: str
    number: int | None
    scope: Scope
    role: str

    def put(self, other: ast.AST) -> None:
        """Put another node in this one's place."""
        ast.copy_location(other, self.node)
        if self.number is None:
            setattr(self.parent, self.field, other)
        else:
            getattr(self.parent, self.field)[self.number] = other


def places(tree: ast.Module) -> Iterator[Place]:
    """All nodes that can be mutated, in the order of the source."""
    yield from _below(tree, Scope())


def _below(node: ast.AST, scope: Scope) -> Iterator[Place]:
    inner = scope.within(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else scope
    for field, role in _fields(node):
        value = getattr(node, field)
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for number, child in children:
            if isinstance(child, ast.AST) and not _is_left_alone(child, field):
                place = Place(child, node, field, number, inner, role)
                yield from _annotated(place) if role == ANNOTATION else _with_children(place)


def _with_children(place: Place) -> Iterator[Place]:
    yield place
    yield from _below(place.node, place.scope)


def _annotated(place: Place) -> Iterator[Place]:
    """Only what `Annotated` adds to a type is behaviour."""
    node = place.node
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
        assert isinstance(node.slice, ast.Tuple)
        for number, child in enumerate(node.slice.elts[1:], 1):
            yield from _with_children(Place(child, node.slice, "elts", number, place.scope, EXPRESSION))
    elif isinstance(node, ast.BinOp):
        for field in ("left", "right"):
            yield from _annotated(replace(place, node=getattr(node, field), parent=node, field=field, number=None))


def _fields(node: ast.AST) -> list[tuple[str, str]]:
    """The fields of a node whose nodes are mutated, and as what."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [("args", EXPRESSION), ("body", STATEMENT)]
        case ast.arguments():
            kinds = [("posonlyargs", EXPRESSION), ("args", EXPRESSION), ("kwonlyargs", EXPRESSION)]
            return [("defaults", EXPRESSION), ("kw_defaults", EXPRESSION), *kinds]
        case ast.arg():
            return [("annotation", ANNOTATION)]
        case ast.ClassDef():
            return [("body", STATEMENT)]
        case ast.AnnAssign():
            return [("annotation", ANNOTATION), ("value", EXPRESSION)]
        case ast.Assign():
            return [("value", EXPRESSION), ("targets", EXPRESSION)]
        case ast.AugAssign():
            return [("value", EXPRESSION)]
    return [(field, _role(node, field)) for field in node._fields]


def _role(node: ast.AST, field: str) -> str:
    if field in ("body", "orelse", "finalbody") and isinstance(node, ast.stmt | ast.Module | ast.ExceptHandler):
        return STATEMENT
    if (field == "test" and isinstance(node, ast.If | ast.While | ast.IfExp)) or field == "ifs":
        return CONDITION
    return EXPRESSION


def _is_left_alone(node: ast.AST, field: str) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()):
            return True  # a docstring, or what stands for one below an attribute
        case ast.Constant(value=str(text)):
            return PROSE.fullmatch(text) is not None
        case ast.keyword(arg=name):
            return name in DESCRIBING
        case ast.If(test=test):
            return "TYPE_CHECKING" in ast.unparse(test)
        case ast.Assign(targets=targets, value=value):
            return any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets) or _is_type(value)
        case ast.Call():
            return _is_for_people(node)
        case ast.Expr(value=ast.Call() as call):
            return _is_for_people(call)
        case ast.BinOp():
            return _is_type(node)
    return isinstance(node, SKIPPED) or field == "decorator_list"


def _is_type(node: ast.expr) -> bool:
    """Whether an expression is a type: `A | None`, `Literal[…]`."""
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value) in TYPES
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [ast.unparse(part) for part in (node.left, node.right)]
        types = {"None", "str", "int", "float", "bool", "bytes"}
        return any(part in types or (part.rpartition(".")[2][:1].isupper() and not part.isupper()) for part in parts)
    return False


def _is_for_people(node: ast.Call) -> bool:
    """Whether a call logs, makes an error or a type."""
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr in LOGGING:
        return True
    name = ast.unparse(function).rpartition(".")[2]
    return name in ("TypeVar", "NewType", "getLogger", "cast", "ParamSpec") or name.endswith(("Error", "Warning"))
