"""The part of matrix multiplication that all Gemms of a machine share: micro-kernels and the loops around them.

In: a description of the operands as int64 words (``DESC`` below), which a Gemm's own function makes.
Out: LLVM IR of a module that is compiled once per machine and compute type:

    core_text(target, float32)     void gemm_core_float32(desc, lo, hi, scratch)

A task is a block of ``mc`` x ``nc`` results of one batch.  For each step of ``kc`` values of k, its rows of A
are packed (:mod:`.gemm_pack`) into panels as high as a micro-kernel, its columns of B into panels as wide, both
cast to the compute type; a micro-kernel keeps a ``rows`` x ``vectors`` tile of sums in registers:

    for p in steps of k:           panel of A: kc x 14 values      C: the block's sums, row-major
      pack A(block, p)             panel of B: kc x 32 values         per panel of B
      for j in panels of B:
        pack B(j, p)
        for i in panels of A:  C[i, j] (+)= A[i] * B[j]
        after the last step: the Gemm's own epilogue reads panel j of C

Where B has stride 1 along n a panel may be read where it lies ("direct_b"), and where A has few rows B is read once,
without being packed (:mod:`.gemm_thin`, "thin").

A sum starts from zero at every step of k, and the steps are added in order, so its bits do not depend on blocks.
"kept" is memory of a program for the panels of a B that stays as it is from one run to the next: a word for each block of
columns, which says that its panels are there, then the panels.  No two tasks may have the same columns then.

Panels are kept from a task to the next of the same rows (columns), in the next call of the launch as well.
Rows and columns that a panel has beyond the matrix hold any values: their sums are never read.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dtypes import DType, int32, int64
from ...ir.kernel import MOST_BOUNDS
from ...runtime.native import KEPT, SCRATCH_BYTES
from .micro import micro_kernel
from .pairs import fold
from .points import iota
from .routine import Routine
from .rows import Unit, register, splat, vector
from .target import Target

# Words of a description.  First what `gemm.plan_gemm` chooses, then what a Gemm's function adds.
PLAN = (
    "core", "pack_a", "pack_b", "mc", "nc", "kc", "m_blocks", "n_blocks", "k_steps",
    "m_first", "keep_a", "keep_b", "direct_b", "thin", "kept", "height", "width", "m_tasks",
)  # fmt: skip
PLACE = ("outer", "outer_table", "inner", "inner_table")
BOUND = ("start", *PLACE, "size")
SIDE = ("pointer", *PLACE, "bounds", *[f"{w}_{j}" for j in range(MOST_BOUNDS) for w in BOUND])
DESC = (
    *PLAN, "args", "epilogue", "m", "n", "k",
    *[f"a_{s}" for s in SIDE], *[f"b_{s}" for s in SIDE], "batch_rank",
)  # fmt: skip
# Then, for each batch axis: its size, and the strides of A, of A's bounds, of B and of B's bounds.
MAX_BATCH = 16
BATCH_WORDS = 1 + 2 * (1 + MOST_BOUNDS)

# A thread's scratch memory, in bytes: offsets of the block's rows and columns (and after each list of them those of
# the bounds), sums, panels.
OFFSETS_A, OFFSETS_B, SUMS, PANELS_A, PANELS_B = 0, 32 << 10, 64 << 10, 4 << 20, 10 << 20
LIST = 1 << 10  # entries of one list
THIN_SUMS = 8 * 8 * LIST  # bytes of a block's sums where A has few rows
SLACK = 4096  # packing stores whole vectors, so it may write a little past a panel


@dataclass(frozen=True)
class Shape:
    """The micro-kernel of a compute type: ``rows`` x ``vectors`` vectors of ``lanes`` values.

    ``heights`` are the panel heights there are micro-kernels for, ascending.
    """

    lanes: int
    rows: int
    vectors: int
    heights: tuple[int, ...]

    @property
    def columns(self) -> int:
        return self.lanes * self.vectors


def shape_of(target: Target, compute: DType) -> Shape:
    """Tiles that fill the registers: 28 sums of 32 registers with AVX-512; 24 with NEON, whose values of A take
    registers too; or 12 of 16."""
    lanes = target.vector_bits // compute.bits
    if not target.is_x86:
        return Shape(lanes, 8, 3, (1, 2, 4, 8))
    if target.vector_bits == 512:
        return Shape(lanes, 14, 2, (1, 2, 4, 8, 14))
    return Shape(lanes, 6, 2, (1, 2, 4, 6))


def compute_type(acc: DType) -> DType:
    """The type sums are kept in: float32 for 16-bit floats, a 32-bit integer for narrower ones."""
    if acc.kind == "f":
        return acc.acc
    return int64 if acc.bits == 64 else int32


def room(area: int) -> int:
    """Bytes of a scratch area that panels may use."""
    end = {SUMS: PANELS_A, PANELS_A: PANELS_B, PANELS_B: SCRATCH_BYTES}[area]
    return end - area - SLACK


# ---------------------------------------------------------------- micro-kernels


def micro_name(height: int, vectors: int) -> str:
    return f"micro_{height}x{vectors}"


# ---------------------------------------------------------------- the loops


def tables(shape: Shape) -> list[str]:
    """For r rows left: the height of the panel that takes them; and the micro-kernel of (height, vectors)."""
    height = [min(h for h in shape.heights if h >= r) for r in range(1, shape.rows + 1)]
    by_height = [
        f"ptr @{micro_name(h, v)}" if h in shape.heights else "ptr null"
        for h in range(shape.rows + 1)
        for v in range(1, shape.vectors + 1)
    ]
    return [
        f"@heights = internal constant [{shape.rows + 1} x i64] [i64 0, {', '.join([f'i64 {h}' for h in height])}]",
        f"@micros = internal constant [{len(by_height)} x ptr] [{', '.join(by_height)}]",
    ]


class Core(Routine):
    """Writes ``gemm_core_*``; :mod:`.winograd` computes a task another way."""

    def __init__(self, unit: Unit, compute: DType, name: str, paired: bool = False) -> None:
        params = ("ptr noalias %desc", "i64 %lo", "i64 %hi", "ptr noalias %scratch")
        self.paired = paired
        super().__init__(unit, "void", name, params)
        self.one, self.shape, self.compute = register(compute), shape_of(unit.target, compute), compute
        self.size = compute.itemsize
        self.words = {name: self.load("i64", self.at("i64", "%desc", k)) for k, name in enumerate(DESC)}

    def pointer(self, word: str) -> str:
        return self.let(f"inttoptr i64 {self.words[word]} to ptr")

    def area(self, offset: int) -> str:
        return self.at("i8", "%scratch", offset)

    def write(self) -> str:
        w = self.words
        self.indices = self.array("i64", MAX_BATCH)
        kept = self.at("i64", self.area(KEPT), 0)
        same = self.test("eq", self.load("i64", kept), w["args"])
        slots = [self.at("i64", kept, 1 + k) for k in range(2 * (2 + MOST_BOUNDS))]
        last = [self.var("i64", self.choose(same, self.load("i64", p), -1)) for p in slots]
        self.last_a, self.last_b = last[: 2 + MOST_BOUNDS], last[2 + MOST_BOUNDS :]
        with self.loop("%lo", "%hi") as task:
            self._task(task)
        for v, p in zip([*last, w["args"]], [*slots, kept]):
            self.store("i64", self.load("i64", v) if v in last else v, p)
        self.do("ret void")
        return self.text()

    def _task(self, task: str) -> None:
        w, shape = self.words, self.shape
        m_first = self.test("ne", w["m_first"], 0)
        fast = self.choose(m_first, w["m_blocks"], w["n_blocks"])
        slow = self.choose(m_first, w["n_blocks"], w["m_blocks"])
        digits = self.rem(task, fast), self.rem(self.div(task, fast), slow)
        m_block, n_block = self.choose(m_first, *digits), self.choose(m_first, *digits[::-1])
        nothing, n_word = self.var("i64", "0"), self.choose(self.test("ne", w["kept"], 0), n_block, 0)
        starts = self._batch(self.div(task, self.mul(fast, slow)))
        self.m0, self.n0 = self.mul(m_block, w["mc"]), self.mul(n_block, w["nc"])
        self.rows = self.min(w["mc"], self.sub(w["m"], self.m0))
        self.columns = self.min(w["nc"], self.sub(w["n"], self.n0))
        each = 1 + MOST_BOUNDS
        new_a = self._offsets("a", self.last_a, self.m0, self.rows, starts[:each], OFFSETS_A, shape.rows)
        new_b = self._offsets("b", self.last_b, self.n0, self.columns, starts[each:], OFFSETS_B, shape.columns)
        height = self.add(self.rows, shape.rows - 1)
        self.padded = self.sub(height, self.rem(height, shape.rows))
        self.kept = self.test("ne", w["kept"], 0)
        self.there = self.at("i64", self.let(f"select i1 {self.kept}, ptr {self.pointer('kept')}, ptr {nothing}"), n_word)
        panels = self.add(w["kept"], self.let(f"and i64 {self.add(self.mul(w['n_blocks'], 8), 63)}, -64"))
        before = self.mul(self.mul(self.mul(n_block, w["nc"]), self.mul(w["kc"], w["k_steps"])), self.size)
        own = self.let(f"inttoptr i64 {self.add(panels, before)} to ptr")
        self.panels_b = self.let(f"select i1 {self.kept}, ptr {own}, ptr {self.area(PANELS_B)}")
        with self.loop(0, w["k_steps"]) as step:
            self._step(step, new_a, new_b)
        self.store("i64", self.choose(self.kept, 1, 0), self.there)

    def _batch(self, batch: str) -> list[str]:
        """Where each side of a batch starts, and each of its bounds; its indices are left for the epilogue."""
        rank = self.words["batch_rank"]
        rest, totals = self.var("i64", batch), [self.var("i64", "0") for _ in range(BATCH_WORDS - 1)]
        with self.loop(0, rank) as j:
            axis = self.sub(self.sub(rank, 1), j)
            entry = self.at("i64", "%desc", self.add(self.mul(axis, BATCH_WORDS), len(DESC)))
            size = self.load("i64", entry)
            now = self.load("i64", rest)
            index = self.rem(now, size)
            self.store("i64", self.div(now, size), rest)
            self.store("i64", index, self.at("i64", self.indices, axis))
            for k, total in enumerate(totals):
                stride = self.load("i64", self.at("i64", entry, k + 1))
                self.store("i64", self.add(self.load("i64", total), self.mul(index, stride)), total)
        return [self.load("i64", v) for v in totals]

    def _offsets(self, side: str, last: list[str], start: str, count: str, batch: list[str], area: int, panel: int) -> str:
        """List where each row (column) of the block starts; i1: it is not the block of the task before.

        The list goes on a panel and a vector beyond the block, with its last entry.  Lists of the bounds'
        coordinates follow.
        """
        changed = [self.test("ne", self.load("i64", v), x) for v, x in zip(last, (start, *batch))]
        new = self.any(changed)
        with self.when(new):
            for v, x in zip(last, (start, *batch)):
                self.store("i64", x, v)
            end = self.add(count, panel + self.shape.lanes)
            self._list(f"{side}_", "", self.area(area), start, count, end, batch[0])
            for j in range(MOST_BOUNDS):
                with self.when(self.test("sgt", self.words[f"{side}_bounds"], j)):
                    first = self.add(batch[1 + j], self.words[f"{side}_start_{j}"])
                    to = self.area(area + 8 * LIST * (1 + j))
                    self._list(f"{side}_", f"_{j}", to, start, count, end, first)
        return new

    def _list(self, before: str, after: str, to: str, start: str, count: str, end: str, first: str) -> None:
        """``to[i] = first + outer(start + i)`` for i < end; entries from ``count`` on repeat the last."""
        outer, table = self.words[f"{before}outer{after}"], self.words[f"{before}outer_table{after}"]
        top = self.sub(count, 1)
        strided = self.test("eq", table, 0)
        with self.when(strided):
            lanes = 8  # `end` is a vector past the panels, so whole vectors end in the list
            ty = vector("i64", lanes)
            numbers, most, times, plus = [splat(self, str(x), "i64", lanes) for x in (start, self.add(start, top), outer, first)]
            with self.loop(0, end, lanes) as i:
                row = self.let(f"add {ty} {splat(self, i, 'i64', lanes)}, <{iota('i64', lanes)[1:-1]}>")
                row = self.intrinsic("smin", ty, self.let(f"add {ty} {row}, {numbers}"), most)
                self.store(ty, self.let(f"add {ty} {self.let(f'mul {ty} {row}, {times}')}, {plus}"), self.at("i64", to, i), 8)
        with self.when(self.let(f"xor i1 {strided}, true")):
            offsets = self.let(f"inttoptr i64 {table} to ptr")
            with self.loop(0, end) as i:
                row = self.add(start, self.min(i, top))
                offset = self.load("i64", self.at("i64", offsets, row))
                self.store("i64", self.add(offset, first), self.at("i64", to, i))

    def _step(self, step: str, new_a: str, new_b: str) -> None:
        """One step of k over the block."""
        w, shape = self.words, self.shape
        k0 = self.mul(step, w["kc"])
        values = self.min(w["kc"], self.sub(w["k"], k0))
        depth = self.let(f"lshr i64 {self.add(values, 1)}, 1") if self.paired else values  # of panels
        slots_a, slots_b = [self.choose(self.test("ne", w[k], 0), step, 0) for k in ("keep_a", "keep_b")]
        slots_b = self.choose(self.kept, step, slots_b)
        start_a = self.mul(self.mul(slots_a, w["kc"]), self.padded)
        panels_a = self.at(self.one, self.area(PANELS_A), start_a)
        with self.when(self.let(f"or i1 {self.test('eq', w['keep_a'], 0)}, {new_a}")):
            with self.loop(0, self.rows, shape.rows) as i:
                height = self._height(i)
                to = self.at(self.one, panels_a, self.mul(i, depth))
                self._pack("a", to, OFFSETS_A, i, height, self.min(height, self.sub(self.rows, i)), k0, values)
        thin = self.test("ne", w["thin"], 0)
        with self.when(thin):
            self._thin(step, panels_a, k0, values)
        wide = self.add(self.columns, shape.columns - 1)
        wide = self.sub(wide, self.rem(wide, shape.columns))
        start_b = self.mul(self.mul(slots_b, w["kc"]), wide)
        panels_b = self.at(self.one, self.panels_b, start_b)
        single = self.test("eq", w["k_steps"], 1)
        last = self.test("eq", self.add(step, 1), w["k_steps"])
        adding = self.test("ne", step, 0)
        missing = self.test("eq", self.load("i64", self.there), 0)
        usual = self.let(f"or i1 {self.test('eq', w['keep_b'], 0)}, {new_b}")
        pack_b = self.let(f"select i1 {self.kept}, i1 {missing}, i1 {usual}")
        with self.loop(0, self.choose(thin, 0, self.columns), shape.columns) as j:
            left = self.sub(self.columns, j)
            vectors = self.min(self.div(self.add(left, shape.lanes - 1), shape.lanes), shape.vectors)
            width = self.mul(vectors, shape.lanes)
            b, ldb = self.var("ptr", self.at(self.one, panels_b, self.mul(j, depth))), self.var("i64", width)
            direct = self.let(f"and i1 {self.test('ne', w['direct_b'], 0)}, {self.test('sge', left, width)}")
            with self.when(direct):
                first = self.load("i64", self.at("i64", self.area(OFFSETS_B), j))
                at = self.add(first, self.mul(k0, w["b_inner"]))
                self.store("ptr", self.at(self.one, self.pointer("b_pointer"), at), b)
                self.store("i64", w["b_inner"], ldb)
            with self.when(self.let(f"and i1 {pack_b}, {self.let(f'xor i1 {direct}, true')}")):
                self._pack("b", self.load("ptr", b), OFFSETS_B, j, width, self.min(width, left), k0, values)
            sums = self.at(self.one, self.area(SUMS), self.mul(self.choose(single, 0, j), self.padded))
            from_b, stride = self.load("ptr", b), self.load("i64", ldb)
            with self.loop(0, self.rows, shape.rows) as i:
                index = self.add(self.mul(self._height(i), shape.vectors), self.sub(vectors, 1))
                micro = self.load("ptr", self.at("ptr", "@micros", index))
                a = self.at(self.one, panels_a, self.mul(i, depth))
                c = self.at(self.one, sums, self.mul(i, width))
                operands = f"i64 {depth}, ptr {a}, ptr {from_b}, i64 {stride}, ptr {c}, i1 {adding}"
                self.do(f"call void {micro}({operands})")
            with self.when(last):
                self._epilogue(sums, width, self.add(self.n0, j), self.min(width, left))

    def _thin(self, step: str, panels_a: str, k0: str, depth: str) -> None:
        """One step of k over a block of few rows: all its columns at once.  Sums of later steps are made behind the first's."""
        w, ty = self.words, register(self.compute, self.shape.lanes)
        sums, line = self.area(SUMS), self.add(self.columns, self.shape.lanes - 1)
        line = self.sub(line, self.rem(line, self.shape.lanes))
        new = self.area(SUMS + THIN_SUMS)
        adding = self.test("ne", step, 0)
        to = self.let(f"select i1 {adding}, ptr {new}, ptr {sums}")
        where = f"ptr {to}, i64 {line}, ptr {panels_a}, i64 {self._height('0')}"
        right = f"ptr {self.pointer('b_pointer')}, ptr {self.area(OFFSETS_B)}, i64 {self.columns}, i64 {w['b_inner']}"
        self.do(f"call void {self.pointer('thin')}({where}, {right}, i64 {k0}, i64 {depth})")
        with self.when(adding), self.loop(0, self.mul(self.rows, line), self.shape.lanes) as x:
            old, more = [self.load(ty, self.at(self.one, p, x), self.size) for p in (sums, new)]
            plus = "fadd" if self.compute.kind == "f" else "add"
            self.store(ty, self.let(f"{plus} {ty} {old}, {more}"), self.at(self.one, sums, x), self.size)
        with self.when(self.test("eq", self.add(step, 1), w["k_steps"])):
            self._epilogue(sums, line, self.n0, self.columns)

    def _epilogue(self, sums: str, line: str, n0: str, columns: str) -> None:
        operands = f"ptr {self.pointer('args')}, ptr {sums}, i64 {line}, ptr {self.indices}"
        block = f"i64 {self.m0}, i64 {self.rows}, i64 {n0}, i64 {columns}"
        self.do(f"call void {self.pointer('epilogue')}({operands}, {block})")

    def _height(self, i: str) -> str:
        """The height of the panel that starts at row ``i`` of the block."""
        left = self.min(self.sub(self.rows, i), self.shape.rows)
        return self.load("i64", self.at("i64", "@heights", left))

    def _pack(self, side: str, to: str, area: int, first: str, width: str, valid: str, k0: str, depth: str) -> None:
        w = self.words
        offsets = self.at("i64", self.area(area), first)
        where = f"ptr {to}, ptr {self.pointer(side + '_pointer')}, ptr {offsets}, i64 {width}, i64 {valid}"
        inner = f"i64 {w[side + '_inner']}, ptr {self.pointer(side + '_inner_table')}, i64 {k0}, i64 {depth}"
        bounds = self.at("i64", "%desc", DESC.index(f"{side}_bounds"))
        self.do(f"call void {self.pointer('pack_' + side)}({where}, {inner}, ptr {bounds})")
        if self.paired:  # behind this panel there are only those that are packed after it
            self.do(f"call void @fold(ptr {to}, i64 {width}, i64 {depth})")


def core_name(compute: DType, paired: bool = False) -> str:
    return f"gemm_core_{'pairs' if paired else compute.name}"


def core_text(target: Target, compute: DType, paired: bool = False) -> str:
    """The module with ``core_name(compute)``: ``void (ptr desc, i64 lo, i64 hi, ptr scratch)``; ``paired``: panels become pairs
    of k (:mod:`.pairs`)."""
    unit = Unit(target)
    shape = shape_of(target, compute)
    functions = [
        micro_kernel(unit, compute, shape.lanes, micro_name(h, v), h, v, paired=paired)
        for h in shape.heights
        for v in range(1, shape.vectors + 1)
    ]
    functions.append(Core(unit, compute, core_name(compute, paired), paired).write())
    if paired:
        functions.append(fold(unit, shape.lanes))
    return "\n".join([*tables(shape), *unit.globals.values(), "", *functions])
