"""How each scalar row and constant is written in Triton.

    >>> from spiraltorch.dtypes import bfloat16, float32
    >>> spell("DIV", ("v0", "v1"), float32, float32)
    'tl.div_rn(v0, v1)'
    >>> spell("ADD", ("v0", "v1"), bfloat16, bfloat16)
    'tl.cast(tl.cast(v0 + v1, tl.bfloat16), tl.float32)'

16-bit floats are carried as float32 values that have been rounded.  Functions come from Triton's
``libdevice`` module, which stands for CUDA's or ROCm's accurate library; everything else is builtin.
Compiled without fp fusion, each row rounds by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...dtypes import DType, bool_, float32, float64, int32, int64

_INFIX = {"ADD": "+", "SUB": "-", "MUL": "*", "EQ": "==", "NE": "!=", "LT": "<", "LE": "<=", "AND": "&", "OR": "|",
          "XOR": "^"}  # fmt: skip
# Rows by their name in libdevice; the interpreter has NumPy's functions under the same names.
LIBRARY = {"EXP": "exp", "EXP2": "exp2", "EXPM1": "expm1", "LOG": "log", "LOG2": "log2", "LOG1P": "log1p",
           "SIN": "sin", "COS": "cos", "TAN": "tan", "ASIN": "asin", "ACOS": "acos", "ATAN": "atan",
           "ATAN2": "atan2", "TANH": "tanh", "ERF": "erf", "TRUNC": "trunc", "ROUND": "rint", "POW": "pow",
           "REM": "fmod"}  # fmt: skip
_BOOL = {"MIN": "{0} & {1}", "MAX": "{0} | {1}", "LT": "~{0} & {1}", "LE": "~{0} | {1}", "NOT": "~{0}"}
_NAN = ", propagate_nan=tl.PropagateNan.ALL"
# Rows whose result on 16-bit operands is a 16-bit number already.
_EXACT = frozenset(("NEG", "ABS", "MIN", "MAX", "WHERE", "FLOOR", "CEIL", "TRUNC", "ROUND", "REM"))
# Rows that take a bare number beside a tensor, and the types for which the number is exact then.
LITERAL_ROWS = frozenset(("ADD", "SUB", "MUL", "EQ", "NE", "LT", "LE", "AND", "OR", "XOR", "MIN", "MAX", "WHERE"))
_INLINE = (float32, int32, int64)


def tl_name(dtype: DType) -> str:
    """Triton's name of the type itself."""
    return "tl.int1" if dtype is bool_ else f"tl.{dtype.name}"


def carrier(dtype: DType) -> str:
    """The Triton type that carries a value of ``dtype``."""
    return tl_name(dtype.acc)


def pointer_name(dtype: DType) -> str:
    """The signature of a pointer to ``dtype`` in memory (a bool is a byte)."""
    return "*" + {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "bool": "i8"}.get(
        dtype.name, dtype.kind + str(dtype.bits)
    )


def scalar_name(dtype: DType) -> str:
    """The signature of a run-time scalar: 16-bit floats come as float32, small integers as int32."""
    if dtype.is_floating_point:
        return "fp64" if dtype is float64 else "fp32"
    return "i32" if dtype.bits < 32 else dtype.kind + str(dtype.bits)


def constant(value: Any, dtype: DType) -> str:
    """A typed scalar."""
    if dtype.is_floating_point and not math.isfinite(value):
        text = f'float("{value}")'
    else:
        text = repr(value)
    if dtype.is_floating_point and value == 0 and math.copysign(1, value) < 0:
        return f"-tl.full([], 0.0, {carrier(dtype)})"  # a literal would lose the sign
    return f"tl.full([], {text}, {carrier(dtype)})"


def literal(value: Any, dtype: DType) -> str | None:
    """The bare number, where Triton gives it the type of the tensor beside it; None where it would not."""
    if dtype.acc not in _INLINE or not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        return None
    return repr(value) if value >= 0 else f"({value!r})"


def rounded(expression: str, dtype: DType) -> str:
    """A float32 expression brought to what ``dtype`` can hold."""
    return expression if dtype.acc is dtype else f"tl.cast(tl.cast({expression}, {tl_name(dtype)}), tl.float32)"


def from_memory(loaded: str, dtype: DType) -> str:
    if dtype is bool_:
        return f"{loaded} != 0"
    return loaded if dtype.acc is dtype else f"tl.cast({loaded}, tl.float32)"


def cast(x: str, source: DType, target: DType) -> str:
    if target is bool_:
        return f"{x} != 0"
    if target.acc is not target:
        return rounded(x if source.acc is float32 else f"tl.cast({x}, tl.float32)", target)
    return x if source.acc is target else f"tl.cast({x}, {tl_name(target)})"


def bitcast(x: str, source: DType, target: DType) -> str:
    inner = x if source.acc is source else f"tl.cast({x}, {tl_name(source)})"
    bits = f"tl.cast({inner}, {tl_name(target)}, bitcast=True)"
    return bits if target.acc is target else f"tl.cast({bits}, tl.float32)"


def _float(op: str, x: Sequence[str], dtype: DType) -> str:
    single = dtype.acc is float32
    if op in LIBRARY:
        return f"libdevice.{LIBRARY[op]}({', '.join(x)})"
    sqrt = "tl.sqrt_rn({0})" if single else "tl.sqrt({0})"
    return {
        "NEG": "-{0}", "ABS": "tl.abs({0})", "FLOOR": "tl.floor({0})", "CEIL": "tl.ceil({0})", "SQRT": sqrt,
        "DIV": "tl.div_rn({0}, {1})" if single else "{0} / {1}",
        "RSQRT": f"tl.div_rn({constant(1.0, dtype)}, {sqrt})" if single else f"1.0 / {sqrt}",
        "FMA": "tl.fma({0}, {1}, {2})", "MIN": f"tl.minimum({{0}}, {{1}}{_NAN})",
        "MAX": f"tl.maximum({{0}}, {{1}}{_NAN})",
    }[op].format(*x)  # fmt: skip


def _integer(op: str, x: Sequence[str], dtype: DType) -> str:
    bits, signed = dtype.bits, dtype.is_signed
    one = constant(1, dtype)
    # No operand may reach a division that traps or is undefined: 0, and -1 where the quotient could overflow.
    unsafe = "({1} == 0) | ({1} == -1)" if signed else "{1} == 0"
    quotient = f"{{0}} // tl.where({unsafe}, {one}, {{1}})"
    inside = f"({{1}} >= 0) & ({{1}} < {bits})" if signed else f"{{1}} < {bits}"
    zero = constant(0, dtype)
    return {
        "NEG": "-{0}", "ABS": "tl.abs({0})" if signed else "{0}", "NOT": "~{0}",
        "MIN": "tl.minimum({0}, {1})", "MAX": "tl.maximum({0}, {1})",
        "IDIV": f"tl.where({{1}} == -1, -{{0}}, {quotient})" if signed else quotient,
        "REM": f"{{0}} % tl.where({unsafe}, {one}, {{1}})",
        "SHL": f"tl.where({inside}, {{0}} << {{1}}, {zero})",
        "SHR": f"{{0}} >> tl.where({inside}, {{1}}, {constant(bits - 1, dtype)})" if signed
               else f"tl.where({inside}, {{0}} >> {{1}}, {zero})",
        "MULHI": "tl.umulhi({0}, {1})" if bits >= 32
                 else f"tl.cast(tl.cast({{0}}, tl.uint32) * {{1}} >> {bits}, {tl_name(dtype)})",
    }[op].format(*x)  # fmt: skip


def spell(op: str, x: Sequence[str], source: DType, dtype: DType) -> str:
    """Row ``op`` on operands ``x``, the last of type ``source``, giving ``dtype``, as a Triton expression."""
    if op == "CAST":
        return cast(x[0], source, dtype)
    if op == "BITCAST":
        return bitcast(x[0], source, dtype)
    if op == "WHERE":
        return f"tl.where({x[0]}, {x[1]}, {x[2]})"
    if source is bool_ and op in _BOOL:
        return _BOOL[op].format(*x)
    if op in _INFIX:
        expression = f"{x[0]} {_INFIX[op]} {x[1]}"
    elif source.is_floating_point:
        expression = _float(op, x, source)
    else:
        expression = _integer(op, x, source)
    return expression if op in _EXACT or dtype is bool_ else rounded(expression, dtype)
