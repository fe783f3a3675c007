"""Scalar rows as LLVM instructions, on one value or on a vector of ``lanes`` values.

In: a row's name, its types and the names of its operands.  Out: the name of the result; the
instructions are appended to a :class:`Code`.

    row(code, "ADD", float32, (float32, float32), ("%1", "%2"), 16)   ->  "%3"
    # %3 = fadd <16 x float> %1, %2

In registers bool is ``i1``, and float16 and bfloat16 are ``float`` with a value that fits the
16-bit type: every row computes in float32 and rounds.  In memory they are ``i8``, ``half`` and the
bfloat16's bits.  Transcendental rows do not come here: :mod:`.math` has expanded them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...dtypes import DType, bfloat16, bool_, float16, float32, float64, int32, int64, uint32
from .target import Target

_NAMES = {"bool": "i1", "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double"}
_MEMORY = {"bool": "i8", "float16": "half", "bfloat16": "i16"}
_MANGLED = {"float": "f32", "double": "f64", "half": "f16"}


def vector(element: str, lanes: int) -> str:
    """``element`` itself for one lane, else the vector type."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def register(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type that holds ``dtype`` in registers."""
    return vector(_NAMES.get(dtype.name) or f"i{dtype.bits}", lanes)


def memory(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type that holds ``dtype`` in memory."""
    return vector(_MEMORY.get(dtype.name) or register(dtype), lanes)


def mangled(ty: str) -> str:
    """The suffix of an intrinsic's name: ``<16 x float>`` is v16f32."""
    if ty[0] != "<":
        return _MANGLED.get(ty, ty)
    lanes, _, element = ty[1:-1].partition(" x ")
    return f"v{lanes}{_MANGLED.get(element, element)}"


def number(value: float | int | bool, dtype: DType, lanes: int = 1) -> str:
    """A constant of ``dtype`` as an operand."""
    if dtype is bool_:
        text = "true" if value else "false"
    elif dtype.kind == "f":
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        # A float's constant is written as a double, and the low bits must be zero for a nan as well.
        text = f"0x{bits & ~0x1FFFFFFF if dtype is not float64 else bits:016X}"
    else:
        text = str(int(value))
    return text if lanes == 1 else f"splat ({register(dtype)} {text})"


@dataclass
class Unit:
    """What the functions of one module share: declarations, constants and helper functions."""

    target: Target
    globals: dict[str, str] = field(default_factory=dict)
    helpers: set[tuple[str, int]] = field(default_factory=set)

    def helper(self, name: str, lanes: int) -> str:
        """The function that :mod:`.helpers` will write for helper ``name``."""
        self.helpers.add((name, lanes))
        return f"@{name}" if lanes == 1 else f"@{name}_{lanes}"


@dataclass
class Code:
    """Instructions being written.  Names are numbered per function by ``counter``."""

    unit: Unit
    counter: Iterator[int]
    lines: list[str] = field(default_factory=list)

    def name(self) -> str:
        return f"%v{next(self.counter)}"

    def let(self, text: str) -> str:
        """Append an instruction; the name of its result."""
        name = f"%v{next(self.counter)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(name + ":")

    def declare(self, name: str, result: str, *types: str) -> None:
        self.unit.globals.setdefault(name, f"declare {result} {name}({', '.join(types)})")

    def call(self, name: str, result: str, *operands: tuple[str, str]) -> str:
        """Call ``name`` with (type, value) operands; declares it."""
        self.declare(name, result, *[t for t, _ in operands])
        return self.let(f"call {result} {name}({', '.join([f'{t} {v}' for t, v in operands])})")

    def intrinsic(self, name: str, ty: str, *values: str) -> str:
        """Call the intrinsic whose operands and result all have type ``ty``."""
        return self.call(f"@llvm.{name}.{mangled(ty)}", ty, *[(ty, v) for v in values])

    def select(self, cond: str, a: str, b: str, ty: str, lanes: int) -> str:
        return self.let(f"select {vector('i1', lanes)} {cond}, {ty} {a}, {ty} {b}")


def splat(c: Code, value: str, element: str, lanes: int) -> str:
    """``value`` in every lane."""
    if value[0] != "%":
        return f"splat ({element} {value})"
    ty = vector(element, lanes)
    one = c.let(f"insertelement {ty} poison, {element} {value}, i64 0")
    return c.let(f"shufflevector {ty} {one}, {ty} poison, <{lanes} x i32> zeroinitializer")


# ---------------------------------------------------------------- 16-bit floats


def _integers(c: Code, lanes: int) -> tuple[str, str]:
    return vector("i32", lanes), vector("float", lanes)


def _splat_i32(value: int, lanes: int) -> str:
    return str(value) if lanes == 1 else f"splat (i32 {value})"


def _bfloat16_bits(c: Code, a: str, lanes: int) -> str:
    """float32 -> i32 whose high half is the nearest bfloat16 (ties to even); the low half is waste."""
    i, f = _integers(c, lanes)
    bits = c.let(f"bitcast {f} {a} to {i}")
    odd = c.let(f"lshr {i} {bits}, {_splat_i32(16, lanes)}")
    odd = c.let(f"and {i} {odd}, {_splat_i32(1, lanes)}")
    half = c.let(f"add {i} {odd}, {_splat_i32(0x7FFF, lanes)}")
    rounded = c.let(f"add {i} {bits}, {half}")
    # Adding could carry a nan's payload away.
    quiet = c.let(f"or {i} {bits}, {_splat_i32(0x400000, lanes)}")
    nan = c.let(f"fcmp uno {f} {a}, {a}")
    return c.select(nan, quiet, rounded, i, lanes)


def _soft_half_bits(c: Code, a: str, lanes: int) -> str:
    """float32 -> i32 with the bits of the nearest float16, in integer steps and one float addition."""
    i, f = _integers(c, lanes)

    def op(name: str, x: str, y: str | int) -> str:
        return c.let(f"{name} {i} {x}, {y if isinstance(y, str) else _splat_i32(y, lanes)}")

    bits = c.let(f"bitcast {f} {a} to {i}")
    sign = op("and", op("lshr", bits, 16), 0x8000)
    size = op("and", bits, 0x7FFFFFFF)
    # Normal results: rebias the exponent, round to even at bit 13.
    odd = op("and", op("lshr", size, 13), 1)
    normal = op("lshr", op("add", op("add", size, odd), 0xFFF - (112 << 23)), 13)
    # Subnormal results: adding 0.5 lines the float16 unit up with the last bit of a float32.
    shifted = c.let(f"bitcast {i} {size} to {f}")
    shifted = c.let(f"fadd {f} {shifted}, {number(0.5, float32, lanes)}")
    small = op("sub", c.let(f"bitcast {f} {shifted} to {i}"), 0x3F000000)
    tiny = op("icmp ult", size, 0x38800000)
    out = c.select(tiny, small, normal, i, lanes)
    large = op("icmp uge", size, 0x477FF000)
    out = c.select(large, _splat_i32(0x7C00, lanes), out, i, lanes)
    nan = op("icmp ugt", size, 0x7F800000)
    quiet = op("or", op("and", op("lshr", size, 13), 0x3FF), 0x7E00)
    return op("or", c.select(nan, quiet, out, i, lanes), sign)


def _soft_half_value(c: Code, bits: str, lanes: int) -> str:
    """i32 with a float16's bits -> float32: a multiplication rebiases, subnormals included."""
    i, f = _integers(c, lanes)

    def op(name: str, x: str, y: str | int) -> str:
        return c.let(f"{name} {i} {x}, {y if isinstance(y, str) else _splat_i32(y, lanes)}")

    size = op("shl", op("and", bits, 0x7FFF), 13)
    value = c.let(f"bitcast {i} {size} to {f}")
    value = c.let(f"fmul {f} {value}, {number(2.0**112, float32, lanes)}")
    out = c.let(f"bitcast {f} {value} to {i}")
    special = op("icmp uge", size, 0x7C00 << 13)
    out = c.select(special, op("or", size, 0x7F800000), out, i, lanes)
    out = op("or", out, op("shl", op("and", bits, 0x8000), 16))
    return c.let(f"bitcast {i} {out} to {f}")


def round16(c: Code, a: str, dtype: DType, lanes: int) -> str:
    """A float32 register rounded to a value of the 16-bit type ``dtype``."""
    i, f = _integers(c, lanes)
    if dtype is bfloat16:
        bits = c.let(f"and {i} {_bfloat16_bits(c, a, lanes)}, {_splat_i32(-65536, lanes)}")
        return c.let(f"bitcast {i} {bits} to {f}")
    if not c.unit.target.has_half:
        return _soft_half_value(c, _soft_half_bits(c, a, lanes), lanes)
    half = c.let(f"fptrunc {f} {a} to {vector('half', lanes)}")
    return c.let(f"fpext {vector('half', lanes)} {half} to {f}")


def from_memory(c: Code, a: str, dtype: DType, lanes: int) -> str:
    """A loaded value as a register."""
    mem = memory(dtype, lanes)
    if dtype is bool_:
        return c.let(f"icmp ne {mem} {a}, {'0' if lanes == 1 else 'zeroinitializer'}")
    i, f = _integers(c, lanes)
    if dtype is bfloat16:
        bits = c.let(f"shl {i} {c.let(f'zext {mem} {a} to {i}')}, {_splat_i32(16, lanes)}")
        return c.let(f"bitcast {i} {bits} to {f}")
    if dtype is float16:
        if c.unit.target.has_half:
            return c.let(f"fpext {mem} {a} to {f}")
        short = vector("i16", lanes)
        bits = c.let(f"zext {short} {c.let(f'bitcast {mem} {a} to {short}')} to {i}")
        return _soft_half_value(c, bits, lanes)
    return a


def to_memory(c: Code, a: str, dtype: DType, lanes: int) -> str:
    """A register as the value to store; a 16-bit float's register already fits its type."""
    mem = memory(dtype, lanes)
    if dtype is bool_:
        return c.let(f"zext {register(dtype, lanes)} {a} to {mem}")
    i, f = _integers(c, lanes)
    if dtype is bfloat16:
        bits = c.let(f"lshr {i} {c.let(f'bitcast {f} {a} to {i}')}, {_splat_i32(16, lanes)}")
        return c.let(f"trunc {i} {bits} to {mem}")
    if dtype is float16:
        if c.unit.target.has_half:
            return c.let(f"fptrunc {f} {a} to {mem}")
        short = c.let(f"trunc {i} {_soft_half_bits(c, a, lanes)} to {vector('i16', lanes)}")
        return c.let(f"bitcast {vector('i16', lanes)} {short} to {mem}")
    return a


# ---------------------------------------------------------------- conversions


def _float_to_int(c: Code, a: str, source: str, dtype: DType, lanes: int) -> str:
    """Truncate; ``freeze`` gives what does not fit some value, where LLVM has none."""
    if dtype.bits == 64:
        convert = "fptosi" if dtype.is_signed else "fptoui"
        return c.let(f"freeze {register(dtype, lanes)} {c.let(f'{convert} {source} {a} to {register(dtype, lanes)}')}")
    # Through a wider signed type, so that negative numbers wrap into an unsigned one.
    wide = vector("i64" if dtype is uint32 else "i32", lanes)
    value = c.let(f"freeze {wide} {c.let(f'fptosi {source} {a} to {wide}')}")
    return value if dtype is int32 else c.let(f"trunc {wide} {value} to {register(dtype, lanes)}")


def cast(c: Code, a: str, source: DType, dtype: DType, lanes: int) -> str:
    """CAST between any two types."""
    if source is dtype:
        return a
    old, new = register(source, lanes), register(dtype, lanes)
    zero = "0" if lanes == 1 else "zeroinitializer"
    if dtype is bool_:
        if source.kind == "f":
            return c.let(f"fcmp une {old} {a}, {number(0.0, source.acc, lanes)}")
        return c.let(f"icmp ne {old} {a}, {zero}")
    if dtype.kind == "f":
        if source.kind == "f":
            value = a if old == new else c.let(f"{'fptrunc' if source is float64 else 'fpext'} {old} {a} to {new}")
            fits = source.acc is float32 and dtype.acc is dtype
        else:
            value = c.let(f"{'sitofp' if source.is_signed else 'uitofp'} {old} {a} to {new}")
            fits = source is bool_
        return value if dtype.acc is dtype or fits else round16(c, value, dtype, lanes)
    if source.kind == "f":
        return _float_to_int(c, a, old, dtype, lanes)
    if source is not bool_ and source.bits == dtype.bits:
        return a
    if source is not bool_ and source.bits > dtype.bits:
        return c.let(f"trunc {old} {a} to {new}")
    return c.let(f"{'sext' if source.is_signed else 'zext'} {old} {a} to {new}")


def _bitcast(c: Code, a: str, source: DType, dtype: DType, lanes: int) -> str:
    value = to_memory(c, a, source, lanes)
    old, new = memory(source, lanes), memory(dtype, lanes)
    if old != new:
        value = c.let(f"bitcast {old} {value} to {new}")
    return from_memory(c, value, dtype, lanes)


# ---------------------------------------------------------------- arithmetic

_FLOAT = {"ADD": "fadd", "SUB": "fsub", "MUL": "fmul", "DIV": "fdiv", "REM": "frem"}
_INT = {"ADD": "add", "SUB": "sub", "MUL": "mul", "AND": "and", "OR": "or", "XOR": "xor"}
_INTRINSIC = {
    "SQRT": "sqrt", "FLOOR": "floor", "CEIL": "ceil", "TRUNC": "trunc", "ROUND": "roundeven",
    "FMA": "fma", "ABS": "fabs",
}  # fmt: skip
_COMPARE = {  # of floats, signed and unsigned integers
    "EQ": ("oeq", "eq", "eq"), "NE": ("une", "ne", "ne"), "LT": ("olt", "slt", "ult"), "LE": ("ole", "sle", "ule"),
}  # fmt: skip
_EXACT = frozenset("NEG ABS MIN MAX FLOOR CEIL TRUNC ROUND WHERE".split())  # of 16-bit operands, a 16-bit result


def _literal(operand: str) -> int | None:
    """The value of an integer constant that :func:`number` wrote; None for a name."""
    return None if "%" in operand else int(operand.rpartition(" ")[2].rstrip(")"))


def _safe_divisor(c: Code, dtype: DType, a: str, b: str, lanes: int) -> str:
    """1 where dividing a by b would trap: by zero, or the lowest number by -1."""
    ty, bits = register(dtype, lanes), vector("i1", lanes)
    unsafe = c.let(f"icmp eq {ty} {b}, {number(0, dtype, lanes)}")
    if dtype.is_signed:
        lowest = c.let(f"icmp eq {ty} {a}, {number(-(1 << (dtype.bits - 1)), dtype, lanes)}")
        minus = c.let(f"icmp eq {ty} {b}, {number(-1, dtype, lanes)}")
        unsafe = c.let(f"or {bits} {unsafe}, {c.let(f'and {bits} {lowest}, {minus}')}")
    return c.select(unsafe, number(1, dtype, lanes), b, ty, lanes)


def _divide(c: Code, op: str, dtype: DType, a: str, b: str, lanes: int) -> str:
    """IDIV and REM of integers: C's truncation, and any divisor is allowed."""
    ty = register(dtype, lanes)
    if _literal(b) in (None, 0, -1):
        b = _safe_divisor(c, dtype, a, b, lanes)
    sign = "s" if dtype.is_signed else "u"
    if lanes == 1 or dtype.bits == 64:
        return c.let(f"{sign}{'div' if op == 'IDIV' else 'rem'} {ty} {a}, {b}")
    # CPUs divide no integer vectors.  A float with more than twice the bits gives the exact quotient.
    wide = vector("float" if dtype.bits == 8 else "double", lanes)
    x, y = [c.let(f"{sign}itofp {ty} {v} to {wide}") for v in (a, b)]
    quotient = c.let(f"fpto{sign}i {wide} {c.let(f'fdiv {wide} {x}, {y}')} to {ty}")
    if op == "IDIV":
        return quotient
    return c.let(f"sub {ty} {a}, {c.let(f'mul {ty} {quotient}, {b}')}")


def _shift(c: Code, op: str, dtype: DType, a: str, b: str, lanes: int) -> str:
    ty = register(dtype, lanes)
    name = "shl" if op == "SHL" else "ashr" if dtype.is_signed else "lshr"
    amount = _literal(b)
    if amount is not None and 0 <= amount < dtype.bits:
        return c.let(f"{name} {ty} {a}, {b}")
    far = c.let(f"icmp uge {ty} {b}, {number(dtype.bits, dtype, lanes)}")
    last = number(dtype.bits - 1, dtype, lanes)
    near = c.select(far, last, b, ty, lanes)
    shifted = c.let(f"{name} {ty} {a}, {near}")
    return shifted if name == "ashr" else c.select(far, number(0, dtype, lanes), shifted, ty, lanes)


def _extremum(c: Code, op: str, dtype: DType, a: str, b: str, lanes: int) -> str:
    ty = register(dtype, lanes)
    if dtype is bool_:
        return c.let(f"{'or' if op == 'MAX' else 'and'} {ty} {a}, {b}")
    if dtype.kind != "f":
        return c.intrinsic(("s" if dtype.is_signed else "u") + op.lower(), ty, a, b)
    # b unless a wins, which is b when either is nan; then a's own nan.
    wins = c.let(f"fcmp {'ogt' if op == 'MAX' else 'olt'} {ty} {a}, {b}")
    best = c.select(wins, a, b, ty, lanes)
    return c.select(c.let(f"fcmp uno {ty} {a}, {a}"), a, best, ty, lanes)


def _mulhi(c: Code, dtype: DType, a: str, b: str, lanes: int) -> str:
    ty, wide = register(dtype, lanes), vector(f"i{2 * dtype.bits}", lanes)
    shift = str(dtype.bits) if lanes == 1 else f"splat (i{2 * dtype.bits} {dtype.bits})"
    x, y = [c.let(f"zext {ty} {v} to {wide}") for v in (a, b)]
    high = c.let(f"lshr {wide} {c.let(f'mul {wide} {x}, {y}')}, {shift}")
    return c.let(f"trunc {wide} {high} to {ty}")


def _scale(c: Code, dtype: DType, p: str, n: str, lanes: int) -> str:
    """p 2^n for an integer-valued float n: one instruction, or two exact steps of half the exponent each."""
    ty = register(dtype, lanes)
    if c.unit.target.has("avx512f") and lanes * dtype.bits == 512:
        suffix = "ps" if dtype is float32 else "pd"
        every, now = (f"i{lanes}", "-1"), ("i32", "4")  # all lanes; the current rounding
        name = f"@llvm.x86.avx512.mask.scalef.{suffix}.512"
        return c.call(name, ty, (ty, p), (ty, n), (ty, "zeroinitializer"), every, now)
    mantissa, bias, integer = (23, 127, int32) if dtype is float32 else (52, 1023, int64)
    bits = register(integer, lanes)

    def power(x: str) -> str:
        """2^x from a biased exponent in the low bits."""
        return c.let(f"bitcast {bits} {c.let(f'shl {bits} {x}, {number(mantissa, integer, lanes)}')} to {ty}")

    biased = c.let(f"fadd {ty} {n}, {number(1.5 * 2.0**mantissa + 2 * bias, dtype, lanes)}")
    i = c.let(f"bitcast {ty} {biased} to {bits}")
    half = c.let(f"lshr {bits} {i}, {number(1, integer, lanes)}")
    p = c.let(f"fmul {ty} {p}, {power(half)}")
    return c.let(f"fmul {ty} {p}, {power(c.let(f'sub {bits} {i}, {half}'))}")


def _unary(c: Code, op: str, dtype: DType, a: str, lanes: int) -> str:
    ty = register(dtype, lanes)
    if op == "NOT":
        return c.let(f"xor {ty} {a}, {number(-1 if dtype is not bool_ else 1, dtype, lanes)}")
    if dtype.kind == "f":
        return c.let(f"fneg {ty} {a}")
    negative = c.let(f"sub {ty} {number(0, dtype, lanes)}, {a}")
    if op == "NEG" or not dtype.is_signed:
        return negative if op == "NEG" else a
    return c.select(c.let(f"icmp slt {ty} {a}, {number(0, dtype, lanes)}"), negative, a, ty, lanes)


def _plain(c: Code, op: str, dtype: DType, src: Sequence[DType], a: Sequence[str], lanes: int) -> str:
    ty = register(dtype, lanes)
    if op in _COMPARE:
        old, of = register(src[0], lanes), src[0]
        names = _COMPARE[op]
        cmp = f"fcmp {names[0]}" if of.kind == "f" else f"icmp {names[1 if of.kind == 'i' else 2]}"
        return c.let(f"{cmp} {old} {a[0]}, {a[1]}")
    if op == "WHERE":
        return c.select(a[0], a[1], a[2], ty, lanes)
    if op in ("MIN", "MAX"):
        return _extremum(c, op, dtype, a[0], a[1], lanes)
    if dtype.kind == "f":
        if op in _FLOAT:
            return c.let(f"{_FLOAT[op]} {ty} {a[0]}, {a[1]}")
        if op in _INTRINSIC:
            return c.intrinsic(_INTRINSIC[op], ty, *a)
    if op in _INT:
        return c.let(f"{_INT[op]} {ty} {a[0]}, {a[1]}")
    if op in ("IDIV", "REM"):
        return _divide(c, op, dtype, a[0], a[1], lanes)
    if op in ("SHL", "SHR"):
        return _shift(c, op, dtype, a[0], a[1], lanes)
    if op == "MULHI":
        return _mulhi(c, dtype, a[0], a[1], lanes)
    if op == "SCALE":
        return _scale(c, dtype, a[0], a[1], lanes)
    return _unary(c, op, dtype, a[0], lanes)


def row(c: Code, op: str, dtype: DType, src: Sequence[DType], a: Sequence[str], lanes: int = 1) -> str:
    """Row ``op`` with result type ``dtype`` on operands ``a`` of types ``src``."""
    if op == "CAST":
        return cast(c, a[0], src[0], dtype, lanes)
    if op == "BITCAST":
        return _bitcast(c, a[0], src[0], dtype, lanes)
    value = _plain(c, op, dtype, src, a, lanes)
    return value if dtype.acc is dtype or op in _EXACT else round16(c, value, dtype, lanes)
