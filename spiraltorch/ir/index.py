"""Index arithmetic: where an element of a source is, as a linear form in the axes of a loop nest.

    >>> i = Affine.axis(0)                 # an axis of size 12
    >>> i.divmod(4, [12])                  # reading it as (3, 4) needs the axis itself split
    Traceback (most recent call last):
    spiraltorch.ir.index.NeedSplit: axis 0 by 4
    >>> (i * 4 + Affine.axis(1)).divmod(4, [3, 4])
    (a0, a1)

Coefficients are plain integers here; lowering turns them into run-time arguments, so one kernel
serves all sizes.  ``dyn`` are terms with run-time indices (gathers): (expression, coefficient).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .node import Node


class NeedSplit(Exception):
    """The map is linear once ``axis`` is split into (size / inner, inner)."""

    def __init__(self, axis: int, inner: int) -> None:
        super().__init__(f"axis {axis} by {inner}")
        self.axis, self.inner = axis, inner


class NotAffine(Exception):
    """No linear map: ``node`` must be computed into memory first."""

    node: Node | None = None


class Affine:
    """``const + sum(axis_k * coef_k) + sum(value_j * coef_j)``; immutable, hashable."""

    __slots__ = ("const", "terms", "dyn", "_hash")

    def __init__(self, const: int = 0, terms: tuple[tuple[int, int], ...] = (), dyn: tuple[tuple[Any, int], ...] = ()) -> None:
        self.const, self.terms, self.dyn = const, terms, dyn
        self._hash = hash((const, terms, dyn))

    @staticmethod
    def axis(k: int) -> Affine:
        return Affine(0, ((k, 1),))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Affine)
            and self._hash == other._hash
            and (self.const, self.terms, self.dyn) == (other.const, other.terms, other.dyn)
        )

    def __repr__(self) -> str:
        parts = [f"a{k}" if c == 1 else f"a{k}*{c}" for k, c in self.terms]
        parts += [f"({v!r})*{c}" for v, c in self.dyn]
        if self.const or not parts:
            parts.append(str(self.const))
        return "+".join(parts)

    def coef(self, axis: int) -> int:
        for k, c in self.terms:
            if k == axis:
                return c
        return 0

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return self if other == 0 else Affine(self.const + other, self.terms, self.dyn)
        if not other.terms and not other.dyn:
            return self + other.const
        if not self.terms and not self.dyn:
            return other + self.const
        sums = dict(self.terms)
        for k, c in other.terms:
            sums[k] = sums.get(k, 0) + c
        return Affine(self.const + other.const, tuple(sorted((k, c) for k, c in sums.items() if c)), self.dyn + other.dyn)

    def __mul__(self, k: int) -> Affine:
        if k == 1:
            return self
        if k == 0:
            return ZERO
        return Affine(self.const * k, tuple([(a, c * k) for a, c in self.terms]), tuple([(v, c * k) for v, c in self.dyn]))

    def bounds(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Smallest and largest value over axes of ``sizes`` (run-time indices not counted)."""
        lo = hi = self.const
        for k, c in self.terms:
            reach = c * (sizes[k] - 1)
            if reach > 0:
                hi += reach
            else:
                lo += reach
        return lo, hi

    def divmod(self, k: int, sizes: Sequence[int]) -> tuple[Affine, Affine]:
        """(self // k, self % k).  Raises NeedSplit or NotAffine when that is not linear."""
        if k == 1:
            return self, ZERO
        if any(c % k for _, c in self.dyn):
            raise NotAffine(f"run-time index divided by {k}")
        high = tuple([(a, c // k) for a, c in self.terms if c % k == 0])
        low = tuple([(a, c) for a, c in self.terms if c % k])
        q, r = divmod(self.const, k)
        rest = Affine(r, low)
        lo, hi = rest.bounds(sizes)
        if lo >= 0 and hi < k:
            return Affine(q, high, tuple([(v, c // k) for v, c in self.dyn])), rest
        for a, c in low:
            inner = k // c if c > 0 and k % c == 0 else 0
            if 1 < inner < sizes[a] and sizes[a] % inner == 0:
                raise NeedSplit(a, inner)
        raise NotAffine(f"({self!r}) divided by {k}")

    def substitute(self, axes: Sequence[Affine]) -> Affine:
        """With axis k replaced by ``axes[k]``; run-time terms are left to the caller."""
        const = self.const
        sums: dict[int, int] = {}
        dyn: tuple[tuple[Any, int], ...] = ()
        for k, c in self.terms:
            a = axes[k]
            const += a.const * c
            for j, d in a.terms:
                sums[j] = sums.get(j, 0) + d * c
            if a.dyn:
                dyn += tuple([(v, d * c) for v, d in a.dyn])
        return Affine(const, tuple(sorted((k, c) for k, c in sums.items() if c)), dyn)


ZERO = Affine()


def row_major(shape: Sequence[int]) -> list[int]:
    """Element strides of a contiguous array."""
    out, n = [], 1
    for s in reversed(shape):
        out.append(n)
        n *= s
    out.reverse()
    return out


def flatten(index: Sequence[Affine], shape: Sequence[int]) -> Affine:
    """Flat position in a contiguous array of ``shape``."""
    total = ZERO
    for a, s in zip(index, row_major(shape)):
        total = total + a * s
    return total


def unflatten(flat: Affine, shape: Sequence[int], sizes: Sequence[int]) -> list[Affine]:
    """The index in ``shape`` at flat position ``flat``."""
    out = []
    for s in row_major(shape)[:-1]:
        q, flat = flat.divmod(s, sizes)
        out.append(q)
    if shape:
        out.append(flat)
    return out


def reindex(index: Sequence[Affine], old: Sequence[int], new: Sequence[int], sizes: Sequence[int]) -> list[Affine]:
    """``index`` into ``old`` as an index into ``new`` (a reshape), run by run of equal products."""
    out: list[Affine] = []
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0, a, b = i, j, 1, 1
        while True:
            if a == b and (i > i0 or j > j0) and (a != 1 or (i < len(old) and j < len(new))) and i > i0 and j > j0:
                break
            if a <= b and i < len(old):
                a *= old[i]
                i += 1
            elif j < len(new):
                b *= new[j]
                j += 1
            elif i < len(old):
                a *= old[i]
                i += 1
            else:
                break
        if i - i0 == 1 and j - j0 == 1:
            out.append(index[i0])
        else:
            out.extend(unflatten(flatten(index[i0:i], old[i0:i]), new[j0:j], sizes))
    return out


def radix(form: Affine, sizes: Sequence[int]) -> list[int] | None:
    """The axes, outermost first, of which ``form`` is exactly the row-major position; else None."""
    if form.const or form.dyn:
        return None
    axes: list[int] = []
    n = 1
    for k, c in sorted(form.terms, key=lambda t: t[1]):
        if c != n:
            return None
        axes.append(k)
        n *= sizes[k]
    axes.reverse()
    return axes
