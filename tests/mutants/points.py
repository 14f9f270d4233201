"""Where a module can be mutated, and the module with one of these mutations.

A mutation changes one place of the syntax tree, as a slip of the hand would: a bound that is off by one, a sign, a
condition the wrong way round, a fall-back or an argument that was forgotten. Left alone is what no behaviour depends on
or no test should: docstrings, annotations (but not the constraints within `Annotated`), decorators, log lines, the
texts of errors, f-strings and descriptions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
DESCRIBING = {"description", "title", "examples", "help", "message", "detail", "default_factory", "match"}
Replacement = tuple[str, Callable[[], ast.AST]]


@dataclass(frozen=True)
class Point:
    """One mutation of one module."""

    module: str
    index: int
    """Which of the module's mutations it is, in the order of the tree."""
    line: int
    scope: int | None
    """First line, with decorators, of the function it is in; None for the module's level and that of classes."""
    function: str
    operator: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}: {self.operator}: {self.before} → {self.after}"


def points(module: str, source: str) -> list[Point]:
    """Every mutation of a module."""
    walk = _Walk(module)
    walk.visit(ast.parse(source))
    return walk.points


def mutated(source: str, index: int) -> ast.Module:
    """The tree of a module with its mutation of that index."""
    tree = ast.parse(source)
    walk = _Walk("", index)
    result = walk.visit(tree)
    assert isinstance(result, ast.Module) and walk.applied, "no such mutation"
    return ast.fix_missing_locations(result)


class _Walk(ast.NodeTransformer):
    """Numbers the mutations of a tree, and carries out one of them where `wanted` says which."""

    def __init__(self, module: str, wanted: int | None = None) -> None:
        self.module = module
        self.wanted = wanted
        self.applied = False
        self.points: list[Point] = []
        self.count = 0
        self.scopes: list[tuple[str, int | None]] = [("module", None)]

    # -- what is walked

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        self.scopes.append((node.name, first))
        node.args.defaults = [self._whole(each) for each in node.args.defaults]
        node.args.kw_defaults = [each and self._whole(each) for each in node.args.kw_defaults]
        self._annotations(node)
        node.body = self._body(node.body)
        self.scopes.pop()
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.scopes.append((node.name, None))
        node.body = self._body(node.body)
        self.scopes.pop()
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = self._body(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = self._annotation(node.annotation)
        if node.value is not None:
            node.value = self._whole(node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if "__all__" in names or self._is_type(node.value):
            return node
        node.value = self._whole(node.value)
        node.targets = [self._whole(target) for target in node.targets]
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return node
        node.test = self._condition(node.test)
        node.body = self._body(node.body)
        node.orelse = self._body(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        node.test = self._condition(node.test)
        node.body = self._body(node.body)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self._whole(node.iter)
        node.body = self._body(node.body)
        node.orelse = self._body(node.orelse)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._condition(node.test)
        node.body = self._whole(node.body)
        node.orelse = self._whole(node.orelse)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.iter = self._whole(node.iter)
        node.ifs = [self._condition(each) for each in node.ifs]
        return node

    def _body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for number, statement in enumerate(statements):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                done.append(statement)  # a docstring, or what stands for one below an attribute
                continue
            if self._can_go(statement):
                statement = self._choose(statement, "left out", lambda: ast.Pass())
            done.append(self._whole(statement) if not isinstance(statement, ast.Pass) else statement)
            assert number < len(statements)
        return done

    def _can_go(self, statement: ast.stmt) -> bool:
        """Whether a program without the statement still is one: it sets something that is there, or only acts."""
        if self.scopes[-1][1] is None:
            return False
        if isinstance(statement, ast.AugAssign):
            return True
        if isinstance(statement, ast.Assign):
            return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            return not self._says(statement.value)
        return isinstance(statement, ast.Delete)

    # -- what is mutated

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for number, operator in enumerate(node.ops):
            other = COMPARISONS[type(operator)]
            node = self._choose(node, "comparison", lambda n=number, o=other, c=node: _compare(c, n, o()))
        return self._children(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if self._is_type(node):
            return node
        other = ARITHMETIC.get(type(node.op))
        if other is not None:
            node = self._choose(node, "arithmetic", lambda: ast.BinOp(node.left, other(), node.right))
        return self._children(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        other = ARITHMETIC.get(type(node.op))
        if other is not None:
            node = self._choose(node, "arithmetic", lambda: ast.AugAssign(node.target, other(), node.value))
        node.value = self._whole(node.value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        node = self._choose(node, "and, or", lambda: ast.BoolOp(other(), node.values))
        return self._children(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not | ast.USub):
            node = self._choose(node, "sign", lambda: node.operand)
        return self._children(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            return self._choose(node, "constant", lambda: ast.Constant(not value))
        if isinstance(value, int | float):
            return self._choose(node, "constant", lambda: ast.Constant(value + 1))
        if isinstance(value, str):
            return self._choose(node, "text", lambda: ast.Constant(f"XX{value}XX"))
        if isinstance(value, bytes):
            return self._choose(node, "text", lambda: ast.Constant(b"XX" + value + b"XX"))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self._says(node):
            return node
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in OPPOSITES:
            node = self._choose(node, "call", lambda: _renamed(node, OPPOSITES[name]))
        for number, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in DESCRIBING:
                node = self._choose(node, "argument left out", lambda n=number, c=node: _without(c, n))
        if not isinstance(node, ast.Call):
            return node
        node.func = self._whole(node.func)
        node.args = [self._whole(each) for each in node.args]
        for keyword in node.keywords:
            if keyword.arg not in DESCRIBING:
                keyword.value = self._whole(keyword.value)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        value = node.value
        if value is not None and not isinstance(value, ast.Constant):
            node = self._choose(node, "result", lambda: ast.Return(ast.Constant(None)))
        return self._children(node)

    def visit_Break(self, node: ast.Break) -> ast.AST:
        return self._choose(node, "break, continue", ast.Continue)

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        return self._choose(node, "break, continue", ast.Break)

    # -- how

    def _condition(self, node: ast.expr) -> ast.expr:
        """A condition whose own parts cannot be turned round is turned round as a whole."""
        if not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            node = self._choose(node, "condition", lambda: ast.UnaryOp(ast.Not(), node))
        return self._whole(node)

    def _choose(self, node: ast.AST, operator: str, make: Callable[[], ast.AST]) -> ast.AST:
        """Count one more mutation of the node; return the mutated node where it is the wanted one."""
        index, self.count = self.count, self.count + 1
        if self.wanted is None:
            scope = next((line for _, line in reversed(self.scopes) if line is not None), None)
            name = ".".join(name for name, _ in self.scopes[1:]) or "module"
            before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(make()))
            line = node.lineno  # type: ignore[attr-defined]
            self.points.append(Point(self.module, index, line, scope, name, operator, _short(before), _short(after)))
        elif index == self.wanted:
            self.applied = True
            return ast.copy_location(make(), node)
        return node

    def _whole(self, node: ast.AST) -> ast.AST:
        return node if self.applied else self.visit(node)

    def _children(self, node: ast.AST) -> ast.AST:
        return node if self.applied else self.generic_visit(node)

    def _annotations(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if argument.annotation is not None:
                argument.annotation = self._annotation(argument.annotation)

    def _annotation(self, node: ast.expr) -> ast.expr:
        """Only what `Annotated` adds to a type is behaviour."""
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
            assert isinstance(node.slice, ast.Tuple)
            node.slice.elts = [node.slice.elts[0], *(self._whole(each) for each in node.slice.elts[1:])]
        elif isinstance(node, ast.BinOp):
            node.left, node.right = self._annotation(node.left), self._annotation(node.right)
        return node

    @staticmethod
    def _is_type(node: ast.expr) -> bool:
        """Whether an expression is a type: `A | None`, `Literal[…]`."""
        if isinstance(node, ast.Subscript):
            name = ast.unparse(node.value)
            return name in ("Literal", "Callable", "dict", "list", "tuple", "set", "frozenset", "Sequence", "Mapping")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            parts = [ast.unparse(part) for part in (node.left, node.right)]
            types = {"None", "str", "int", "float", "bool", "bytes"}
            return any(
                part in types or (part.rpartition(".")[2][:1].isupper() and not part.isupper()) for part in parts
            )
        return False

    @staticmethod
    def _says(node: ast.Call) -> bool:
        """Whether a call only tells people something."""
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in LOGGING:
            return True
        name = ast.unparse(function).rpartition(".")[2]
        return name in ("TypeVar", "NewType", "getLogger", "cast", "ParamSpec") or name.endswith(("Error", "Warning"))


def _compare(node: ast.Compare, number: int, operator: ast.cmpop) -> ast.Compare:
    operators = [*node.ops[:number], operator, *node.ops[number + 1 :]]
    return ast.Compare(node.left, operators, node.comparators)


def _renamed(node: ast.Call, name: str) -> ast.Call:
    function: ast.expr
    if isinstance(node.func, ast.Attribute):
        function = ast.Attribute(node.func.value, name, ast.Load())
    else:
        function = ast.Name(name, ast.Load())
    return ast.Call(function, node.args, node.keywords)


def _without(node: ast.Call, number: int) -> ast.Call:
    return ast.Call(node.func, node.args, [*node.keywords[:number], *node.keywords[number + 1 :]])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:88] + " …"


def iter_lines(found: list[Point]) -> Iterator[str]:
    """One line per point, for people."""
    yield from map(str, found)
