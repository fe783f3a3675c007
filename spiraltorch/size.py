"""Shapes as users see them.

In: integers.  Out: a tuple that stays a Size under ``+``, ``*`` and slicing, as torch.Size does.

    >>> Size([2, 3]) + (4,), Size([2, 3]).numel()
    (torch.Size([2, 3, 4]), 6)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any


class Size(tuple):  # type: ignore[type-arg]
    """A shape; a tuple of integers that prints as torch.Size.  Raises TypeError for anything else."""

    __slots__ = ()

    def __new__(cls, sizes: Iterable[Any] = ()) -> Size:
        if type(sizes) is tuple and not [s for s in sizes if type(s) is not int]:  # every look at .shape comes here
            return tuple.__new__(cls, sizes)
        sizes = list(sizes)
        for k, s in enumerate(sizes):
            try:
                sizes[k] = operator.index(s)
            except TypeError:
                raise TypeError(f"torch.Size() takes an iterable of 'int' (item {k} is '{type(s).__name__}')") from None
        return tuple.__new__(cls, sizes)

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            raise TypeError(f"can only concatenate tuple (not {type(other).__name__}) to torch.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return Size(other + tuple(self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        found = tuple.__mul__(self, times)
        return found if found is NotImplemented else Size(found)

    __rmul__ = __mul__

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found

    def numel(self) -> int:
        """How many elements a tensor of this shape has."""
        return math.prod(self)
