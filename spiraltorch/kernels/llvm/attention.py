"""Attention in tiles, float32: scores exist for one block of queries and keys at a time, in a thread's scratch memory.

In: how the operands of the CALL lie (:mod:`spiraltorch.kernels.library.attention`).  Out: LLVM IR of a module with the
function ``void name(i64* args, i64 lo, i64 hi, i8* scratch)``.

A vector holds neighbouring queries, so the softmax of a query is a lane's own affair, and every product is one of a
few keys' (or features') values, spread over the vector, with rows of queries (:mod:`.micro`):

    scores[key][query]   = K[key][e] . Qt[e][query]           forward, a task: 64 queries of a head
    out[feature][query] += V[key][feature] . p[key][query]      with a running maximum and sum for each query
    dV[key][feature]    += p[key][query] . dO[query][feature]  backward, a task: a head of keys
    dQ[e][query]        += K[key][e] . ds[key][query]           with all query heads that share it, in order

Causal blocks that no query sees are not visited.  A task's sums run in a fixed order and belong to it alone, so the
bits do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ...dtypes import float32
from ...ir.node import Node, make
from ...runtime.native import SCRATCH_BYTES
from . import math, rows
from .gemm_pack import along
from .micro import multiply_add, product
from .points import iota
from .routine import Routine
from .rows import Unit, number
from .target import Target

QUERIES, KEYS = 64, 64  # of a block
FEATURES = 256  # at most; ops.attention.is_tiled asks for no more
SIZES = ("batch", "heads", "key_heads", "queries", "keys", "features", "values", "scale")
OFFSET, HEAD_STRIDE, ROW_STRIDE, BATCH_STRIDE = 0, 2, 3, 1  # words of an operand: offset, then strides

# A thread's scratch memory, in floats: transposed blocks (feature x query), scores, lines of queries, offsets.
_BLOCK, _SCORES, _LINE = FEATURES * QUERIES, KEYS * QUERIES, 256
_AREAS = {
    "q": _BLOCK, "up": _BLOCK, "out": _BLOCK, "sums": _BLOCK, "rows": _BLOCK, "scores": _SCORES, "ds": _SCORES,
    "top": _LINE, "total": _LINE, "lse": _LINE, "delta": _LINE, "alpha": _LINE, "offsets": 4 * _LINE, "lines": 4 * _LINE,
}  # fmt: skip
assert 4 * sum(_AREAS.values()) <= SCRATCH_BYTES
NOTHING = number(float("-inf"), float32)


class _Writer(Routine):
    """What both directions do: sizes, addresses, blocks of queries, scores."""

    def __init__(self, unit: Unit, name: str, operands: Sequence[str], causal: bool) -> None:
        super().__init__(unit, "void", name, ("ptr %args", "i64 %lo", "i64 %hi", "ptr noalias %scratch"))
        self.lanes = unit.target.vector_bits // 32
        self.ty = f"<{self.lanes} x float>"
        self.causal = causal
        self.operands = operands
        self.base = {o: self.load("ptr", self.at("i64", "%args", i)) for i, o in enumerate((*operands, "result"))}
        first = len(operands) + 1
        self.n = {s: self.load("i64", self.at("i64", "%args", first + i)) for i, s in enumerate(SIZES[:-1])}
        scale = self.load("float", self.at("i64", "%args", first + len(SIZES) - 1), 8)
        self.scale = rows.splat(self, scale, "float", self.lanes)
        self.layout = {}
        at = first + len(SIZES)
        for o in operands:
            count = 2 if o == "forward" else 5
            self.layout[o] = [self.load("i64", self.at("i64", "%args", at + i)) for i in range(count)]
            at += count
        self.area, start = {}, 0
        for name_, size in _AREAS.items():
            self.area[name_] = self.at("float", "%scratch", start)
            start += size
        with self.loop(0, FEATURES) as d:
            self.store("i64", self.mul(d, QUERIES), self.at("i64", self.area["lines"], d))

    # ------------------------------------------------------------ vectors

    def get(self, area: str, at: str | int) -> str:
        return self.load(self.ty, self.at("float", self.area[area], at), 4)

    def put(self, value: str, area: str, at: str | int) -> None:
        self.store(self.ty, value, self.at("float", self.area[area], at), 4)

    def op(self, name: str, a: str, b: str) -> str:
        return self.let(f"{name} {self.ty} {a}, {b}")

    def select(self, cond: str, a: str, b: str, ty: str = "", lanes: int = 0) -> str:
        return super().select(cond, a, b, ty or self.ty, lanes or self.lanes)

    def function(self, write: Callable[[Node], Node], x: str) -> str:
        """A function of :mod:`.math`."""
        leaf = make("SCALAR", (), 0, (), float32)
        return self.evaluate([write(leaf)], {leaf: x}, self.lanes)[0]

    # ------------------------------------------------------------ memory

    def head(self, operand: str, batch: str, head: str) -> str:
        """The address of a head's first row."""
        w = self.layout[operand]
        at = self.add(self.add(w[OFFSET], self.mul(batch, w[BATCH_STRIDE])), self.mul(head, w[HEAD_STRIDE]))
        return self.at("float", self.base[operand], at)

    def row(self, base: str, operand: str, index: str) -> str:
        return self.at("float", base, self.mul(index, self.layout[operand][ROW_STRIDE]))

    def product(
        self, layout: str, sizes: tuple[str | int, str | int, str | int], a: str, lda: str | int, b: str, ldb: str | int,
        c: str, ldc: str | int, add: str,
    ) -> None:  # fmt: skip
        counts = ", ".join([f"i64 {s}" for s in sizes])
        self.do(
            f"call void @product_{layout}({counts}, ptr {a}, i64 {lda}, ptr {b}, i64 {ldb}, ptr {c}, i64 {ldc}, i1 {add})"
        )

    def transpose(self, to: str, source: str, offsets: str, width: str | int, depth: str | int) -> None:
        """``to[k][width] = source[offsets[i] + k]`` for k < depth and i < width."""
        where = f"ptr {self.area[to]}, ptr {source}, ptr {self.area[offsets]}, i64 {width}, i64 {width}"
        self.do(f"call void @transpose({where}, i64 1, ptr null, i64 0, i64 {depth}, ptr null)")

    def take(self, to: str, base: str, stride: str, first: str, depth: str) -> None:
        """A block of queries, transposed; lanes after the last query repeat it, and nobody looks at them."""
        last = self.sub(self.n["queries"], 1)
        with self.loop(0, QUERIES) as j:
            at = self.mul(self.min(self.add(first, j), last), stride)
            self.store("i64", at, self.at("i64", self.area["offsets"], j))
        self.transpose(to, base, "offsets", QUERIES, depth)

    def give(self, source: str, base: str, stride: str, count: str, width: str) -> None:
        """The first ``count`` queries of a transposed block into rows of ``width``."""
        self.transpose("rows", self.area[source], "lines", width, QUERIES)
        with self.loop(0, count) as j:
            to, here = self.at("float", base, self.mul(j, stride)), self.mul(j, width)
            with self.loop(0, width, self.lanes) as c:
                self.store(self.ty, self.get("rows", self.add(here, c)), self.at("float", to, c), 4)

    # ------------------------------------------------------------ blocks

    def blocks(self, first: str, count: str, walk: Callable[[str, str], None]) -> None:
        """``walk(first key, keys)`` for each block of keys that a block of queries sees."""
        end = self.min(self.n["keys"], self.add(first, count)) if self.causal else self.n["keys"]
        with self.loop(0, end, KEYS) as k0:
            walk(k0, self.min(self.sub(end, k0), KEYS))

    @contextmanager
    def columns(self) -> Iterator[tuple[str, str]]:
        """Two vectors of a block's queries at a time: where they begin."""
        with self.loop(0, QUERIES, 2 * self.lanes) as c:
            yield c, self.add(c, self.lanes)

    def each(self, columns: Sequence[str], count: str, body: Callable[[str, str, str], None]) -> None:
        """``body(row, column, position)`` for the rows of a transposed block."""
        with self.loop(0, count) as i:
            for c in columns:
                body(i, c, self.add(self.mul(i, QUERIES), c))

    def scaled(
        self, columns: Sequence[str], first: str, k0: str, keys: str, bias: str | None, body: Callable[[str, str, str], None]
    ) -> None:
        """``body(column, position, score)`` with the score scaled and masked."""
        if not self.causal:
            return self._scaled(columns, first, k0, keys, bias, body, False)
        crossing = self.test("sgt", self.add(k0, keys), self.add(first, 1))
        with self.when(crossing):
            self._scaled(columns, first, k0, keys, bias, body, True)
        with self.when(self.let(f"xor i1 {crossing}, true")):
            self._scaled(columns, first, k0, keys, bias, body, False)

    def _scaled(
        self, columns: Sequence[str], first: str, k0: str, keys: str, bias: str | None,
        body: Callable[[str, str, str], None], crossing: bool,
    ) -> None:  # fmt: skip
        wide = f"<{self.lanes} x i64>"
        steps = {}
        for c in columns if crossing or bias is not None else ():
            counted = f"<{iota('i64', self.lanes)[1:-1]}>"
            steps[c] = self.let(f"add {wide} {rows.splat(self, self.add(first, c), 'i64', self.lanes)}, {counted}")

        def one(i: str, c: str, at: str) -> None:
            s = self.op("fmul", self.get("scores", at), self.scale)
            key = self.add(k0, i)
            if bias is not None:
                inside = self.let(f"icmp slt {wide} {steps[c]}, {rows.splat(self, self.n['queries'], 'i64', self.lanes)}")
                p = self.at("float", self.row(bias, "bias", key), self.add(first, c))
                bits = f"<{self.lanes} x i1>"
                add = self.call(
                    f"@llvm.masked.load.{rows.mangled(self.ty)}.p0", self.ty, ("ptr", p), ("i32 immarg", "4"),
                    (bits, inside), (self.ty, "zeroinitializer"),
                )  # fmt: skip
                s = self.op("fadd", s, add)
            if crossing:
                seen = self.let(f"icmp sge {wide} {steps[c]}, {rows.splat(self, key, 'i64', self.lanes)}")
                s = self.select(seen, s, number(float("-inf"), float32, self.lanes))
            body(c, at, s)

        self.each(columns, keys, one)


class _Forward(_Writer):
    def write(self) -> str:
        n = self.n
        blocks = self.div(self.add(n["queries"], QUERIES - 1), QUERIES)
        with self.loop("%lo", "%hi") as task:
            bh = self.div(task, blocks)
            block = self.sub(self.sub(blocks, 1), self.rem(task, blocks))  # causal: the longest first
            batch, head = self.div(bh, n["heads"]), self.rem(bh, n["heads"])
            shared = self.div(head, self.div(n["heads"], n["key_heads"]))
            self.first = self.mul(block, QUERIES)
            self.count = self.min(self.sub(n["queries"], self.first), QUERIES)
            self.take("q", self.head("q", batch, head), self.layout["q"][ROW_STRIDE], self.first, n["features"])
            with self.loop(0, QUERIES, self.lanes) as c:
                self.put(number(float("-inf"), float32, self.lanes), "top", c)
                self.put("zeroinitializer", "total", c)
            self.k, self.v = (self.head(o, batch, shared) for o in "kv")
            self.bias = self.head("bias", batch, head) if "bias" in self.operands else None
            self.blocks(self.first, self.count, self._keys)
            self._finish(batch, head, bh)
        self.do("ret void")
        return self.text()

    def _keys(self, k0: str, keys: str) -> None:
        n, area = self.n, self.area
        again = self.test("ne", k0, 0)
        k, v = self.row(self.k, "k", k0), self.row(self.v, "v", k0)
        lines = [self.layout[o][ROW_STRIDE] for o in "kv"]
        scores = area["scores"]
        self.product("along", (keys, QUERIES, n["features"]), k, lines[0], area["q"], QUERIES, scores, QUERIES, "false")
        with self.columns() as columns:
            self._softmax(columns, k0, keys)
        with self.when(again):
            self._times("alpha")
        self.product("across", (n["values"], QUERIES, keys), v, lines[1], scores, QUERIES, area["sums"], QUERIES, again)

    def _softmax(self, columns: Sequence[str], k0: str, keys: str) -> None:
        """The scores of some queries become exponentials, under a maximum and a sum that go on from block to block."""
        tops = {c: self.var(self.ty, self.get("top", c)) for c in columns}

        def highest(c: str, at: str, s: str) -> None:
            self.put(s, "scores", at)
            top = self.load(self.ty, tops[c])
            more = self.let(f"fcmp ogt {self.ty} {s}, {top}")
            self.store(self.ty, self.select(more, s, top), tops[c])

        self.scaled(columns, self.first, k0, keys, self.bias, highest)
        safe, totals = {}, {}
        for c in columns:
            top = self.load(self.ty, tops[c])
            safe[c] = self._finite(top)
            alpha = self.function(math.exp, self.op("fsub", self.get("top", c), safe[c]))
            self.put(alpha, "alpha", c)
            self.put(top, "top", c)
            totals[c] = self.var(self.ty, self.op("fmul", self.get("total", c), alpha))

        def exponential(i: str, c: str, at: str) -> None:
            e = self.function(math.exp, self.op("fsub", self.get("scores", at), safe[c]))
            self.put(e, "scores", at)
            self.store(self.ty, self.op("fadd", self.load(self.ty, totals[c]), e), totals[c])

        self.each(columns, keys, exponential)
        for c in columns:
            self.put(self.load(self.ty, totals[c]), "total", c)

    def _finite(self, top: str) -> str:
        none = self.let(f"fcmp oeq {self.ty} {top}, {number(float('-inf'), float32, self.lanes)}")
        return self.select(none, "zeroinitializer", top)

    def _times(self, factors: str) -> None:
        with self.columns() as columns:
            factor = {c: self.get(factors, c) for c in columns}

            def times(d: str, c: str, at: str) -> None:
                self.put(self.op("fmul", self.get("sums", at), factor[c]), "sums", at)

            self.each(columns, self.n["values"], times)

    def _finish(self, batch: str, head: str, bh: str) -> None:
        n = self.n
        one = number(1.0, float32, self.lanes)
        with self.loop(0, QUERIES, self.lanes) as c:
            total = self.get("total", c)
            none = self.let(f"fcmp oeq {self.ty} {total}, zeroinitializer")
            total = self.select(none, one, total)
            self.put(self.op("fdiv", one, total), "alpha", c)
            self.put(self.op("fadd", self._finite(self.get("top", c)), self.function(math.log, total)), "lse", c)
        self._times("alpha")
        row = self.add(self.mul(batch, n["queries"]), self.first)
        stride = self.mul(n["heads"], n["values"])
        to = self.add(self.mul(row, stride), self.mul(head, n["values"]))
        self.give("sums", self.at("float", self.base["result"], to), stride, self.count, n["values"])
        after = self.mul(self.mul(n["batch"], n["queries"]), stride)
        sums = self.at("float", self.base["result"], self.add(after, self.add(self.mul(bh, n["queries"]), self.first)))
        with self.loop(0, self.count) as j:
            self.store("float", self.load("float", self.at("float", self.area["lse"], j)), self.at("float", sums, j))


class _Backward(_Writer):
    def write(self) -> str:
        n = self.n
        group = self.div(n["heads"], n["key_heads"])
        size_q = self.mul(self.mul(n["batch"], n["queries"]), self.mul(n["heads"], n["features"]))
        size_k = self.mul(self.mul(n["batch"], n["keys"]), self.mul(n["key_heads"], n["features"]))
        with self.loop("%lo", "%hi") as task:
            batch, shared = self.div(task, n["key_heads"]), self.rem(task, n["key_heads"])
            self.k, self.v = (self.head(o, batch, shared) for o in "kv")
            line = self.add(self.mul(self.mul(batch, n["keys"]), n["key_heads"]), shared)
            self.to, self.line = {}, {}
            for o, start, width in (("k", size_q, "features"), ("v", self.add(size_q, size_k), "values")):
                self.to[o] = self.at("float", self.base["result"], self.add(start, self.mul(line, n[width])))
                self.line[o] = self.mul(n["key_heads"], n[width])
                with self.loop(0, n["keys"]) as i, self.loop(0, n[width], self.lanes) as c:
                    at = self.add(self.mul(i, self.line[o]), c)
                    self.store(self.ty, "zeroinitializer", self.at("float", self.to[o], at), 4)
            with self.loop(0, group) as g:
                head = self.add(self.mul(shared, group), g)
                with self.loop(0, n["queries"], QUERIES) as first:
                    self._queries(batch, head, first)
        self.do("ret void")
        return self.text()

    def _queries(self, batch: str, head: str, first: str) -> None:
        n = self.n
        self.first, self.count = first, self.min(self.sub(n["queries"], first), QUERIES)
        q, up = self.head("q", batch, head), self.head("up", batch, head)
        self.take("q", q, self.layout["q"][ROW_STRIDE], first, n["features"])
        self.take("up", up, self.layout["up"][ROW_STRIDE], first, n["values"])
        self.q, self.up = self.row(q, "q", first), self.row(up, "up", first)
        self.bias = self.head("bias", batch, head) if "bias" in self.operands else None
        self._saved(batch, head)
        self.blocks(first, self.count, self._keys)
        stride = self.mul(n["heads"], n["features"])
        row = self.add(self.mul(batch, n["queries"]), first)
        to = self.add(self.mul(row, stride), self.mul(head, n["features"]))
        self.give("sums", self.at("float", self.base["result"], to), stride, self.count, n["features"])

    def _saved(self, batch: str, head: str) -> None:
        """The block's logarithms of sums, and ``delta``, the product of its output and the output's gradient."""
        n = self.n
        stride = self.mul(n["heads"], n["values"])
        saved = self.at("float", self.base["forward"], self.layout["forward"][OFFSET])
        rows_ = self.mul(batch, n["queries"])
        out = self.at("float", saved, self.add(self.mul(rows_, stride), self.mul(head, n["values"])))
        self.take("out", out, stride, self.first, n["values"])
        after = self.mul(self.mul(n["batch"], n["queries"]), stride)
        line = self.mul(self.add(self.mul(batch, n["heads"]), head), n["queries"])
        sums = self.at("float", saved, self.add(after, line))
        last = self.sub(n["queries"], 1)
        with self.loop(0, QUERIES) as j:
            value = self.load("float", self.at("float", sums, self.min(self.add(self.first, j), last)))
            self.store("float", value, self.at("float", self.area["lse"], j))
        with self.columns() as columns:
            deltas = {c: self.var(self.ty, "zeroinitializer") for c in columns}

            def add(d: str, c: str, at: str) -> None:
                old = self.load(self.ty, deltas[c])
                more = multiply_add(self, float32, self.lanes, self.get("out", at), self.get("up", at), old)
                self.store(self.ty, more, deltas[c])

            self.each(columns, n["values"], add)
            for c in columns:
                self.put(self.load(self.ty, deltas[c]), "delta", c)

    def _keys(self, k0: str, keys: str) -> None:
        n, area = self.n, self.area
        k, v = self.row(self.k, "k", k0), self.row(self.v, "v", k0)
        line = {o: self.layout[o][ROW_STRIDE] for o in ("q", "k", "v", "up")}
        p, ds, e, d = area["scores"], area["ds"], n["features"], n["values"]
        self.product("along", (keys, QUERIES, e), k, line["k"], area["q"], QUERIES, p, QUERIES, "false")
        self.product("along", (keys, QUERIES, d), v, line["v"], area["up"], QUERIES, ds, QUERIES, "false")
        with self.columns() as columns:
            lse, delta = ({c: self.get(a, c) for c in columns} for a in ("lse", "delta"))

            def weigh(c: str, at: str, s: str) -> None:
                weight = self.function(math.exp, self.op("fsub", s, lse[c]))
                self.put(weight, "scores", at)
                slope = self.op("fmul", weight, self.op("fsub", self.get("ds", at), delta[c]))
                self.put(self.op("fmul", slope, self.scale), "ds", at)

            self.scaled(columns, self.first, k0, keys, self.bias, weigh)
        to = {o: self.at("float", self.to[o], self.mul(k0, self.line[o])) for o in "kv"}
        self.product("along", (keys, d, self.count), p, QUERIES, self.up, line["up"], to["v"], self.line["v"], "true")
        self.product("along", (keys, e, self.count), ds, QUERIES, self.q, line["q"], to["k"], self.line["k"], "true")
        again = self.test("ne", k0, 0)
        self.product("across", (e, QUERIES, keys), k, line["k"], ds, QUERIES, area["sums"], QUERIES, again)


def emit(target: Target, name: str, forward: bool, causal: bool, biased: bool) -> str:
    """The module with the one function ``name``."""
    unit = Unit(target)
    lanes = target.vector_bits // 32
    operands = ("q", "k", "v", *(("bias",) if biased else ()), *(() if forward else ("up", "forward")))
    writer = (_Forward if forward else _Backward)(unit, name, operands, causal)
    functions = [text for layout in ("along", "across") for text in product(unit, float32, lanes, layout)]
    functions += [along(unit, float32, float32, "transpose", "internal"), writer.write()]
    return "\n".join([*unit.globals.values(), "", *functions])


__all__ = ["FEATURES", "KEYS", "QUERIES", "SIZES", "emit"]
