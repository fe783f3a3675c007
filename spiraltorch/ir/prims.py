"""The closed vocabularies.

``ROWS`` are the scalar operations, shared by graph and kernel level: one row says everything about
an operation that does not depend on a backend.  ``STRUCTURAL`` are the graph operations that move,
contract or select.  ``KERNEL`` are the leaves a kernel expression may have besides rows.

``derivative`` names, per operand, an expression in the operands ``a b c``, the result ``out`` and
the incoming gradient ``g``; :mod:`spiraltorch.ops.gradients` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A scalar operation.

    arity: operands.  result: 'same' (type of the last operand), 'bool', 'arg' (given).
    kinds: element kinds it accepts, of 'b' bool, 'u', 'i', 'f', 'c' (only in graphs: jit/realify.py splits those).
    numpy: its meaning as a NumPy expression over ``a b c``; the reference interpreter evaluates it.
    derivative: one expression per operand, None where the gradient is zero.
    ulp: bound on the error of every spelling in float32 (0: exactly rounded).
    """

    name: str
    arity: int
    numpy: str
    result: str = "same"
    kinds: str = "uif"
    derivative: tuple[str | None, ...] = ()
    ulp: float = 0.0
    commutative: bool = False


def _rows(*rows: Row) -> dict[str, Row]:
    return {r.name: r for r in rows}


ROWS: dict[str, Row] = _rows(
    # arithmetic; ABS of a complex number is real; integers wrap; MIN and MAX propagate nan; IDIV and REM truncate as C does
    Row("ADD", 2, "a + b", kinds="uifc", derivative=("g", "g"), commutative=True),
    Row("SUB", 2, "a - b", kinds="uifc", derivative=("g", "neg(g)")),
    Row("MUL", 2, "a * b", kinds="uifc", derivative=("g * b", "g * a"), commutative=True),
    Row("DIV", 2, "a / b", kinds="fc", derivative=("g / b", "neg(g) * out / b")),
    Row("IDIV", 2, "trunc_div(a, b)", kinds="ui"),
    Row("REM", 2, "np.fmod(a, b)", derivative=("g", "neg(g) * trunc(a / b)")),
    Row("NEG", 1, "-a", kinds="uifc", derivative=("neg(g)",)),
    Row("ABS", 1, "np.abs(a)", kinds="uifc", derivative=("cast_like(g, a) * sign(a)",)),
    Row("MIN", 2, "np.minimum(a, b)", kinds="buif", derivative=("tie(g, a, b, b < a)", "tie(g, a, b, a < b)"),
        commutative=True),
    Row("MAX", 2, "np.maximum(a, b)", kinds="buif", derivative=("tie(g, a, b, a < b)", "tie(g, a, b, b < a)"),
        commutative=True),
    Row("FMA", 3, "fma(a, b, c)", kinds="f", derivative=("g * b", "g * a", "g")),
    Row("POW", 2, "np.power(a, b)", kinds="fc", ulp=2.0,
        derivative=("where(b == 0, 0, g * b * pow(a, b - 1))", "where((a == 0) & (real(b) >= 0), 0, g * out * log(a))")),
    # exponentials
    Row("EXP", 1, "np.exp(a)", kinds="fc", derivative=("g * out",), ulp=2.0),
    Row("EXP2", 1, "np.exp2(a)", kinds="fc", derivative=("g * out * 0.6931471805599453",), ulp=2.0),
    Row("EXPM1", 1, "np.expm1(a)", kinds="fc", derivative=("g * (out + 1)",), ulp=2.0),
    Row("LOG", 1, "np.log(a)", kinds="fc", derivative=("g / a",), ulp=2.0),
    Row("LOG2", 1, "np.log2(a)", kinds="fc", derivative=("g / (a * 0.6931471805599453)",), ulp=2.0),
    Row("LOG1P", 1, "np.log1p(a)", kinds="fc", derivative=("g / (a + 1)",), ulp=2.0),
    Row("SQRT", 1, "np.sqrt(a)", kinds="fc", derivative=("g / (2 * out)",)),
    Row("RSQRT", 1, "1 / np.sqrt(a)", kinds="fc", derivative=("-0.5 * g * out * out * out",), ulp=1.5),
    # trigonometry and friends
    Row("SIN", 1, "np.sin(a)", kinds="fc", derivative=("g * cos(a)",), ulp=2.0),
    Row("COS", 1, "np.cos(a)", kinds="fc", derivative=("neg(g) * sin(a)",), ulp=2.0),
    Row("TAN", 1, "np.tan(a)", kinds="fc", derivative=("g * (out * out + 1)",), ulp=2.0),
    Row("ASIN", 1, "np.arcsin(a)", kinds="fc", derivative=("g * rsqrt((1 - a) * (a + 1))",), ulp=2.0),
    Row("ACOS", 1, "np.arccos(a)", kinds="fc", derivative=("neg(g) * rsqrt((1 - a) * (a + 1))",), ulp=2.0),
    Row("ATAN", 1, "np.arctan(a)", kinds="fc", derivative=("g / (a * a + 1)",), ulp=2.0),
    Row("ATAN2", 2, "np.arctan2(a, b)", kinds="f",
        derivative=("where((a == 0) & (b == 0), g * b, g * b / (a * a + b * b))",
                                          "where((a == 0) & (b == 0), neg(g) * a, neg(g) * a / (a * a + b * b))"), ulp=2.0),
    Row("TANH", 1, "np.tanh(a)", kinds="fc", derivative=("g * (1 - out * out)",), ulp=2.0),
    Row("ERF", 1, "erf(a)", kinds="f", derivative=("g * 1.1283791670955126 * exp(neg(a * a))",), ulp=2.0),
    # rounding: ROUND is to nearest even
    Row("FLOOR", 1, "np.floor(a)", kinds="f"),
    Row("CEIL", 1, "np.ceil(a)", kinds="f"),
    Row("TRUNC", 1, "np.trunc(a)", kinds="f"),
    Row("ROUND", 1, "np.rint(a)", kinds="f"),
    # comparisons; NE is true for nan, the others false
    Row("EQ", 2, "a == b", result="bool", kinds="buifc", commutative=True),
    Row("NE", 2, "a != b", result="bool", kinds="buifc", commutative=True),
    Row("LT", 2, "a < b", result="bool", kinds="buif"),
    Row("LE", 2, "a <= b", result="bool", kinds="buif"),
    # bits; shifts by the width or more give 0 (SHR of a signed number: its sign)
    Row("AND", 2, "a & b", kinds="bui", commutative=True),
    Row("OR", 2, "a | b", kinds="bui", commutative=True),
    Row("XOR", 2, "a ^ b", kinds="bui", commutative=True),
    Row("NOT", 1, "~a", kinds="bui"),
    Row("SHL", 2, "shl(a, b)", kinds="ui"),
    Row("SHR", 2, "shr(a, b)", kinds="ui"),
    Row("MULHI", 2, "mulhi(a, b)", kinds="u", commutative=True),  # uint32: high word of the product
    # selection and conversion; BITCAST keeps bits; CAST float->int truncates and saturates nowhere
    Row("WHERE", 3, "np.where(a, b, c)", kinds="buifc", derivative=(None, "where(a, g, 0)", "where(a, 0, g)")),
    Row("CAST", 1, "cast(a)", result="arg", kinds="buifc", derivative=("cast_like(g, a)",)),
    Row("BITCAST", 1, "bitcast(a)", result="arg", kinds="uif"),
)  # fmt: skip

# Graph operations.  arg of each:
#   BUFFER   runtime buffer (by identity)           PARAM   position of a program's input
#   CONST    Bits, shape ()                          IOTA    axis along which 0, 1, 2 ... runs (int64)
#   RESHAPE  new shape                               PERMUTE order of the source's axes
#   EXPAND   new shape; size-1 axes are repeated     SLICE   ((start, stop, step), ...) per axis; step may be negative
#   PAD      ((before, after, interior), ...) per axis, filled with zero; counts may not be negative
#   WINDOW   (axis, size, stride, dilation): the axis becomes the window positions, and the window
#            itself is a new last axis
#   DIAGONAL (offset, a, b): the elements (i, i + offset) of axes a and b, a new last axis in their stead
#   GATHER   axis: out = src taken along axis at src[1] (any shape, which replaces the axis); or
#            ("along", axis): out[.., i, ..] = src[.., src[1][.., i, ..], ..], src[1] of the same rank
#            and no larger on the other axes.  Indices are checked against the axis' size
#   SCATTER  (axis, op): src[0] with src[2] put at positions src[1] along axis, in the order of the index;
#            op 'set' replaces what is there (the last of equal positions stays); 'add' 'mul' 'max' 'min' fold into it
#   UPDATE   as SLICE: src[0] with that region replaced by src[1]
#   REDUCE   (op, axes): op of 'add' 'mul' 'max' 'min'; the axes disappear
#   SCAN     (op, axis, reverse): running fold; op as in REDUCE, or 'logaddexp'
#   DOT      (batch_a, batch_b, contract_a, contract_b): out axes are batch, free of a, free of b
#   RANDOM   none; src are the key and the counter (0-d uint64); one uint32 an element, Philox4x32-10 at
#            (counter + flat index)
#   REAL, IMAG  parts of a complex number          COMPLEX  a number of two real parts
#   AS_REAL  complex numbers as reals of shape (*shape, 2), the same memory       AS_COMPLEX  the inverse
#   COPY     none: the same values in memory of their own
#   CALL     (name, static): a library routine kept whole (kernels/library); one result, static are literals
STRUCTURAL: frozenset[str] = frozenset(
    "BUFFER PARAM CONST IOTA RESHAPE PERMUTE EXPAND SLICE PAD WINDOW DIAGONAL GATHER SCATTER UPDATE "
    "REDUCE SCAN DOT RANDOM REAL IMAG COMPLEX AS_REAL AS_COMPLEX COPY CALL".split()
)

# Recorded graphs, until their program is compiled, also have APPLY: a call of an operator (again.Applied) over its tensors.

# Leaves of kernel expressions (see ir/kernel.py):
#   CONST; SCALAR i: run-time scalar; INDEX access: int64; LOAD Load; VALUE id: a reduction's result
KERNEL: frozenset[str] = frozenset("CONST SCALAR INDEX LOAD VALUE".split())

MOVEMENT: frozenset[str] = frozenset("RESHAPE PERMUTE EXPAND SLICE PAD WINDOW DIAGONAL".split())
REDUCTIONS: tuple[str, ...] = ("add", "mul", "max", "min")
