"""Python loops as LLVM IR: a small compiler for kernels that no fused loop expresses (sort, scan, scatter).

In: a Python function over flat memory, integers and the names of :mod:`.language`.  Out: LLVM IR text of
``void name(i64* args, i64 lo, i64 hi, i8* scratch)``, optimised and vectorised by LLVM.

    emit(total, [f32, f32], target, "k")        # def total(x, out, n, lo, hi, scratch): ...

Numba would do too, but needs a second to be imported and to compile the first function; this takes 20 ms.

The language: assignments, ``for .. in range``, ``while``, ``break``, ``if``, arithmetic, comparisons, ``and or not``,
``a if c else b`` (both sides are computed), ``x[i]``, ``min``, ``max``.  Calls of Python functions are inlined; they may
return once, at the end.  Variables keep the type of their first value; operands have one type, only literals adapt.
``//`` and ``%`` truncate as C does.  A condition that is a constant of the closure chooses when compiling.
"""

from __future__ import annotations

import ast
import inspect
import operator
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

from . import language
from .language import Type, b1, f64, i64, u8


@dataclass
class Value:
    """A typed LLVM operand."""

    type: Type
    ref: str


@dataclass
class Memory:
    """A pointer to elements of one type."""

    type: Type
    ref: str


@dataclass
class Variable:
    """A stack slot, which LLVM turns into registers."""

    type: Type
    ref: str


_ARITHMETIC = {
    ast.Add: ("add", "fadd"), ast.Sub: ("sub", "fsub"), ast.Mult: ("mul", "fmul"), ast.Div: ("", "fdiv"),
    ast.BitAnd: ("and", ""), ast.BitOr: ("or", ""), ast.BitXor: ("xor", ""), ast.LShift: ("shl", ""),
}  # fmt: skip
_SIGNED = {ast.FloorDiv: "div", ast.Mod: "rem", ast.RShift: "shr"}
_COMPARE = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_PYTHON: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.Div: operator.truediv,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Not: operator.not_, ast.USub: operator.neg, ast.Invert: operator.invert,
}  # fmt: skip
_INTRINSIC = {language.exp: "exp", language.log1p: "log1p"}


@cache
def _parsed(function: Any) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree


class Function:
    """Writes one function and what it inlines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.number = count()
        self.scopes: list[tuple[dict[str, Any], dict[str, Any]]] = []  # (locals, names of the function around)
        self.after: list[str] = []  # where ``break`` goes
        self.externals: set[str] = set()

    # ------------------------------------------------------------ text

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def let(self, type_: Type, text: str) -> Value:
        name = f"%v{next(self.number)}"
        self.do(f"{name} = {text}")
        return Value(type_, name)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def jump(self, name: str) -> None:
        self.do(f"br label %{name}")

    def variable(self, type_: Type) -> Variable:
        name = f"%a{next(self.number)}"
        self.allocas.append(f"  {name} = alloca {type_.llvm}")
        return Variable(type_, name)

    def error(self, node: ast.AST, what: str) -> TypeError:
        return TypeError(f"{what}: {ast.unparse(node)}")

    # ------------------------------------------------------------ values

    def given(self, x: Any, like: Type | None = None) -> Value:
        """A Python number as an operand; variables are read."""
        if isinstance(x, Value):
            return x
        if isinstance(x, Variable):
            return self.let(x.type, f"load {x.type.llvm}, ptr {x.ref}")
        if isinstance(x, bool) and like in (None, b1):
            return Value(b1, "true" if x else "false")
        if isinstance(x, (int, float)):
            t = like or (i64 if isinstance(x, int) else f64)
            if t.kind == "f":
                import struct

                word = struct.unpack("<Q", struct.pack("<d", float(t(x))))[0]
                return Value(t, f"0x{word:016X}")
            if isinstance(x, float):
                raise TypeError(f"{x} where a {t} is needed")
            return Value(t, str(int(x)))
        raise TypeError(f"{x!r} is no number")

    def pair(self, node: ast.AST, a: Any, b: Any) -> tuple[Value, Value]:
        known = next((v.type for v in (a, b) if isinstance(v, (Value, Variable))), None)
        x, y = self.given(a, known), self.given(b, known)
        if x.type != y.type:
            raise self.error(node, f"operands are {x.type} and {y.type}")
        return x, y

    def convert(self, x: Any, to: Type) -> Value:
        if isinstance(x, (int, float)):
            return self.given(x, to)
        v = self.given(x)
        a = v.type
        if a == to:
            return v
        if to is b1:
            return self.compare("ne", v, self.given(0, a))
        if a.kind == to.kind == "f":
            how = "fpext" if to.width > a.width else "fptrunc"
        elif a.kind == "f":
            how = f"fpto{'s' if to.kind == 'i' else 'u'}i"
        elif to.kind == "f":
            how = f"{'s' if a.kind == 'i' else 'u'}itofp"
        elif a.width == to.width:
            return Value(to, v.ref)
        else:
            how = "trunc" if to.width < a.width else "sext" if a.kind == "i" else "zext"
        return self.let(to, f"{how} {a.llvm} {v.ref} to {to.llvm}")

    def compare(self, how: str, a: Value, b: Value) -> Value:
        if a.type.kind == "f":
            test = f"fcmp {'une' if how == 'ne' else 'o' + how}"
        else:
            test = f"icmp {how if how in ('eq', 'ne') else ('s' if a.type.kind == 'i' else 'u') + how}"
        return self.let(b1, f"{test} {a.type.llvm} {a.ref}, {b.ref}")

    def select(self, c: Value, a: Value, b: Value) -> Value:
        return self.let(a.type, f"select i1 {c.ref}, {a.type.llvm} {a.ref}, {b.type.llvm} {b.ref}")

    def condition(self, node: ast.expr) -> Any:
        """An i1, or a Python bool when it is known."""
        x = self.value(node)
        if isinstance(x, (Value, Variable)):
            return self.convert(x, b1)
        return bool(x)

    def value(self, node: ast.expr) -> Any:
        """A Value, Variable or Memory; a Python object when it is known now."""
        method: Callable[[Any], Any] | None = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise self.error(node, "not in the language")
        return method(node)

    def _Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        local, outer = self.scopes[-1]
        if node.id in local:
            return local[node.id]
        if node.id in outer:
            return outer[node.id]
        raise self.error(node, "unknown name")

    def _Attribute(self, node: ast.Attribute) -> Any:
        return getattr(self.value(node.value), node.attr)

    def _BinOp(self, node: ast.BinOp) -> Any:
        a, b = self.value(node.left), self.value(node.right)
        how = type(node.op)
        if not isinstance(a, (Value, Variable)) and not isinstance(b, (Value, Variable)):
            return _PYTHON[how](a, b)
        x, y = self.pair(node, a, b)
        real = x.type.kind == "f"
        if how in _SIGNED and not real:
            name = _SIGNED[how]
            sign = x.type.kind
            op = ("ashr" if sign == "i" else "lshr") if name == "shr" else ("s" if sign == "i" else "u") + name
        else:
            op = _ARITHMETIC.get(how, ("", ""))[real]
        if not op:
            raise self.error(node, f"no such operation on {x.type}")
        return self.let(x.type, f"{op} {x.type.llvm} {x.ref}, {y.ref}")

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        a = self.value(node.operand)
        if not isinstance(a, (Value, Variable)):
            return _PYTHON[type(node.op)](a)
        v = self.given(a)
        if isinstance(node.op, ast.Not):
            return self.let(b1, f"xor i1 {self.convert(v, b1).ref}, true")
        if isinstance(node.op, ast.Invert):
            return self.let(v.type, f"xor {v.type.llvm} {v.ref}, -1")
        return self.let(v.type, f"fneg {v.type.llvm} {v.ref}" if v.type.kind == "f" else f"sub {v.type.llvm} 0, {v.ref}")

    def _Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1:
            raise self.error(node, "one comparison at a time")
        a, b = self.value(node.left), self.value(node.comparators[0])
        if not isinstance(a, (Value, Variable)) and not isinstance(b, (Value, Variable)):
            return _PYTHON[type(node.ops[0])](a, b)
        return self.compare(_COMPARE[type(node.ops[0])], *self.pair(node, a, b))

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        """The right operands are computed only if the left ones do not decide."""
        wanted = isinstance(node.op, ast.And)
        operands = list(node.values)
        first = self.condition(operands.pop(0))
        while isinstance(first, bool) and operands:
            if first is not wanted:
                return first
            first = self.condition(operands.pop(0))
        if not operands:
            return first
        result, n = self.variable(b1), next(self.number)
        self.do(f"store i1 {first.ref}, ptr {result.ref}")
        for k, operand in enumerate(operands):
            now = self.given(result)
            labels = (f"more{n}.{k}", f"done{n}") if wanted else (f"done{n}", f"more{n}.{k}")
            self.do(f"br i1 {now.ref}, label %{labels[0]}, label %{labels[1]}")
            self.label(f"more{n}.{k}")
            self.do(f"store i1 {self.given(self.condition(operand), b1).ref}, ptr {result.ref}")
        self.jump(f"done{n}")
        self.label(f"done{n}")
        return self.given(result)

    def _IfExp(self, node: ast.IfExp) -> Any:
        c = self.condition(node.test)
        if isinstance(c, bool):
            return self.value(node.body if c else node.orelse)
        return self.select(c, *self.pair(node, self.value(node.body), self.value(node.orelse)))

    def _at(self, node: ast.Subscript) -> Memory:
        memory = self.value(node.value)
        if not isinstance(memory, Memory):
            raise self.error(node, "not memory")
        i = self.given(self.value(node.slice), i64)
        if i.type.kind not in "iu" or i.type.width != 64:
            raise self.error(node, f"an index of type {i.type}")
        t = memory.type
        return Memory(t, self.let(t, f"getelementptr inbounds {t.llvm}, ptr {memory.ref}, i64 {i.ref}").ref)

    def _Subscript(self, node: ast.Subscript) -> Value:
        p = self._at(node)
        return self.let(p.type, f"load {p.type.llvm}, ptr {p.ref}, align {p.type.width // 8}")

    def _Call(self, node: ast.Call) -> Any:
        function = self.value(node.func) if not _is_builtin(node) else _BUILTIN[node.func.id]  # type: ignore[attr-defined]
        args = [self.value(a) for a in node.args]
        if isinstance(function, Type):
            return self.convert(args[0], function)
        if function is language.bits:
            v, to = self.given(args[0]), args[1]
            return v if v.type.kind != "f" != to.kind and Value(to, v.ref) else self.let(
                to, f"bitcast {v.type.llvm} {v.ref} to {to.llvm}") if "f" in (v.type.kind, to.kind) else Value(to, v.ref)  # fmt: skip
        if function is language.view:
            start = self.given(args[1], i64)
            return Memory(args[2], self.let(u8, f"getelementptr i8, ptr {args[0].ref}, i64 {start.ref}").ref)
        if function is language.misplaced:
            return self.let(i64, f"and i64 {self.let(i64, f'ptrtoint ptr {args[0].ref} to i64').ref}, {language.LINE - 1}")
        if function is language.clear_line:
            return self.put_line(args[0], args[1], "zeroinitializer")
        if function is language.copy_line:
            line = self.let(u8, f"load <{language.LINE} x i8>, ptr {self.element(args[2], args[3])}, align 1").ref
            return self.put_line(args[0], args[1], line)
        if function is language.prefetch:
            self.externals.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
            return self.do(f"call void @llvm.prefetch.p0(ptr {self.element(args[0], args[1])}, i32 0, i32 3, i32 1)")
        if function is language.fence:
            return self.do("fence seq_cst")
        if function in (min, max):
            a, b = self.pair(node, *args)
            return self.select(self.compare("lt" if function is min else "gt", a, b), a, b)
        if function in _INTRINSIC:
            v = self.given(args[0], f64)
            name = _INTRINSIC[function] + ("f" if v.type.width == 32 else "")
            self.externals.add(f"declare {v.type.llvm} @{name}({v.type.llvm}) memory(none)")
            return self.let(v.type, f"call {v.type.llvm} @{name}({v.type.llvm} {v.ref})")
        if not inspect.isfunction(function):
            raise self.error(node, "not a function of the language")
        return self.inlined(function, args)

    def element(self, memory: Memory, index: Any) -> str:
        """The address of an element, which may lie outside."""
        return self.let(u8, f"getelementptr {memory.type.llvm}, ptr {memory.ref}, i64 {self.given(index, i64).ref}").ref

    def put_line(self, memory: Memory, index: Any, line: str) -> None:
        place = self.element(memory, index)
        self.do(f"store <{language.LINE} x i8> {line}, ptr {place}, align {language.LINE}, !nontemporal !{{i32 1}}")

    def inlined(self, function: Any, args: Sequence[Any]) -> Any:
        """The body of ``function`` with its parameters standing for ``args``; its result."""
        tree = _parsed(function)
        local: dict[str, Any] = {}
        for p, a in zip(tree.args.args, args, strict=True):
            local[p.arg] = self.given(a) if isinstance(a, Variable) else a  # by value
        around = inspect.getclosurevars(function)
        self.scopes.append((local, {**around.globals, **around.nonlocals}))
        body = tree.body[1:] if ast.get_docstring(tree) else tree.body
        result = None
        for statement in body:
            if isinstance(statement, ast.Return):
                assert statement is body[-1] and statement.value is not None, f"{function.__name__} returns in the middle"
                result = self.value(statement.value)
                result = self.given(result) if isinstance(result, Variable) else result
            else:
                self.statement(statement)
        self.scopes.pop()
        return result

    # ------------------------------------------------------------ statements

    def statements(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name() as name]):
                self.assign(node, name.id, self.value(node.value))
            case ast.Assign(targets=[ast.Subscript() as place]):
                self.store(node, place, self.value(node.value))
            case ast.AugAssign(target=ast.Name() | ast.Subscript() as target):
                read = ast.BinOp(left=_loaded(target), op=node.op, right=node.value)
                result = self.value(ast.copy_location(read, node))
                if isinstance(target, ast.Name):
                    self.assign(node, target.id, result)
                else:
                    self.store(node, target, result)
            case ast.For():
                self.loop(node)
            case ast.While():
                self.while_(node)
            case ast.If():
                self.branch(node)
            case ast.Break():
                self.jump(self.after[-1])
                self.label(f"dead{next(self.number)}")
            case ast.Expr(value=ast.Call()):
                self.value(node.value)
            case ast.Pass():
                pass
            case _:
                raise self.error(node, "not in the language")

    def assign(self, node: ast.stmt, name: str, x: Any) -> None:
        local = self.scopes[-1][0]
        if isinstance(x, Memory) or not isinstance(x, (Value, Variable, int, float)):
            local[name] = x
            return
        there = local.get(name)
        if not isinstance(there, Variable):
            first = self.given(x)
            there = local[name] = self.variable(first.type)
        v = self.given(x, there.type) if isinstance(x, (int, float)) else self.given(x)
        if v.type != there.type:
            raise self.error(node, f"a {v.type} for a variable of type {there.type}")
        self.do(f"store {v.type.llvm} {v.ref}, ptr {there.ref}")

    def store(self, node: ast.stmt, place: ast.Subscript, x: Any) -> None:
        p = self._at(place)
        v = self.given(x, p.type) if isinstance(x, (int, float)) else self.given(x)
        if v.type != p.type:
            raise self.error(node, f"a {v.type} for memory of type {p.type}")
        self.do(f"store {v.type.llvm} {v.ref}, ptr {p.ref}, align {p.type.width // 8}")

    def loop(self, node: ast.For) -> None:
        assert isinstance(node.iter, ast.Call) and isinstance(node.target, ast.Name), ast.unparse(node)
        args = [self.value(a) for a in node.iter.args]
        start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1) if len(args) == 2 else args
        i, n = self.variable(i64), next(self.number)
        limit = self.given(end, i64)
        self.do(f"store i64 {self.given(start, i64).ref}, ptr {i.ref}")
        self.jump(f"test{n}")
        self.label(f"test{n}")
        now = self.given(i)
        inside = self.compare("lt" if step > 0 else "gt", now, limit)
        self.do(f"br i1 {inside.ref}, label %body{n}, label %after{n}")
        self.label(f"body{n}")
        self.scopes[-1][0][node.target.id] = now
        self.after.append(f"after{n}")
        self.statements(node.body)
        self.after.pop()
        following = self.let(i64, f"add nsw i64 {self.given(i).ref}, {step}")
        self.do(f"store i64 {following.ref}, ptr {i.ref}")
        self.jump(f"test{n}")
        self.label(f"after{n}")

    def while_(self, node: ast.While) -> None:
        n = next(self.number)
        self.jump(f"test{n}")
        self.label(f"test{n}")
        c = self.given(self.condition(node.test), b1)
        self.do(f"br i1 {c.ref}, label %body{n}, label %after{n}")
        self.label(f"body{n}")
        self.after.append(f"after{n}")
        self.statements(node.body)
        self.after.pop()
        self.jump(f"test{n}")
        self.label(f"after{n}")

    def branch(self, node: ast.If) -> None:
        c = self.condition(node.test)
        if isinstance(c, bool):
            self.statements(node.body if c else node.orelse)
            return
        n = next(self.number)
        self.do(f"br i1 {c.ref}, label %then{n}, label %else{n}")
        self.label(f"then{n}")
        self.statements(node.body)
        self.jump(f"end{n}")
        self.label(f"else{n}")
        self.statements(node.orelse)
        self.jump(f"end{n}")
        self.label(f"end{n}")


_BUILTIN: dict[str, Any] = {"min": min, "max": max}


def _is_builtin(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in _BUILTIN


def _loaded(target: ast.Name | ast.Subscript) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    return ast.Subscript(target.value, target.slice, ast.Load())


def spell(function: Callable[..., None], types: Sequence[Type], attributes: str, name: str) -> str:
    """LLVM IR of ``function(*memory, *integers, lo, hi, scratch)``, as written."""
    f = Function()
    names = list(inspect.signature(function).parameters)
    integers = names[len(types) : -3]
    args: list[Any] = [Memory(t, f"%{p}") for t, p in zip(types, names)]
    args += [Value(i64, f"%{p}") for p in (*integers, "lo", "hi")] + [Memory(u8, "%scratch")]
    f.inlined(function, args)
    params = [f"ptr noalias %{p}" for p in names[: len(types)]]
    params += [f"i64 %{p}" for p in (*integers, "lo", "hi")] + ["ptr noalias %scratch"]
    text = [*sorted(f.externals), f"define internal void @loops({', '.join(params)}) noinline {attributes} {{", "entry:"]
    text += [*f.allocas, *f.lines, "  ret void", "}", ""]
    text += [f"define void @{name}(ptr %args, i64 %lo, i64 %hi, ptr %scratch) {attributes} {{"]
    words = []
    for k, p in enumerate((*names[: len(types)], *integers)):
        ty = "ptr" if k < len(types) else "i64"
        text.append(f"  %p{k} = getelementptr i64, ptr %args, i64 {k}")
        text.append(f"  %{p} = load {ty}, ptr %p{k}")
        words.append(f"{ty} %{p}")
    text.append(f"  call void @loops({', '.join([*words, 'i64 %lo', 'i64 %hi', 'ptr %scratch'])})")
    return "\n".join([*text, "  ret void", "}", ""])


def emit(function: Callable[..., None], types: Sequence[Type], target: Any, name: str) -> str:
    """LLVM IR of ``function``, optimised for ``target``.  Raises TypeError when it is not in the language."""
    from ..llvm.target import optimized

    return optimized(spell(function, types, target.attributes, name), target)


__all__ = ["emit", "spell"]
