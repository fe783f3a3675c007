"""A kernel as plain Python loops: in, a Kernel or Gemm; out, the text of one function.

Softmax comes out like this (values are numbered as in ``str(kernel)``):

    def softmax(x, out, rows, cols, x_row_stride):
        for row in range(rows):
            # phase 1: r0 = max of v0 over col
            r0 = np.float32(-np.inf)
            for col in range(cols):
                v0 = x[row * x_row_stride + col]
                r0 = np.maximum(r0, v0)
            # phase 2: r1 = sum of v3 over col
            sum1 = 0.0
            for col in range(cols):
                v0 = x[row * x_row_stride + col]
                v2 = v0 - r0
                v3 = np.exp(v2)
                sum1 += v3
            r1 = np.float32(sum1)
            ...

Each expression node is one statement, written in the outermost loop that knows its axes.  Sums and
products of floats are carried in float64 and rounded once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...dtypes import DType
from ...ir.kernel import Bound, Gemm, Kernel, Operand, Phase, Reduce
from ...ir.node import Node, toposort
from ..names import Names, names, position
from ..reference import identity
from . import rows
from .rows import constant, from_memory, np_name, rounded, spell, to_memory


@dataclass(frozen=True)
class _Loop:
    """Lines that open a loop (or assign indices) and the axes that are known from there on."""

    axes: frozenset[int]
    lines: tuple[str, ...]


# Stands for "inside the row loops" among the axes that an expression needs.
_ROW = -1
_WORDS = {"add": "sum", "mul": "product", "max": "max", "min": "min"}


class _Writer:
    def __init__(self, k: Kernel | Gemm, n: Names) -> None:
        self.params = k.params
        self.walked = range(k.rows - k.walked, k.rows) if isinstance(k, Kernel) else range(0)
        self.names = n
        self.lines: list[str] = []
        self.depth = 1
        self.order = k.nodes()
        self.values = {node: f"v{i}" for i, node in enumerate(self.order)}
        self.reuse = all(p.mode != "inout" for p in k.params)
        self.axes = self._axes_needed({_ROW, *range(len(k.axes) if isinstance(k, Gemm) else k.rows)})

    def _axes_needed(self, row_axes: set[int]) -> dict[Node, set[int]]:
        """The axes that each node depends on; a reduction's result belongs to its row."""
        found: dict[Node, set[int]] = {}
        for n in self.order:
            axes: set[int] = set().union(*[found[s] for s in n.src])
            if n.op in ("LOAD", "INDEX"):
                axes |= {axis for axis, _ in (n.arg.access if n.op == "LOAD" else n.arg).terms}
            elif n.op == "VALUE":
                axes |= row_axes
            found[n] = axes
        return found

    def write(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def value(self, n: Node) -> str:
        """How an expression refers to ``n``; leaves that cost nothing have no statement of their own."""
        if n.op == "CONST":
            return constant(n.arg.value, n.dtype)
        if n.op == "VALUE":
            return f"r{n.arg}"
        if n.op == "SCALAR":
            return rounded(self.names.scalars[n.arg], n.dtype)
        return self.values[n]

    def load(self, n: Node) -> str:
        dtype = self.params[n.arg.param].dtype
        where = position(n.arg.access, self.names)
        for index, stride in zip(n.src, n.arg.dyn):
            step = "" if stride == 1 else f" * {stride if isinstance(stride, int) else self.names.slots[stride.index]}"
            where = f"{self.value(index)}{step}" if where == "0" else f"{where} + {self.value(index)}{step}"
        element = from_memory(f"{self.names.params[n.arg.param]}[{where}]", dtype)
        if not n.arg.guarded:
            return element
        return f"{element} if {self.value(n.src[-1])} else {constant(0.0 if dtype.is_floating_point else 0, dtype)}"

    def statement(self, n: Node) -> None:
        if n.op in ("CONST", "VALUE", "SCALAR"):
            return
        if n.op == "LOAD":
            text = self.load(n)
        elif n.op == "INDEX":
            text = f"np.int64({position(n.arg, self.names)})"
        else:
            text = spell(n.op, [self.value(s) for s in n.src], n.src[-1].dtype, n.dtype)
        self.write(f"{self.values[n]} = {text}")

    def statements(self, nodes: Iterable[Node], known: frozenset[int], done: set[Node]) -> None:
        """Every node whose axes are all known and that is not yet written."""
        for n in nodes:
            if n not in done and self.axes[n] <= known:
                done.add(n)
                self.statement(n)

    # -------------------------------------------------------------- reductions

    def begin(self, r: Reduce) -> None:
        dtype = r.expr.dtype
        if r.op in ("add", "mul") and dtype.is_floating_point:
            self.write(f"{_WORDS[r.op]}{r.id} = {float(identity(r.op, dtype))}")
        elif r.op in ("add", "mul"):
            # Unsigned, because Numba lets LLVM assume that signed numbers do not overflow.
            self.write(f"{_WORDS[r.op]}{r.id} = np.uint64({identity(r.op, dtype)})")
        else:
            self.write(f"r{r.id} = {constant(identity(r.op, dtype), dtype)}")

    def step(self, r: Reduce) -> None:
        value = self.value(r.expr)
        if r.op in ("add", "mul"):
            value = value if r.expr.dtype.is_floating_point else f"np.uint64({value})"
            self.write(f"{_WORDS[r.op]}{r.id} {'+' if r.op == 'add' else '*'}= {value}")
        else:
            self.write(f"r{r.id} = {spell(r.op.upper(), (f'r{r.id}', value), r.expr.dtype, r.expr.dtype)}")

    def end(self, r: Reduce) -> None:
        if r.op in ("add", "mul"):
            total = f"{_WORDS[r.op]}{r.id}"
            self.write(f"r{r.id} = {rounded(f'{np_name(r.expr.dtype)}({total})', r.expr.dtype)}")

    # -------------------------------------------------------------- phases

    def effects(self, p: Phase) -> None:
        for s in p.stores:
            dtype, where = self.params[s.param].dtype, f"{self.names.params[s.param]}[{position(s.access, self.names)}]"
            value = self.value(s.value)
            if s.fold:
                first = " and ".join([f"{self.names.axes[axis]} == 0" for axis in self.walked])
                before = f"({constant(identity(s.fold, dtype), dtype)} if {first} else {from_memory(where, dtype)})"
                value = spell(s.fold.upper(), (before, value), dtype, dtype)
            value = to_memory(value, dtype)
            if s.guard is not None:
                self.write(f"if {self.value(s.guard)}:")
                self.depth += 1
            self.write(f"{where} = {value}")
            self.depth -= s.guard is not None
        for c in p.checks:
            status = self.names.params[[q.mode for q in self.params].index("status")]
            self.write(f"if not {self.value(c.cond)}:")
            self.write(f"    {status}[0] = {c.code}")

    def title(self, p: Phase) -> str:
        folds = [f"r{r.id} = {_WORDS[r.op]} of {self.value(r.expr)}" for r in p.reduces]
        stores = sorted({f"write {self.names.params[s.param]}" for s in p.stores})
        checks = ["check indices"] if p.checks else []
        over = f" over {', '.join([self.names.axes[a] for a in p.axes])}" if p.axes else ""
        return ", ".join(folds + stores + checks) + over

    def phase(self, p: Phase, loops: Sequence[_Loop], known: frozenset[int], done: set[Node]) -> None:
        """The phase's own loops; ``known`` are the row axes and ``done`` what the row has computed."""
        nodes = toposort(p.exprs())
        self.statements(nodes, known, done)
        for r in p.reduces:
            self.begin(r)
        local, depth = set(done), self.depth
        for loop in loops:
            for line in loop.lines:
                self.write(line)
            self.depth += 1
            known = known | loop.axes
            self.statements(nodes, known, local)
        for r in p.reduces:
            self.step(r)
        self.effects(p)
        self.depth = depth
        for r in p.reduces:
            self.end(r)

    def axis_loop(self, axis: int, size: str) -> _Loop:
        return _Loop(frozenset((axis,)), (f"for {self.names.axes[axis]} in range({size}):",))

    def nest(self, loops: Sequence[_Loop], nodes: Sequence[Node]) -> tuple[frozenset[int], set[Node]]:
        """Open the row loops, writing each node as far out as its axes allow."""
        known: frozenset[int] = frozenset()
        done: set[Node] = set()
        for loop in loops:
            self.statements(nodes, known, done)
            for line in loop.lines:
                self.write(line)
            self.depth += 1
            known = known | loop.axes
        return known | {_ROW}, done


def _task_loops(k: Kernel, n: Names) -> list[_Loop]:
    """Loops over tasks ``lo .. hi``, as the native calling convention numbers them."""
    sizes = [n.slots[s.index] for s in k.axes[: k.rows]]
    axes = list(n.axes[: k.rows])
    lines = ["for task in range(lo, hi):"]
    if k.lane == "inner" or not k.rows:
        own = k.rows - k.walked
        walked = [_Loop(frozenset((i,)), (f"for {axes[i]} in range({sizes[i]}):",)) for i in range(own, k.rows)]
        return [_Loop(frozenset(range(own)), (*lines, *_digits(axes[:own], sizes[:own], "task"))), *walked]
    lane = k.lane_row
    lines += [f"    blocks = ({sizes[lane]} + {k.block - 1}) // {k.block}", f"    start = task % blocks * {k.block}"]
    lines += _digits(axes[:lane], sizes[:lane], "task // blocks")
    stop = f"min(start + {k.block}, {sizes[lane]})"
    block = _Loop(frozenset((lane,)), (f"for {axes[lane]} in range(start, {stop}):",))
    group = [_Loop(frozenset((i,)), (f"for {axes[i]} in range({sizes[i]}):",)) for i in range(lane + 1, k.rows)]
    return [_Loop(frozenset(range(lane)), tuple(lines)), block, *group]


def _digits(axes: Sequence[str], sizes: Sequence[str], rest: str) -> list[str]:
    """Indices from a flattened one."""
    lines = []
    for i in reversed(range(len(axes))):
        lines.append(f"    {axes[i]} = {f'{rest} % {sizes[i]}' if i else rest}")
        rest = f"{rest} // {sizes[i]}"
    return lines


def _kernel_body(w: _Writer, k: Kernel, by_task: bool) -> None:
    sizes = [w.names.slots[s.index] for s in k.axes]
    loops = _task_loops(k, w.names) if by_task else [w.axis_loop(i, sizes[i]) for i in range(k.rows)]
    known, done = w.nest(loops, w.order)
    for i, p in enumerate(k.phases):
        w.write(f"# {f'phase {i + 1}: ' if len(k.phases) > 1 else ''}{w.title(p)}")
        w.phase(p, [w.axis_loop(a, sizes[a]) for a in p.axes], known, done if w.reuse else set())


def _operand_position(o: Operand | Bound, n: Names, outer: str) -> str:
    """The linear form of an operand, or of a bound, in ``outer`` and k."""

    def coef(c: object) -> str:
        return str(c) if isinstance(c, int) else n.slots[c.index]  # type: ignore[attr-defined]

    def along(axis: str, c: object) -> str:
        if isinstance(c, str):
            return f"{n.params[int(c[1:])]}[{axis}]"
        return axis if c == 1 else f"{axis} * {coef(c)}"

    parts = [] if o.offset == 0 else [coef(o.offset)]
    parts += [along(n.axes[i], c) for i, c in enumerate(o.batch) if c != 0]
    return " + ".join([*parts, along(outer, o.outer), along("k", o.inner)])


def _element(g: Gemm, o: Operand, n: Names, outer: str) -> str:
    dtype = g.params[o.param].dtype
    element = rows.cast(from_memory(f"{n.params[o.param]}[{_operand_position(o, n, outer)}]", dtype), dtype, g.acc)
    if not o.bounds:
        return element
    held = [f"0 <= {_operand_position(b, n, outer)} < {n.slots[b.size.index]}" for b in o.bounds]
    return f"{element} if {' and '.join(held)} else {np_name(g.acc)}(0)"


def _gemm_body(w: _Writer, g: Gemm, by_task: bool) -> None:
    n = w.names
    rank = len(g.axes)
    sizes = [n.slots[s.index] for s in g.axes]
    if by_task:
        lines, rest = ["for task in range(lo, hi):"], "task"
        for i in reversed(range(rank - 1)):
            lines.append(f"    {n.axes[i]} = {f'{rest} % {sizes[i]}' if i else rest}")
            rest = f"{rest} // {sizes[i]}"
        loops = [_Loop(frozenset(range(rank - 1)), tuple(lines)), w.axis_loop(rank - 1, sizes[-1])]
    else:
        loops = [w.axis_loop(i, size) for i, size in enumerate(sizes)]
    known, done = w.nest(loops, w.order)
    floating = g.acc.is_floating_point
    w.write("total = 0.0" if floating else "total = np.uint64(0)")
    w.write(f"for k in range({n.slots[g.depth.index]}):")
    w.write(f"    a = {_element(g, g.a, n, 'row')}")
    w.write(f"    b = {_element(g, g.b, n, 'col')}")
    w.write("    total += np.float64(a) * b" if floating else "    total += np.uint64(a) * np.uint64(b)")
    w.write(f"r0 = {np_name(g.acc)}(total)")
    w.write(f"# epilogue: {w.title(g.epilogue)}")
    w.phase(g.epilogue, [], known, done)


def uses_blas(g: Gemm) -> bool:
    """Whether BLAS has the type of this product."""
    return g.acc.name in ("float32", "float64")


def _blas_body(w: _Writer, g: Gemm, by_task: bool) -> None:
    """The product by BLAS (``@`` under Numba), with operands copied to matrices; a task is one batch."""
    n = w.names
    rank = len(g.axes)
    sizes = [n.slots[s.index] for s in g.axes]
    depth, kind = n.slots[g.depth.index], np_name(g.acc)
    if by_task:
        lines, rest = ["for task in range(lo, hi):"], "task"
        for i in reversed(range(rank - 2)):
            lines.append(f"    {n.axes[i]} = {f'{rest} % {sizes[i]}' if i else rest}")
            rest = f"{rest} // {sizes[i]}"
        loops = [_Loop(frozenset(range(rank - 2)), tuple(lines))]
    else:
        loops = [w.axis_loop(i, sizes[i]) for i in range(rank - 2)]
    fill = []
    for matrix, operand, outer, size in (("left", g.a, "row", sizes[-2]), ("right", g.b, "col", sizes[-1])):
        at = f"{outer}, k" if outer == "row" else f"k, {outer}"
        fill += [
            f"{matrix} = np.empty(({size}, {depth}), {kind})" if outer == "row" else f"{matrix} = np.empty(({depth}, {size}), {kind})",
            f"for {outer} in range({size}):",
            f"    for k in range({depth}):",
            f"        {matrix}[{at}] = {_element(g, operand, n, outer)}",
        ]
    fill.append("product = left @ right")
    row, col = w.axis_loop(rank - 2, sizes[-2]), w.axis_loop(rank - 1, sizes[-1])
    known, done = w.nest([*loops, _Loop(row.axes, (*fill, *row.lines)), col], w.order)
    w.write(f"r0 = product[{n.axes[rank - 2]}, {n.axes[rank - 1]}]")
    w.write(f"# epilogue: {w.title(g.epilogue)}")
    w.phase(g.epilogue, [], known, done)


_HELPER = re.compile(r"\b((?:round|f16|bf16|trunc|floor|shift|mulhi|fma)\w*|truncate)\(")


def _imports(body: str) -> str:
    lines = ["import math"] if "math." in body else []
    lines.append("import numpy as np")
    used = sorted({m for m in _HELPER.findall(re.sub(r"np\.\w+\(", "(", body))})
    if used:
        lines.append(f"from spiraltorch.kernels.numba.helpers import {', '.join(used)}")
    return "\n".join(lines)


def _describe(dtype: DType, mode: str) -> str:
    stored = " bits as uint16" if dtype in rows.SHORT else ""
    return f"{dtype.name}{stored}, {mode}"


def gemm_tasks(g: Gemm, ints: Sequence[int], blas: bool = False) -> int:
    """How many tasks the native function of a Gemm has: one a row of the result, or with BLAS one a batch."""
    return math.prod([ints[s.index] for s in (g.axes[:-2] if blas and uses_blas(g) else g.axes[:-1])])


def source(k: Kernel | Gemm, name: str = "kernel", by_task: bool = False, blas: bool = False) -> str:
    """The text of ``def name(params..., slots..., scalars...)`` over flat NumPy arrays and numbers.

    It runs as plain Python and under ``numba.njit(error_model="numpy")``.  With ``by_task`` the
    function takes ``lo, hi`` besides and runs those tasks only (of a Gemm: rows of all batches).
    With ``blas`` a float product is left to BLAS.
    """
    n = names(k)
    w = _Writer(k, n)
    what = "loops" if isinstance(k, Kernel) else "matrix product"
    w.write(f'"""{k.key}: {what}; numba.njit(error_model="numpy") compiles it.')
    w.lines.append("")
    for param, p in zip(n.params, k.params):
        w.write(f"{param}: {_describe(p.dtype, p.mode)}")
    w.write('"""')
    if isinstance(k, Gemm):
        (_blas_body if blas and uses_blas(k) else _gemm_body)(w, k, by_task)
    else:
        _kernel_body(w, k, by_task)
    body = "\n".join(w.lines)
    arguments = ", ".join(n.arguments + (("lo", "hi") if by_task else ()))
    return f"{_imports(body)}\n\n\ndef {name}({arguments}):\n{body}\n"
