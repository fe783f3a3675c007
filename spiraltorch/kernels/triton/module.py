"""Generated Triton text as a Python function, and the choice of tiles.

text  = source(kernel, plan(kernel, ints))
fn    = function(text, name)          # a triton.JITFunction
grid  = programs(kernel, tile, ints)
"""

from __future__ import annotations

import hashlib
import linecache
import math
from collections.abc import Sequence
from typing import Any

from ...dtypes import float32
from ...ir.kernel import Access, Coef, Gemm, Kernel, Slot
from . import emit, gemm
from .emit import Tile
from .gemm import GemmTile
from .rows import pointer_name, scalar_name


def source(k: Kernel | Gemm, tile: Tile | GemmTile | None = None, name: str | None = None) -> str:
    """The Triton text of a kernel; the default tile is one for large sizes."""
    tile = tile or default_tile(k)
    if isinstance(k, Gemm):
        assert isinstance(tile, GemmTile)
        return gemm.source(k, tile, name or k.key)
    assert isinstance(tile, Tile)
    return emit.source(k, tile, name or k.key)


def programs(k: Kernel | Gemm, tile: Tile | GemmTile, ints: Sequence[int]) -> int:
    """How many programs a launch has."""
    if isinstance(k, Gemm):
        assert isinstance(tile, GemmTile)
        return gemm.grid(k, tile, ints)
    assert isinstance(tile, Tile)
    return emit.grid(k, tile, ints)


def constants(tile: Tile | GemmTile) -> dict[str, int]:
    """The compile-time arguments."""
    blocks = {"R": tile.rows, "L": tile.lanes}
    return blocks | {"K": tile.depth, "GROUP": tile.group} if isinstance(tile, GemmTile) else blocks


def signature(k: Kernel | Gemm, tile: Tile | GemmTile, arguments: Sequence[str]) -> dict[str, str]:
    """Triton's type of every argument, by name, in order."""
    types = [pointer_name(p.dtype) for p in k.params]
    types += ["i64" if tile.wide else "i32"] * k.slots
    types += [scalar_name(d) for d in k.scalars]
    return dict(zip(arguments, types + ["constexpr"] * len(constants(tile))))


def function(text: str, name: str, **replacements: Any) -> Any:
    """Execute generated text; Triton reads the lines back through ``linecache``.

    ``replacements`` take the place of names that the text imported.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    filename = f"<spiraltorch triton {name} {digest}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    namespace: dict[str, Any] = {"__name__": f"spiraltorch.generated.{name}"}
    exec(compile(text, filename, "exec"), namespace)
    namespace.update(replacements)
    return namespace[name]


# ---------------------------------------------------------------- tiles


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def default_tile(k: Kernel | Gemm) -> Tile | GemmTile:
    if isinstance(k, Gemm):
        return GemmTile()
    return Tile(rows=32, lanes=128) if emit.folds_rows(k) else Tile()


def plan(k: Kernel | Gemm, ints: Sequence[int]) -> Tile | GemmTile:
    """A tile that suits these sizes."""
    wide = needs_wide(k, ints)
    if isinstance(k, Gemm):
        return _plan_gemm(k, ints, wide)
    sizes = [ints[s.index] for s in k.axes]
    if emit.folds_rows(k):
        lanes = min(128, max(16, _power_of_two(sizes[k.rows - 1])))
        return Tile(4096 // lanes, lanes, False, wide, 8)
    if emit.by_row(k):
        outer = math.prod(sizes[: k.rows - 1])
        lanes = min(1024, max(16, _power_of_two(sizes[-1]))) if outer > 1 else 1024
        return Tile(1024 // lanes, lanes, False, wide, 4)
    longest = max([sizes[p.axes[-1]] for p in k.phases if p.axes], default=1)
    lanes = max(32, _power_of_two(longest))
    if lanes > 8192:
        return Tile(1, 4096, False, wide, 8)
    rows = max(1, 1024 // lanes) if k.rows and not k.walked else 1
    return Tile(rows, lanes, True, wide, 4 if lanes <= 1024 else 8 if lanes <= 4096 else 16)


def _plan_gemm(g: Gemm, ints: Sequence[int], wide: bool) -> GemmTile:
    m, n = (ints[s.index] for s in g.axes[-2:])
    short = all(g.params[o.param].dtype.itemsize <= 2 for o in (g.a, g.b))
    most = 128 if short else 64
    rows, lanes = (min(most, max(16, _power_of_two(size))) for size in (m, n))
    depth = min(64 if short else 32, max(16, _power_of_two(ints[g.depth.index])))
    if not g.acc.is_floating_point or g.acc is not float32:
        rows, lanes, depth = min(rows, 64), min(lanes, 64), min(depth, 16)
    return GemmTile(rows, lanes, depth, wide, 8 if rows * lanes >= 128 * 128 else 4)


def needs_wide(k: Kernel | Gemm, ints: Sequence[int]) -> bool:
    """Whether any flattened index, or offset in bytes, leaves 32 bits."""

    def value(c: Coef | str) -> int:
        return int(ints[c.index]) if isinstance(c, Slot) else int(c)

    def reach(a: Access, param: int) -> int:
        steps = sum([abs(value(c)) * value(k.axes[axis]) for axis, c in a.terms])
        return (abs(value(a.offset)) + steps) * k.params[param].dtype.itemsize

    if isinstance(k, Gemm):
        steps = [(o, [(o.outer, outer), (o.inner, k.depth), *zip(o.batch, k.axes)])
                 for o, outer in ((k.a, k.axes[-2]), (k.b, k.axes[-1]))]  # fmt: skip
        if any(isinstance(c, str) for _, pairs in steps for c, _ in pairs):
            return True  # what a table holds is not known here
        reaches = [(abs(value(o.offset)) + sum([abs(value(c)) * value(s) for c, s in pairs]))
                   * k.params[o.param].dtype.itemsize for o, pairs in steps]  # fmt: skip
        rows, stores = k.axes, k.epilogue.stores
    else:
        reaches, rows = [], k.axes[: k.rows]
        stores = tuple([s for p in k.phases for s in p.stores])
    reaches += [reach(n.arg.access, n.arg.param) for n in k.nodes() if n.op == "LOAD"]
    reaches += [reach(s.access, s.param) for s in stores]
    reaches += [reach(n.arg, 0) for n in k.nodes() if n.op == "INDEX"]
    reaches += [abs(int(i)) for i in ints] + [math.prod([value(s) for s in rows])]
    # A block may step past the end before its mask is applied.
    return max(reaches) + (1 << 16) >= 1 << 31
