"""Matrix multiplication: a Gemm's own function, and how its work is cut into tasks.

In: a :class:`~spiraltorch.ir.kernel.Gemm`.  Out: LLVM IR text of ``void name(args, lo, hi, scratch)``, and
for given sizes the number of tasks and the words that stand in ``args`` after the scalars:

    text = emit_gemm(gemm, host(), gemm.key)
    tasks, grain, words = plan_gemm(gemm, ints, host())
    Launch(address, [(*pointers, *ints, *scalars, *words)], [tasks], grain, scratch=True)

A Gemm's own code is small: it describes its operands to the machine's shared core (:mod:`.gemm_core`) and
contains the epilogue, which reads the sums of a strip of the result, row by row, in vectors along n.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from ...dtypes import BY_NAME, DType
from ...ir.kernel import MOST_BOUNDS, Bound, Coef, Gemm, Kernel, Operand, Slot
from ...runtime import cache
from ...runtime.threads import get_num_threads
from ...runtime.tuning import chosen
from . import gemm_core, gemm_pack, gemm_pairs, gemm_thin, rows, winograd
from .emit import Module
from .gemm_core import BATCH_WORDS, DESC, PANELS_A, PANELS_B, PLAN, SIDE, compute_type, room, shape_of
from .pairs import in_pairs
from .routine import Routine
from .rows import Unit, register
from .target import Target
from .writer import Writer

_DEPTH = 384  # values of k in one step, at most; a panel of B then stays in the nearest caches


# ---------------------------------------------------------------- code


class _Epilogue(Writer):
    """Writes ``void name(args, sums, ld, batch indices, m0, rows, n0, columns)``."""

    def __init__(self, unit: Unit, gemm: Gemm, name: str) -> None:
        rank = len(gemm.axes)
        kernel = Kernel(gemm.axes, rank, "row", 1, gemm.params, gemm.scalars, gemm.slots, (gemm.epilogue,))
        super().__init__(unit, kernel, name)
        self.gemm = gemm
        self.sum_type = compute_type(gemm.acc)
        self.lanes = min(self.lanes, shape_of(unit.target, self.sum_type).lanes)

    def text(self) -> str:
        code, rank = self.here, len(self.gemm.axes)
        self.scopes[0].axes = (1 << (rank - 2)) - 1
        for axis in range(rank - 2):
            p = code.let(f"getelementptr i64, ptr %batch, i64 {axis}")
            self.index[axis] = code.let(f"load i64, ptr {p}")
        end = code.let("add i64 %m0, %rows")
        self.loop(1 << (rank - 2), "%m0", end, 1, self._row)
        code.do("ret void")
        body = "\n".join(["entry:", *self.allocas, *code.lines])
        pointers = "ptr noalias %args, ptr noalias %sums, i64 %ld, ptr noalias %batch"
        params = f"{pointers}, i64 %m0, i64 %rows, i64 %n0, i64 %columns"
        return f"define internal void @{self.name}({params}) {self.unit.target.attributes} {{\n{body}\n}}\n"

    def _row(self, m: str) -> None:
        code, n_axis = self.here, len(self.gemm.axes) - 1
        self.index[n_axis - 1] = m
        offset = code.let(f"mul i64 {code.let(f'sub i64 {m}, %m0')}, %ld")
        sums = code.let(f"getelementptr {register(self.sum_type)}, ptr %sums, i64 {offset}")
        (phase,) = self.kernel.phases
        order = self._order(phase)
        end = code.let("add i64 %n0, %columns")

        def point() -> None:
            self.results[0] = self.gemm.acc, [self._sum(sums, self.index[n_axis], u) for u in range(self.unroll)]
            self._point(phase, order, {})

        self._lane_loop(n_axis, "%n0", end, min(2, self._unroll(order, False)), point)

    def _sum(self, row: str, n: str, u: int) -> str:
        """Vector ``u`` of the sums at column ``n``, as a value of type ``acc``."""
        code, one = self.here, register(self.sum_type)
        at = code.let(f"add i64 {code.let(f'sub i64 {n}, %n0')}, {u * self.lanes}")
        p = code.let(f"getelementptr {one}, ptr {row}, i64 {at}")
        value = code.let(f"load {register(self.sum_type, self.lanes)}, ptr {p}, align {self.sum_type.itemsize}")
        return rows.cast(code, value, self.sum_type, self.gemm.acc, self.lanes)


def _entry(unit: Unit, gemm: Gemm, name: str, epilogue: str) -> str:
    """The function itself: makes the description on the stack and calls the core."""
    f = Routine(unit, "void", name, ("ptr noalias %args", "i64 %lo", "i64 %hi", "ptr noalias %scratch"))
    n_params = len(gemm.params)
    plan_at = n_params + gemm.slots + len(gemm.scalars)
    batch = gemm.axes[:-2]
    desc = f.array("i64", len(DESC) + BATCH_WORDS * len(batch))

    def word(k: int) -> str:
        return f.load("i64", f.at("i64", "%args", k))

    def coef(c: Coef) -> str:
        return word(n_params + c.index) if isinstance(c, Slot) else str(c)

    def side(o: Operand) -> list[str]:
        pointer = f.load("ptr", f.at("i64", "%args", o.param))
        pointer = f.at(rows.memory(gemm.params[o.param].dtype), pointer, coef(o.offset))
        out = [f.let(f"ptrtoint ptr {pointer} to i64"), *walk(o), str(len(o.bounds))]
        for b in o.bounds:
            out += [coef(b.offset), *walk(b), coef(b.size)]
        return out + ["0"] * (len(SIDE) - len(out))

    def walk(o: Operand | Bound) -> list[str]:
        out = []
        for c in (o.outer, o.inner):
            out += ["0", word(int(c[1:]))] if isinstance(c, str) else [coef(c), "0"]
        return out

    def strides(o: Operand, j: int) -> list[str]:
        places: list[Operand | Bound] = [o, *o.bounds]
        out = [coef(p.batch[j]) if j < len(p.batch) else "0" for p in places]
        return out + ["0"] * (1 + MOST_BOUNDS - len(out))

    values = [word(plan_at + k) for k in range(len(PLAN))]
    values += [f.let("ptrtoint ptr %args to i64"), f.let(f"ptrtoint ptr @{epilogue} to i64")]
    values += [coef(s) for s in (*gemm.axes[-2:], gemm.depth)]
    values += side(gemm.a) + side(gemm.b) + [str(len(batch))]
    for j, size in enumerate(batch):
        values += [coef(size), *strides(gemm.a, j), *strides(gemm.b, j)]
    for k, value in enumerate(values):
        f.store("i64", value, f.at("i64", desc, k))
    core = f.let(f"inttoptr i64 {values[0]} to ptr")
    f.do(f"call void {core}(ptr {desc}, i64 %lo, i64 %hi, ptr %scratch)")
    f.do("ret void")
    return f.text()


def emit_gemm(gemm: Gemm, target: Target, name: str) -> str:
    """LLVM IR of a module with function ``name``; its machine's core is not part of it.

    Raises ValueError for more than 16 batch axes.
    """
    if len(gemm.axes) - 2 > gemm_core.MAX_BATCH:
        raise ValueError(f"a Gemm has at most {gemm_core.MAX_BATCH} batch axes, got {len(gemm.axes) - 2}")
    module = Module(target)
    epilogue = f"{name}_epilogue"
    module.functions.append(_Epilogue(module.unit, gemm, epilogue).text())
    module.functions.append(_entry(module.unit, gemm, name, epilogue))
    return module.text()


# ---------------------------------------------------------------- plan


class Blocks(NamedTuple):
    """Sizes of a block and how many there are."""

    mc: int
    nc: int
    kc: int
    m_blocks: int
    n_blocks: int
    k_steps: int


class GemmPlan(NamedTuple):
    """tasks in all, tasks per chunk, and the words after the scalars."""

    tasks: int
    grain: int
    words: tuple[Any, ...]


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def blocks(
    m: int, n: int, k: int, batch: int, shape: gemm_core.Shape, itemsize: int, threads: int, most_depth: int = _DEPTH
) -> Blocks:
    """Cut m x n x k so that packed panels fit the caches and every thread has work.

    The steps of k depend on k alone, since they decide the result's bits; the rest may be tuned.
    """
    tuned = chosen()
    k_steps = max(1, _ceil(k, most_depth))
    kc = max(1, _ceil(_ceil(k, k_steps), shape.lanes) * shape.lanes if k_steps > 1 else k)
    k_steps = max(1, _ceil(k, kc))
    m_tiles, n_tiles = _ceil(m, shape.rows), _ceil(n, shape.columns)
    most_m = max(1, tuned.block_rows // shape.rows)
    most_n = max(1, tuned.block_bytes // itemsize // shape.columns)
    m_blocks, n_blocks = _ceil(m_tiles, most_m), _ceil(n_tiles, most_n)
    work = m * n * k * batch
    want = 1 if work <= tuned.serial_products or threads == 1 else threads if work <= tuned.split_products else 2 * threads
    # Cutting n costs packing A again, cutting m costs packing B again: cut the longer side.
    while batch * m_blocks * n_blocks < want and (m_blocks < m_tiles or n_blocks < n_tiles):
        if n_blocks < n_tiles and (n * m_blocks >= m * n_blocks or m_blocks >= m_tiles):
            n_blocks = min(n_tiles, n_blocks * 2)
        else:
            m_blocks = min(m_tiles, m_blocks * 2)
    if want > 1:
        m_blocks, n_blocks = _even(m_tiles, n_tiles, m_blocks, n_blocks, batch, threads)
    mc, nc = _ceil(m_tiles, m_blocks) * shape.rows, _ceil(n_tiles, n_blocks) * shape.columns
    return Blocks(mc, nc, kc, _ceil(m, mc), _ceil(n, nc), k_steps)


def _even(m_tiles: int, n_tiles: int, m_blocks: int, n_blocks: int, batch: int, threads: int) -> tuple[int, int]:
    """At least so many blocks of tiles, and a few more where threads then end nearer to each other: 5 blocks keep one of two
    threads busy for 3 of them, 6 of five sixths the size for 2.5."""

    def longest(blocks: tuple[int, int]) -> int:
        """Tiles that the busiest thread computes."""
        high, wide = _ceil(m_tiles, blocks[0]), _ceil(n_tiles, blocks[1])
        return _ceil(batch * _ceil(m_tiles, high) * _ceil(n_tiles, wide), threads) * high * wide

    first = m_blocks, n_blocks
    more = [(m, n_blocks) for m in range(m_blocks + 1, min(m_tiles, m_blocks + min(threads, 8)) + 1)]
    more += [(m_blocks, n) for n in range(n_blocks + 1, min(n_tiles, n_blocks + min(threads, 8)) + 1)]
    best = min([first, *more], key=longest)
    return best if 1.03 * longest(best) < longest(first) else first


def _value(c: Coef | str, ints: Sequence[int]) -> int | None:
    """A coefficient's value; None for a table."""
    return None if isinstance(c, str) else ints[c.index] if isinstance(c, Slot) else c


class Shared(NamedTuple):
    """A function that all Gemms of a machine share, as a word of a plan: the 'core', or one that reads ``source`` elements:
    to 'pack' them, of a 'thin' product, or the core for 'windows' over them.  'core pairs' and 'thin pairs' run by pairs of k."""

    kind: str
    compute: str
    source: str = ""
    along: bool = False
    bounded: bool = False

    def module(self, target: Target) -> cache.Source:
        """The module it is in."""
        compute = BY_NAME[self.compute]
        if self.kind in ("core", "core pairs"):
            paired = self.kind == "core pairs"
            name = gemm_core.core_name(compute, paired)
            return cache.Source(name, [name], lambda: gemm_core.core_text(target, compute, paired))
        if self.kind == "thin pairs":
            name = gemm_pairs.thin_name(self.along)
            return cache.Source(name, [name], partial(gemm_pairs.thin_text, target, self.along))
        source = BY_NAME[self.source]
        if self.kind == "thin":
            name = gemm_thin.thin_names(source, compute)[self.along]
            return cache.Source(name, [name], partial(gemm_thin.thin_text, target, source, compute, self.along))
        if self.kind == "windows":
            name = winograd.core_name(source, compute)
            return cache.Source(name, [name], partial(winograd.core_text, target, source, compute))
        names = gemm_pack.pack_names(source, compute, self.bounded)
        return cache.Source(names[0], names, partial(gemm_pack.pack_text, target, source, compute, self.bounded))

    def address(self, target: Target) -> int:
        """Where it is; compiles it if this process has not yet."""
        module = self.module(target)
        return cache.load(*module)[module.names[self.along if self.kind == "pack" else 0]]


def plan_gemm(gemm: Gemm, ints: Sequence[int], target: Target) -> GemmPlan:
    """How sizes ``ints`` are cut into tasks, with the addresses of shared functions."""
    plan = cut_gemm(gemm, ints, target)
    return plan._replace(words=tuple([w.address(target) if isinstance(w, Shared) else w for w in plan.words]))


def cut_gemm(gemm: Gemm, ints: Sequence[int], target: Target) -> GemmPlan:
    """The same with :class:`Shared` in their places, which holds in any process on this machine."""
    compute = compute_type(gemm.acc)
    shape = shape_of(target, compute)
    *batch_sizes, m, n = [ints[s.index] for s in gemm.axes]
    k = ints[gemm.depth.index]
    batch = 1
    for size in batch_sizes:
        batch *= size
    if batch * m * n == 0:
        return GemmPlan(0, 1, (0,) * len(PLAN))
    height, width = [ints[s.index] for s in gemm.window] if gemm.window else (0, 0)
    if height:
        return _cut_windows(gemm, ints, target, batch * n // (height * width), height, width)
    paired = in_pairs(target, gemm.acc)
    b = blocks(m, n, k, batch, shape, compute.itemsize, get_num_threads(), 2 * _DEPTH if paired else _DEPTH)
    depth = b.kc * b.k_steps * compute.itemsize
    keep_a, keep_b = b.mc * depth <= room(PANELS_A), b.nc * depth <= room(PANELS_B)
    thin = _thin(gemm, ints, m, target, compute)
    as_is = gemm.params[gemm.b.param].dtype is compute and not gemm.b.bounds
    few = m <= chosen().direct_panels * shape.rows
    direct = few and as_is and _value(gemm.b.outer, ints) == 1 and _value(gemm.b.inner, ints) is not None
    # Elements to pack when the next task is the next block of n, or of m.
    along_n = (m if keep_a else m * b.n_blocks) + (n if keep_b and b.n_blocks == 1 else n * b.m_blocks)
    along_m = (m if keep_a and b.m_blocks == 1 else m * b.n_blocks) + (n if keep_b else n * b.m_blocks)
    values: dict[str, Any] = {
        "core": Shared("core pairs" if paired else "core", compute.name),
        "pack_a": _packer(gemm, gemm.a, compute, ints),
        "pack_b": _packer(gemm, gemm.b, compute, ints),
        **b._asdict(),
        "m_first": along_m < along_n,
        "keep_a": keep_a,
        "keep_b": keep_b,
        "direct_b": direct,
        "thin": thin or 0,
    }
    return GemmPlan(batch * b.m_blocks * b.n_blocks, 1, _words(values))


def _cut_windows(gemm: Gemm, ints: Sequence[int], target: Target, images: int, height: int, width: int) -> GemmPlan:
    """The plan of Winograd's products."""
    compute = compute_type(gemm.acc)
    m, channels = ints[gemm.axes[-2].index], ints[gemm.depth.index] // winograd.CELLS
    cut = winograd.cut(m, channels, height, width, images, target, compute, get_num_threads())
    core = Shared("windows", compute.name, gemm.params[gemm.b.param].dtype.name)
    values = {"core": core, "pack_a": _packer(gemm, gemm.a, compute, ints), **cut}
    return GemmPlan(cut["m_blocks"] * cut["m_tasks"], 1, _words(values))


def _words(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple([w if isinstance(w := values.get(word, 0), Shared) else int(w) for word in PLAN])


KEPT = PLAN.index("kept")


def panel_bytes(gemm: Gemm, words: Sequence[Any]) -> int:
    """How much memory the panels of B take, should a program keep them from one run to the next; 0 where that is of no
    use, or blocks of rows would meet in it."""
    w = dict(zip(PLAN, words))
    if w["thin"] or w["direct_b"] or w["width"] or w["m_blocks"] != 1 or gemm.axes[:-2] or gemm.b.bounds:
        return 0
    columns = w["n_blocks"] * w["nc"]
    return 64 * _ceil(8 * w["n_blocks"], 64) + columns * w["kc"] * w["k_steps"] * compute_type(gemm.acc).itemsize + gemm_core.SLACK


def _along(o: Operand, ints: Sequence[int]) -> bool:
    """Whether vectors of the operand run along k."""
    return _value(o.inner, ints) == 1 and _value(o.outer, ints) != 1


def _packer(gemm: Gemm, o: Operand, compute: DType, ints: Sequence[int]) -> Shared:
    return Shared("pack", compute.name, gemm.params[o.param].dtype.name, _along(o, ints), bool(o.bounds))


def _thin(gemm: Gemm, ints: Sequence[int], m: int, target: Target, compute: DType) -> Shared | None:
    """The function for a product of so few rows that B is not worth packing; None for others."""
    tuned, along, source = chosen(), _along(gemm.b, ints), gemm.params[gemm.b.param].dtype
    most = tuned.thin_along if along else tuned.thin_across
    strides = 1 in (_value(gemm.b.outer, ints), _value(gemm.b.inner, ints)) and _value(gemm.b.inner, ints) is not None
    if m > min(most, gemm_thin.heights(shape_of(target, compute))[-1]) or gemm.b.bounds or not strides:
        return None
    return Shared("thin pairs" if in_pairs(target, gemm.acc) else "thin", compute.name, source.name, along)
