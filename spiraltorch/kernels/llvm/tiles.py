"""Pointwise kernels that read a transposed operand: the operand goes through square tiles.

In: a kernel of lane 'row' with a load that is contiguous along another row axis than the lane axis.
Out: its function, which walks the same tasks in another order.

    y[i, j] = x[j, i]     a run of up to HEIGHT tasks (i, one block of j) copies x's tile to the stack,
                          square by square through registers, and then works row by row

Read in place, every vector of x would touch one cache line a lane; a tile uses whole lines.  A
task number is read as (other axes, group of HEIGHT rows, block, row in the group), so that
neighbours share tiles; every task still does one row's block, and no two the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.kernel import Kernel, Slot
from ...ir.node import Node
from .points import iota
from .rows import Code, Unit, mangled, memory, splat, vector
from .writer import Writer

HEIGHT = 128  # rows of a tile
WIDTH = 64  # lanes of a tile


def _moves_along(n: Node, lane: int, axis: int) -> bool:
    return (
        n.op == "LOAD" and not n.src and isinstance(n.arg.access.stride(lane), Slot) and n.arg.access.stride(axis) == 1
    )


def transposed_axis(kernel: Kernel) -> int | None:
    """The row axis along which some load is contiguous although the lanes stride through it."""
    if kernel.lane != "row" or kernel.group > 1 or any(p.axes for p in kernel.phases):
        return None
    lane = kernel.rows - 1
    stored = {s.param for p in kernel.phases for s in p.stores}
    for n in kernel.nodes():
        for axis in range(lane):
            if _moves_along(n, lane, axis) and n.arg.param not in stored:
                return axis
    return None


def rows_together(kernel: Kernel, tasks: int) -> int:
    """How many tasks a thread should take at a time: a whole tile's rows, but a thread's share of few."""
    if transposed_axis(kernel) is None:
        return 1
    return next((n for n in (HEIGHT, HEIGHT // 2, HEIGHT // 4) if tasks >= 8 * n), 1)


class TileWriter(Writer):
    """A :class:`Writer` whose tasks come in runs that share a tile."""

    def __init__(self, unit: Unit, kernel: Kernel, name: str) -> None:
        super().__init__(unit, kernel, name)
        axis = transposed_axis(kernel)
        assert axis is not None
        self.row_axis = axis
        self.lane_of_rows = kernel.rows - 1
        self.width = min(WIDTH, -(-kernel.block // self.lanes) * self.lanes)
        # A load of one vector may reach beyond the last lane.
        self.pitch = self.width + self.lanes
        self.tiles = {
            n: self.alloca(f"[{HEIGHT * self.pitch} x {memory(n.dtype)}], align 64")
            for n in self.kernel.nodes()
            if _moves_along(n, self.lane_of_rows, axis) and n.arg.param not in self.stored
        }
        self.row_start = self.lane_start = ""

    # ------------------------------------------------------------ tasks

    def _rows(self) -> None:
        code = self.here
        size, lanes = self.size(self.row_axis), self.size(self.lane_of_rows)
        up = code.let(f"add i64 {lanes}, {self.kernel.block - 1}")
        blocks = code.let(f"udiv i64 {up}, {self.kernel.block}")
        each = code.let(f"mul i64 {size}, {blocks}")
        group = code.let(f"mul i64 {blocks}, {HEIGHT}")
        others = [k for k in range(self.kernel.rows) if k not in (self.row_axis, self.lane_of_rows)]

        def run(t: str) -> str:
            code = self.here
            rest = code.let(f"udiv i64 {t}, {each}")
            for k in reversed(others):
                self.index[k] = code.let(f"urem i64 {rest}, {self.size(k)}")
                rest = code.let(f"udiv i64 {rest}, {self.size(k)}")
            inside = code.let(f"urem i64 {t}, {each}")
            first = code.let(f"mul i64 {code.let(f'udiv i64 {inside}, {group}')}, {HEIGHT}")
            height = code.let(f"sub i64 {self._least(first, HEIGHT, size)}, {first}")
            inside = code.let(f"urem i64 {inside}, {group}")
            row = code.let(f"urem i64 {inside}, {height}")
            self.row_start = code.let(f"add i64 {first}, {row}")
            rows = code.let(f"sub i64 {height}, {row}")
            left = code.let(f"sub i64 %hi, {t}")
            rows = code.select(code.let(f"icmp slt i64 {rows}, {left}"), rows, left, "i64", 1)
            row_end = code.let(f"add i64 {self.row_start}, {rows}")
            start = code.let(f"mul i64 {code.let(f'udiv i64 {inside}, {height}')}, {self.kernel.block}")
            end = self._least(start, self.kernel.block, lanes)
            self.loop(0, start, end, self.width, lambda j: self._tile(j, end, row_end))
            return rows

        self.loop(sum([1 << k for k in others]), "%lo", "%hi", 1, run)

    def _tile(self, start: str, limit: str, row_end: str) -> None:
        """Rows row_start..row_end of at most ``width`` lanes from ``start``."""
        self.start, self.end = start, self._least(start, self.width, limit)
        for n, tile in self.tiles.items():
            self._fill(n, tile, row_end)

        def row(i: str) -> None:
            self.index[self.row_axis] = i
            for phase in self.kernel.phases:
                self._row_phase(phase)

        self.loop(1 << self.row_axis, self.row_start, row_end, 1, row)

    # ------------------------------------------------------------ tiles

    def _at(self, code: Code, n: Node, row: str, lane: str) -> str:
        """The address in the tile of element (row, lane)."""
        line = code.let(f"mul i64 {code.let(f'sub i64 {row}, {self.row_start}')}, {self.pitch}")
        at = code.let(f"add i64 {line}, {code.let(f'sub i64 {lane}, {self.start}')}")
        return code.let(f"getelementptr {memory(n.dtype)}, ptr {self.tiles[n]}, i64 {at}")

    def _fill(self, n: Node, tile: str, row_end: str) -> None:
        """Copy the load's memory, which is contiguous along the rows, square by square."""
        side = self.unit.target.vector_bits // (8 * max(4, n.dtype.itemsize))

        def square(i: str) -> None:
            self.index[self.row_axis] = i
            code = self.here
            lane = self.index[self.lane_of_rows]
            p = self.pointer(n.arg.param, n.arg.access)
            stride = self.slot(n.arg.access.stride(self.lane_of_rows))
            rows = code.let(f"sub i64 {row_end}, {i}")
            mask = code.let(f"icmp slt <{side} x i64> {iota('i64', side)}, {splat(code, rows, 'i64', side)}")
            columns = []
            for k in range(side):
                if k:
                    # Beyond the last lane its memory is read again, and the result is not used.
                    more = code.let(f"icmp slt i64 {code.let(f'add i64 {lane}, {k}')}, {self.end}")
                    move = code.select(more, stride, "0", "i64", 1)
                    p = code.let(f"getelementptr {memory(n.dtype)}, ptr {p}, i64 {move}")
                columns.append(_masked_load(code, p, vector(memory(n.dtype), side), n.dtype.itemsize, mask))
            to = self._at(code, n, i, lane)
            for k, value in enumerate(_transpose(code, vector(memory(n.dtype), side), columns)):
                q = code.let(f"getelementptr {memory(n.dtype)}, ptr {to}, i64 {k * self.pitch}")
                code.do(f"store {vector(memory(n.dtype), side)} {value}, ptr {q}, align {n.dtype.itemsize}")

        def band(j: str) -> None:
            self.index[self.lane_of_rows] = j
            self.loop(1 << self.row_axis, self.row_start, row_end, side, square)

        self.loop(1 << self.lane_of_rows, self.start, self.end, side, band)

    def _lane_load(self, n: Node, code: Code) -> list[str]:
        if n not in self.tiles:
            return super()._lane_load(n, code)
        p = self._at(code, n, self.index[self.row_axis], self.index[self.lane_axis])
        return [self._from_tile(n, code, p, u) for u in range(self.unroll)]

    def _from_tile(self, n: Node, code: Code, p: str, u: int) -> str:
        q = self.vector_pointer(p, memory(n.dtype), 1, u, code)
        return self._as_register(n, code, self._contiguous_load(code, q, n.dtype, None))


def _masked_load(code: Code, p: str, ty: str, align: int, mask: str) -> str:
    bits = f"<{ty[1:].partition(' ')[0]} x i1>"
    operands = (("ptr", p), ("i32", str(align)), (bits, mask), (ty, "zeroinitializer"))
    return code.call(f"@llvm.masked.load.{mangled(ty)}.p0", ty, *operands)


def _transpose(code: Code, ty: str, vectors: Sequence[str]) -> list[str]:
    """Vectors i and i + step exchange blocks of ``step`` elements, as in a 2 x 2 transpose, for every power of 2."""
    side = len(vectors)
    now = list(vectors)
    step = 1
    while step < side:
        for i in range(side):
            if not i & step:
                a, b = now[i], now[i + step]
                low = [e if not e & step else side + e - step for e in range(side)]
                high = [e + step if not e & step else side + e for e in range(side)]
                now[i], now[i + step] = [
                    code.let(f"shufflevector {ty} {a}, {ty} {b}, <{side} x i32> <{', '.join([f'i32 {e}' for e in m])}>")
                    for m in (low, high)
                ]
        step *= 2
    return now
