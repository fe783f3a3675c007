"""Element types: torch's names, sizes, kinds and promotion lattice.

A :class:`DType` is a singleton; compare with ``is``.  ``np`` is the NumPy type that stores it
(``ml_dtypes`` gives NumPy bfloat16), ``acc`` the type arithmetic on it is computed in before the
result is rounded back, which is what torch does on CPUs.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import ml_dtypes
import numpy as np

from .errors import SpiralError

# Promotion categories, lowest first (torch: bool < integral < floating < complex).
BOOL, INT, FLOAT, COMPLEX = range(4)


class DType:
    """One element type.  ``itemsize`` is in bytes; ``kind`` is 'b', 'u', 'i', 'f' or 'c'."""

    __slots__ = ("name", "kind", "itemsize", "np", "category", "is_floating_point", "is_complex", "is_signed", "bits")

    def __init__(self, name: str, kind: str, np_type: Any) -> None:
        self.name = name
        self.kind = kind
        self.np = np.dtype(np_type)
        self.itemsize = self.np.itemsize
        self.bits = self.itemsize * 8
        self.category = {"b": BOOL, "u": INT, "i": INT, "f": FLOAT, "c": COMPLEX}[kind]
        self.is_floating_point = kind == "f"
        self.is_complex = kind == "c"
        self.is_signed = kind in "ifc"

    def __repr__(self) -> str:
        return f"spiraltorch.{self.name}"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: Any) -> DType:
        return self

    @property
    def acc(self) -> DType:
        """The type this one is computed in: float32 for the 16-bit floats, else itself."""
        return float32 if self in (float16, bfloat16) else self

    def to_complex(self) -> DType:
        """The complex type whose parts this is (torch.dtype.to_complex); float32's for the 16-bit floats."""
        return complex128 if self in (float64, complex128) else complex64

    def to_real(self) -> DType:
        """The type of a complex number's parts; a real type is itself (torch.dtype.to_real)."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)


bool_ = DType("bool", "b", np.bool_)
uint8 = DType("uint8", "u", np.uint8)
int8 = DType("int8", "i", np.int8)
int16 = DType("int16", "i", np.int16)
int32 = DType("int32", "i", np.int32)
int64 = DType("int64", "i", np.int64)
uint16 = DType("uint16", "u", np.uint16)
uint32 = DType("uint32", "u", np.uint32)
uint64 = DType("uint64", "u", np.uint64)
float16 = DType("float16", "f", np.float16)
bfloat16 = DType("bfloat16", "f", ml_dtypes.bfloat16)
float32 = DType("float32", "f", np.float32)
float64 = DType("float64", "f", np.float64)
complex64 = DType("complex64", "c", np.complex64)
complex128 = DType("complex128", "c", np.complex128)

half, float_, double = float16, float32, float64
short, int_, long = int16, int32, int64
cfloat, cdouble = complex64, complex128

ALL: tuple[DType, ...] = (
    bool_, uint8, int8, int16, int32, int64, uint16, uint32, uint64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
BY_NAME: dict[str, DType] = {d.name: d for d in ALL}


def _by_name(name: str) -> DType:
    return BY_NAME[name]


_BY_NP: dict[Any, DType] = {d.np: d for d in ALL}

FLOATS = (float16, bfloat16, float32, float64)
INTS = (uint8, int8, int16, int32, int64)

_default = float32


def get_default_dtype() -> DType:
    """The floating type that Python floats and ``st.rand`` get (torch.get_default_dtype)."""
    return _default


def set_default_dtype(d: DType) -> None:
    """Set the default floating type.  Raises TypeError for a type that is not floating."""
    global _default
    if not isinstance(d, DType) or d not in FLOATS:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    _default = d


def fitting(value: Any, d: DType) -> Any:
    """``value``, a Python number, if type ``d`` can hold it; unsigned types wrap negative numbers.

    Raises RuntimeError if it cannot, as torch where it converts checked, and OverflowError for integers beyond 64 bits.
    """
    if value.__class__ is int and not -1 << 63 <= value < 1 << 64:
        raise OverflowError("int too big to convert: Python integers beyond 64 bits are no elements")
    if d.kind == "b" or value == 0:
        return value
    parts = (value.real, value.imag) if isinstance(value, complex) else (value, 0)
    low, high = _range(d)
    finite = [p for p in parts if math.isfinite(p)]
    fits = (d.kind in "fc" or len(finite) == 2) and (d.kind == "c" or not parts[1]) and all([low <= p <= high for p in finite])
    if not fits:
        raise SpiralError(f"value cannot be converted to type {d.name} without overflow: {value}")
    return value


@functools.cache
def _range(d: DType) -> tuple[Any, Any]:
    if d.kind in "iu":
        high = int(np.iinfo(d.np).max)
        return int(np.iinfo(d.np).min) or -high, high
    most = float(ml_dtypes.finfo(d.to_real().np if d.kind == "c" else d.np).max)
    return -most, most


def from_numpy_dtype(d: Any) -> DType:
    """The DType that stores NumPy type ``d``.  Raises TypeError when there is none."""
    if not np.dtype(d).isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion is not supported.")
    found = _BY_NP.get(np.dtype(d))
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {np.dtype(d)}; the supported types are: "
            + ", ".join(x.name for x in ALL)
        )
    return found


def _promotion_table() -> dict[tuple[DType, DType], DType]:
    """torch.promote_types over all pairs, from the rules rather than a copied table."""
    table: dict[tuple[DType, DType], DType] = {}
    signed = {8: int8, 16: int16, 32: int32, 64: int64}
    wide = {uint16, uint32, uint64}  # these convert to floats and to nothing else, as torch's do
    for a in ALL:
        for b in ALL:
            if a is b:
                r = a
            elif wide & {a, b} and FLOAT not in (a.category, b.category):
                continue
            elif a.category != b.category:
                hi, lo = (a, b) if a.category > b.category else (b, a)
                # A real float beside a complex keeps the wider of the two precisions.
                r = complex128 if hi is complex64 and lo is float64 else hi
            elif a.category == FLOAT:
                r = float32 if {a, b} == {float16, bfloat16} else max(a, b, key=lambda d: d.itemsize)
            elif a.category == COMPLEX:
                r = complex128
            elif a.kind == b.kind:
                r = max(a, b, key=lambda d: d.bits)
            else:
                u, i = (a, b) if a.kind == "u" else (b, a)
                r = i if i.bits > u.bits else signed[u.bits * 2]
            table[a, b] = r
    return table


_PROMOTE = _promotion_table()


def promote_types(a: DType, b: DType) -> DType:
    """The smallest type both convert to (torch.promote_types).

    Raises RuntimeError for uint16, uint32 and uint64 beside other integers or complex numbers.
    """
    found = _PROMOTE.get((a, b))
    if found is None:
        raise SpiralError(
            f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {a.name} and {b.name}; "
            "convert one of them first, e.g. x.to(spiraltorch.int64)"
        )
    return found


def of_python(value: Any) -> DType:
    """The type a bare number has as a tensor; NumPy's scalars count as Python's."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _default
    if isinstance(value, (complex, np.complexfloating)):
        return complex128 if _default is float64 else complex64
    raise TypeError(f"expected a number, got {type(value).__name__}")
