"""A scalar Python function read as rows of the graph, so that it fuses and differentiates like a built-in operator.

In: a function of numbers (what ``@numba.njit`` was put on).  Out: a function of nodes, or :class:`Untranslatable` with
the construct that stands in the way.

    def f(x):                           WHERE(LT(0, x), LOG1P(x), NEG(x))
        if x > 0:
            return math.log1p(x)
        return -x

Understood: assignments, ``if`` and conditional expressions, ``for`` over a range that is known, arithmetic, comparisons,
``and or not``, functions of ``math`` and NumPy, numbers and other such functions from around it.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..ir import graph, lang
from ..ir.node import Node, cast
from ..ops.registry import OPS, result_type

PATHS = 64  # returns that an ``if`` may lead to, and turns of a loop


class Untranslatable(Exception):
    """The function uses something that has no row; the message says what and where."""


_FUNCTIONS = {
    "fabs": "abs", "pow": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "power": "pow",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "fmax": "fmax", "fmin": "fmin", "rint": "round",
    "gamma": "", "degrees": "rad2deg", "radians": "deg2rad", "absolute": "abs",
}  # fmt: skip
_BINARY: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "true_divide", ast.Pow: "pow", ast.Mod: "remainder",
    ast.FloorDiv: "floor_divide", ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
}  # fmt: skip
_COMPARE: dict[type, str] = {
    ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip


def translate(function: Callable[..., Any]) -> Callable[..., Node]:
    """``function`` over nodes.  Raises Untranslatable now for its source, and when called for what it does."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        raise Untranslatable("its source text is not at hand") from None
    definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    if not definitions:
        raise Untranslatable("it is no plain function")
    names = inspect.getclosurevars(function)
    around = {**names.builtins, **names.globals, **names.nonlocals}
    parameters = list(inspect.signature(function).parameters)

    def over_nodes(*values: Any) -> Any:
        working = next(v.dtype for v in values if isinstance(v, Node))
        return _Reader(around, working).block(definitions[0].body, dict(zip(parameters, values)))

    return over_nodes


def _apply(name: str, *operands: Any) -> Any:
    """The operator's record on nodes and numbers."""
    return OPS[name].apply(list(operands), {})


def _as_bool(value: Any) -> Any:
    return _apply("ne", value, 0) if isinstance(value, Node) and value.dtype is not dtypes.bool_ else value


class _Reader:
    """Runs statements with nodes for the numbers that are not known."""

    def __init__(self, around: dict[str, Any], working: dtypes.DType) -> None:
        self.around, self.working = around, working
        self.paths = 0

    def block(self, statements: Sequence[ast.stmt], env: dict[str, Any]) -> Any:
        """What the statements return."""
        for i, s in enumerate(statements):
            rest = statements[i + 1 :]
            if isinstance(s, ast.Return):
                if s.value is None:
                    raise Untranslatable(f"line {s.lineno} returns nothing")
                return self.value(s.value, env)
            if isinstance(s, ast.If):
                condition = _as_bool(self.value(s.test, env))
                if not isinstance(condition, Node):
                    return self.block([*(s.body if condition else s.orelse), *rest], env)
                self.paths += 1
                if self.paths > PATHS:
                    raise Untranslatable(f"more than {PATHS} ways through its if statements")
                ways = [self.block([*branch, *rest], dict(env)) for branch in (s.body, s.orelse)]
                return self.chosen(condition, *ways)
            if isinstance(s, ast.For):
                return self.block([*self.turns(s, env), *rest], env)
            self.statement(s, env)
        raise Untranslatable("one of its ways ends without a return")

    def turns(self, loop: ast.For, env: dict[str, Any]) -> list[ast.stmt]:
        """A loop over a known range, written out."""
        call = loop.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range") or loop.orelse:
            raise Untranslatable(f"line {loop.lineno} loops over something that is no range")
        limits = [self.value(a, env) for a in call.args]
        if not all([isinstance(n, int) for n in limits]) or len(range(*limits)) > PATHS:
            raise Untranslatable(f"the range of line {loop.lineno} is not known or longer than {PATHS}")
        out: list[ast.stmt] = []
        for k in range(*limits):
            turn = ast.Assign([loop.target], ast.Constant(k), lineno=loop.lineno)
            out += [turn, *loop.body]
        return out

    def statement(self, s: ast.stmt, env: dict[str, Any]) -> None:
        if isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], ast.Name):
            env[s.targets[0].id] = self.value(s.value, env)
        elif isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name) and s.value is not None:
            env[s.target.id] = self.value(s.value, env)
        elif isinstance(s, ast.AugAssign) and isinstance(s.target, ast.Name):
            env[s.target.id] = self.binary(type(s.op), env[s.target.id], self.value(s.value, env), s)
        elif not (isinstance(s, ast.Pass) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))):
            raise Untranslatable(f"line {s.lineno} is a {type(s).__name__} statement")

    def value(self, e: ast.expr, env: dict[str, Any]) -> Any:
        """The value of an expression: a node, or a Python number."""
        if isinstance(e, ast.Constant) and isinstance(e.value, (bool, int, float)):
            return e.value
        if isinstance(e, ast.Name):
            return self.name(e, env)
        if isinstance(e, ast.Attribute):
            return self.attribute(e)
        if isinstance(e, ast.BinOp):
            return self.binary(type(e.op), self.value(e.left, env), self.value(e.right, env), e)
        if isinstance(e, ast.UnaryOp):
            return self.unary(e, self.value(e.operand, env))
        if isinstance(e, ast.Compare):
            return self.compare(e, env)
        if isinstance(e, ast.BoolOp):
            return self.both(e, env)
        if isinstance(e, ast.IfExp):
            condition = _as_bool(self.value(e.test, env))
            if not isinstance(condition, Node):
                return self.value(e.body if condition else e.orelse, env)
            return self.chosen(condition, self.value(e.body, env), self.value(e.orelse, env))
        if isinstance(e, ast.Call):
            return self.call(e, env)
        raise Untranslatable(f"line {e.lineno} has a {type(e).__name__}")

    def name(self, e: ast.Name, env: dict[str, Any]) -> Any:
        found = env.get(e.id, self.around.get(e.id, _MISSING))
        if isinstance(found, (Node, bool, int, float)):
            return found
        raise Untranslatable(f"'{e.id}' in line {e.lineno} is no number")

    def attribute(self, e: ast.Attribute) -> Any:
        module = self.around.get(e.value.id) if isinstance(e.value, ast.Name) else None
        if module in (math, np) and isinstance(getattr(module, e.attr, None), float):
            return getattr(module, e.attr)
        raise Untranslatable(f"'{ast.unparse(e)}' in line {e.lineno} is no number")

    def binary(self, kind: type, a: Any, b: Any, at: Any) -> Any:
        if kind not in _BINARY:
            raise Untranslatable(f"line {at.lineno} has the operation {kind.__name__}")
        if isinstance(a, Node) or isinstance(b, Node):
            if not issubclass(kind, (ast.BitAnd, ast.BitOr, ast.BitXor)):
                a, b = self.counted(a), self.counted(b)
            return _apply(_BINARY[kind], a, b)
        expression = ast.fix_missing_locations(ast.Expression(ast.BinOp(ast.Constant(a), kind(), ast.Constant(b))))
        return eval(compile(expression, "<number>", "eval"))

    def counted(self, v: Any) -> Any:
        """True as 1 in arithmetic."""
        return cast(v, self.working) if isinstance(v, Node) and v.dtype is dtypes.bool_ else v

    def chosen(self, condition: Node, a: Any, b: Any) -> Any:
        """``a`` where ``condition``, else ``b``."""
        if a is b:
            return a
        if not isinstance(a, Node) and not isinstance(b, Node):
            both_bool = isinstance(a, bool) and isinstance(b, bool)
            a = graph.full(a, condition.shape, dtypes.bool_ if both_bool else self.working)
        common = result_type([a, b])
        a, b = (cast(v, common) if isinstance(v, Node) else v for v in (a, b))
        return lang.where(condition, a, b)

    def unary(self, e: ast.UnaryOp, v: Any) -> Any:
        if isinstance(e.op, ast.Not):
            v = _as_bool(v)
            return _apply("logical_not", v) if isinstance(v, Node) else not v
        if isinstance(e.op, ast.USub):
            return -self.counted(v)
        if isinstance(e.op, ast.UAdd):
            return v
        return ~v

    def compare(self, e: ast.Compare, env: dict[str, Any]) -> Any:
        values = [self.value(v, env) for v in (e.left, *e.comparators)]
        out: Any = True
        for kind, a, b in zip(map(type, e.ops), values, values[1:]):
            if kind not in _COMPARE:
                raise Untranslatable(f"line {e.lineno} has the comparison {kind.__name__}")
            if isinstance(a, Node) or isinstance(b, Node):
                if not isinstance(a, Node):
                    a, b, kind = b, a, _MIRRORED.get(kind, kind)
                one: Any = _apply(_COMPARE[kind], a, b)
            else:
                one = getattr(__import__("operator"), _COMPARE[kind])(a, b)
            out = self.joined(True, out, one)
        return out

    def joined(self, every: bool, a: Any, b: Any) -> Any:
        """``a and b`` or ``a or b``."""
        a, b = _as_bool(a), _as_bool(b)
        if isinstance(a, Node) and isinstance(b, Node):
            return _apply("logical_and" if every else "logical_or", a, b)
        known, other = (b, a) if isinstance(a, Node) else (a, b)
        return other if bool(known) is every else known

    def both(self, e: ast.BoolOp, env: dict[str, Any]) -> Any:
        every = isinstance(e.op, ast.And)
        out = self.value(e.values[0], env)
        for v in e.values[1:]:
            out = self.joined(every, out, self.value(v, env))
        return out

    def call(self, e: ast.Call, env: dict[str, Any]) -> Any:
        if e.keywords:
            raise Untranslatable(f"line {e.lineno} calls with named arguments")
        values = [self.value(a, env) for a in e.args]
        name = e.func.attr if isinstance(e.func, ast.Attribute) else e.func.id if isinstance(e.func, ast.Name) else ""
        owner = e.func.value.id if isinstance(e.func, ast.Attribute) and isinstance(e.func.value, ast.Name) else ""
        module: Any = self.around.get(owner) if owner else None
        found: Any = getattr(module, name, None) if owner else self.around.get(name)
        if hasattr(found, "py_func"):
            return translate(found.py_func)(*values)
        if not any([isinstance(v, Node) for v in values]) and callable(found):
            return found(*values)
        if found is min or found is max:
            return self.extreme(found is min, values)
        if found is float or found is abs:
            return _apply("abs", *values) if found is abs else values[0]
        record = _FUNCTIONS.get(name, name)
        known = found is not None and (module in (math, np) or getattr(math, name, None) is found)
        if known and record in OPS and OPS[record].operands == len(values):
            return _apply(record, *values)
        raise Untranslatable(f"line {e.lineno} calls '{ast.unparse(e.func)}'")

    def extreme(self, least: bool, values: Sequence[Any]) -> Any:
        """Python's min or max of several: the first of equal ones."""
        out = values[0]
        for v in values[1:]:
            a, b = (v, out) if least else (out, v)
            better = _apply("lt", a, b) if isinstance(a, Node) else _apply("gt", b, a) if isinstance(b, Node) else a < b
            out = self.chosen(better, v, out) if isinstance(better, Node) else v if better else out
        return out


_MISSING = object()
_MIRRORED: dict[type, type] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
