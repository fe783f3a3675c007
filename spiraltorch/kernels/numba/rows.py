"""How each scalar row, constant, load and store is written in the plain-Python spelling.

    >>> from spiraltorch.dtypes import float32, int32
    >>> spell("MUL", ("v0", "v1"), float32, float32)
    'v0 * v1'
    >>> spell("ADD", ("v0", "v1"), int32, int32)
    'np.int32(v0 + v1)'

16-bit floats are carried as float32 values that have been rounded (see :mod:`.helpers`).  NumPy's
functions are used rather than those of ``math``, which raise in plain Python where a kernel gives
inf or nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...dtypes import DType, bfloat16, bool_, float16, int64, uint64

_INFIX = {"ADD": "+", "SUB": "-", "MUL": "*", "DIV": "/", "EQ": "==", "NE": "!=", "LT": "<", "LE": "<=",
          "AND": "&", "OR": "|", "XOR": "^"}  # fmt: skip
_NUMPY = {"EXP": "exp", "EXP2": "exp2", "EXPM1": "expm1", "LOG": "log", "LOG2": "log2", "LOG1P": "log1p",
          "SQRT": "sqrt", "SIN": "sin", "COS": "cos", "TAN": "tan", "ASIN": "arcsin", "ACOS": "arccos",
          "ATAN": "arctan", "ATAN2": "arctan2", "TANH": "tanh", "FLOOR": "floor", "CEIL": "ceil",
          "TRUNC": "trunc", "ROUND": "rint", "POW": "power", "MIN": "minimum", "MAX": "maximum"}  # fmt: skip
_BOOL = {"EQ": "{0} == {1}", "NE": "{0} != {1}", "XOR": "{0} != {1}", "LT": "(not {0}) & {1}",
         "LE": "(not {0}) | {1}", "AND": "{0} & {1}", "OR": "{0} | {1}", "MIN": "{0} & {1}", "MAX": "{0} | {1}",
         "NOT": "not {0}"}  # fmt: skip
_OVERFLOWS = frozenset(("ADD", "SUB", "MUL", "NEG", "ABS"))
# Rows whose result on 16-bit operands is a 16-bit number already.
_EXACT = frozenset(("NEG", "ABS", "MIN", "MAX", "WHERE", "FLOOR", "CEIL", "TRUNC", "ROUND", "REM"))
SHORT = {float16: "f16", bfloat16: "bf16"}


def np_name(dtype: DType) -> str:
    """The NumPy type that carries a value of ``dtype``."""
    return "np.bool_" if dtype is bool_ else f"np.{dtype.acc.name}"


def constant(value: Any, dtype: DType) -> str:
    if dtype is bool_:
        return str(bool(value))
    if dtype.is_floating_point and not math.isfinite(value):
        return f"{np_name(dtype)}({'np.nan' if math.isnan(value) else 'np.inf' if value > 0 else '-np.inf'})"
    return f"{np_name(dtype)}({value!r})"


def from_memory(element: str, dtype: DType) -> str:
    """An array element as the value that carries it."""
    return f"{SHORT[dtype]}_value({element})" if dtype in SHORT else element


def to_memory(value: str, dtype: DType) -> str:
    return f"{SHORT[dtype]}_bits({value})" if dtype in SHORT else value


def rounded(expression: str, dtype: DType) -> str:
    return f"round_{SHORT[dtype]}({expression})" if dtype in SHORT else expression


def cast(x: str, source: DType, target: DType) -> str:
    if target is bool_:
        return f"{x} != 0"
    if source.is_floating_point and target.kind in "iu":
        low = -(2.0 ** (target.bits - 1)) if target.is_signed else 0.0
        high = 2.0 ** (target.bits - target.is_signed)
        return f"{np_name(target)}(truncate({x}, {low!r}, {high!r}))"
    if target in SHORT:
        return rounded(x if source.acc is target.acc else f"np.float32({x})", target)
    return x if source.acc is target else f"{np_name(target)}({x})"


def bitcast(x: str, source: DType, target: DType) -> str:
    if source in SHORT:
        x, name = f"{SHORT[source]}_bits({x})", "uint16"
    else:
        name = source.name
    if target in SHORT:
        return f"{SHORT[target]}_value(np.{name}({x}).view(np.uint16))"
    return f"np.{name}({x}).view(np.{target.name})"


def _float(op: str, x: Sequence[str], dtype: DType) -> str:
    if op in _INFIX:
        return f"{x[0]} {_INFIX[op]} {x[1]}"
    if op in _NUMPY:
        return f"np.{_NUMPY[op]}({', '.join(x)})"
    number = np_name(dtype)
    if op == "FMA":
        return f"fma{dtype.acc.bits}({', '.join(x)})"
    return {
        "NEG": "-{0}", "ABS": "abs({0})", "REM": "np.fmod({0}, {1})", "RSQRT": number + "(1) / np.sqrt({0})",
        "ERF": number + "(math.erf({0}))",
    }[op].format(*x)  # fmt: skip


def _integer(op: str, x: Sequence[str], dtype: DType) -> str:
    """The exact or wrapped value; the caller brings it back to ``dtype``."""
    if dtype is int64 and op in _OVERFLOWS:
        # Numba lets LLVM assume that signed numbers do not overflow; unsigned ones wrap.
        u = [f"np.uint64({v})" for v in x]
        wrapped = f"{u[0]} {_INFIX[op]} {u[1]}" if op in _INFIX else f"np.uint64(0) - {u[0]}"
        return f"{x[0]} if {x[0]} >= 0 else np.int64({wrapped})" if op == "ABS" else f"np.int64({wrapped})"
    if op in _INFIX:
        return f"{x[0]} {_INFIX[op]} {x[1]}"
    if op == "MULHI":
        return (
            f"mulhi64({x[0]}, {x[1]})" if dtype is uint64 else f"np.uint64({x[0]}) * {x[1]} >> np.uint64({dtype.bits})"
        )
    kind = "trunc" if dtype.is_signed else "floor"
    shift_right = "shift_right_signed" if dtype.is_signed else "shift_right"
    return {
        "NEG": "-{0}", "ABS": "abs({0})" if dtype.is_signed else "{0}", "NOT": "~{0}", "MIN": "min({0}, {1})",
        "MAX": "max({0}, {1})", "IDIV": kind + "_div({0}, {1})", "REM": kind + "_rem({0}, {1})",
        "SHL": f"shift_left({{0}}, {{1}}, {dtype.bits})", "SHR": f"{shift_right}({{0}}, {{1}}, {dtype.bits})",
    }[op].format(*x)  # fmt: skip


def spell(op: str, x: Sequence[str], source: DType, dtype: DType) -> str:
    """Row ``op`` on operands ``x``, the last of type ``source``, giving ``dtype``, as a Python expression."""
    if op == "CAST":
        return cast(x[0], source, dtype)
    if op == "BITCAST":
        return bitcast(x[0], source, dtype)
    if op == "WHERE":
        return f"{x[1]} if {x[0]} else {x[2]}"
    if source is bool_:
        return _BOOL[op].format(*x)
    if source.is_floating_point:
        expression = _float(op, x, source)
        return expression if op in _EXACT or dtype is bool_ else rounded(expression, dtype)
    expression = _integer(op, x, source)
    # Numba widens small integers to 64 bits, so the result is brought back to its own width.
    return expression if dtype is bool_ or dtype.bits == 64 else f"{np_name(dtype)}({expression})"
