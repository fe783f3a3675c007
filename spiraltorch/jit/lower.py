"""Lower: a group of stages becomes a kernel tree whose sizes, strides and offsets are run-time arguments.

In: a :class:`~spiraltorch.jit.places.Group` and which of its values must be stored.  Out: a
:class:`Launch`: the kernel, the nodes whose memory its parameters are, and the arguments' values.
Two groups that differ in sizes alone give the same kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..dtypes import DType, int64
from ..ir.index import Affine, flatten
from ..ir.kernel import Access, Check, Coef, Gemm, Kernel, Load, Param, Phase, Reduce, Slot, Store
from ..ir.node import Node, const, make, scalar, toposort
from .places import Group, Place, atoms_at, collapse, refine, spread
from .stages import Guard, Read, Stage

POINTWISE_BLOCK = 4096  # elements of one task of a pointwise kernel: 16 KiB of float32
# Columns of one task when lanes run across a fold: the wider, the better memory streams.
COLUMN_BLOCKS = (2048, 1024, 768, 512, 384, 256, 192, 128, 64)
AGAIN = 128  # values of a column up to which a wide block of them stays in cache
SHORT = (2, 3, 4)  # strides along the lanes that are part of a kernel's code, and sizes of a group


@dataclass(eq=False)
class Launch:
    """One launch: what runs, on whose memory, with which numbers.

    params: per parameter a node (its memory), or a tuple of int64 offsets (a table).  scalars: positions of
    the program's run-time scalars.  outs: nodes it defines.  checks: the GATHER behind each check code.
    """

    kernel: Kernel | Gemm | Library
    params: list[Any]
    ints: list[int]
    scalars: list[int]
    outs: list[Node]
    checks: dict[int, Node] = field(default_factory=dict)
    group: Group | None = None
    origins: list[Node] = field(default_factory=list)
    inplace: set[Node] = field(default_factory=set)

    @property
    def reads(self) -> list[Node]:
        """Nodes whose memory it reads."""
        modes = [p.mode for p in self.kernel.params]
        return [n for n, mode in zip(self.params, modes) if isinstance(n, Node) and mode in ("in", "inout")]


@dataclass(frozen=True)
class Library:
    """A hand-written kernel by name (see kernels/library), with the types it is made for."""

    name: str
    params: tuple[Param, ...]
    static: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        return f"lib_{self.name}_" + "_".join([p.dtype.name for p in self.params] + [str(s) for s in self.static])

    def __str__(self) -> str:
        return f"library {self.name}{self.static} ({', '.join(f'{p.mode} {p.dtype.name}' for p in self.params)})"


class Arguments:
    """Collects a kernel's parameters, slots and scalars while its expressions are made."""

    def __init__(self) -> None:
        self.params: list[Any] = []
        self.modes: list[Param] = []
        self.index: dict[Any, int] = {}
        self.ints: list[int] = []
        self.scalars: list[int] = []
        self.scalar_types: list[DType] = []
        self.lane = -1  # the kernel axis whose short strides are static

    def param(self, key: Any, dtype: DType, mode: str) -> int:
        """Number of the parameter for ``key``; reading what is also written makes it 'inout'."""
        at = self.index.get(key)
        if at is None:
            at = self.index[key] = len(self.params)
            self.params.append(key)
            self.modes.append(Param(dtype, mode))
        elif self.modes[at].mode != mode:
            self.modes[at] = Param(dtype, "inout")
        return at

    def slot(self, value: int) -> Slot:
        self.ints.append(value)
        return Slot(len(self.ints) - 1)

    def coef(self, value: int) -> Coef:
        return value if value in (0, 1) else self.slot(value)

    def scalar(self, position: int, dtype: DType) -> int:
        if position not in self.scalars:
            self.scalars.append(position)
            self.scalar_types.append(dtype)
        return self.scalars.index(position)

    def access(self, form: Affine, placed: bool = False) -> Access:
        """``placed``: the offset is an argument even when it is 0 (parts of one array share a kernel)."""
        terms = tuple([(k, c if k == self.lane and c in SHORT else self.coef(c)) for k, c in form.terms])
        return Access(self.slot(form.const) if placed or form.const else 0, terms)


class Emitter:
    """Turns READ, AT, GUARD expressions in kernel axes into LOAD, INDEX and comparisons."""

    def __init__(self, args: Arguments, memory: Callable[[Node], Any], merge: dict[int, tuple[int, bool]]) -> None:
        self.args, self.memory, self.merge = args, memory, merge
        self.memo: dict[Node, Node] = {}
        self.accesses: dict[tuple[Any, Affine], Access] = {}

    def form(self, f: Affine) -> Affine:
        """The form in collapsed axes: only the innermost axis of a run keeps its coefficient."""
        if not self.merge:
            return f
        return Affine(f.const, tuple(sorted([(self.merge[k][0], c) for k, c in f.terms if self.merge[k][1]])), f.dyn)

    def access(self, owner: Any, f: Affine, placed: bool = False) -> Access:
        """Slots are shared by equal forms into one array, and by nothing else, so that a kernel's text does
        not depend on sizes that happen to be equal."""
        key = (owner, Affine(f.const, f.terms))
        found = self.accesses.get(key)
        if found is None:
            found = self.accesses[key] = self.args.access(self.form(key[1]), placed)
        return found

    def expr(self, root: Node) -> Node:
        for n in toposort([root]):
            if n not in self.memo:
                self.memo[n] = self._node(n)
        return self.memo[root]

    def _node(self, n: Node) -> Node:
        if n.op == "READ":
            return self._load(n.arg, n.dtype)
        if n.op == "AT":
            base = make("INDEX", (), self.access("at", n.arg), (), int64)
            for value, c in n.arg.dyn:
                term = self.expr(value)
                base = scalar("ADD", base, scalar("MUL", term, const(c, int64)) if c != 1 else term)
            return base
        if n.op == "GUARD":
            return self.guard(n.arg)
        if n.op == "SCALAR":
            return make("SCALAR", (), self.args.scalar(n.arg, n.dtype), (), n.dtype)
        return n if not n.src else make(n.op, tuple([self.memo[s] for s in n.src]), n.arg, (), n.dtype)

    def guard(self, guards: Iterable[Guard]) -> Node:
        out: Node | None = None
        for form, lo, hi in guards:
            at = self.expr(make("AT", (), form, (), int64))
            if lo == "every":
                test = scalar("EQ", scalar("REM", at, const(hi, int64)), const(0, int64))
            else:
                end = make("INDEX", (), self.access(("end", form), Affine(hi - 1)), (), int64)
                test = scalar("AND", scalar("LE", const(lo, int64), at), scalar("LE", at, end))
            out = test if out is None else scalar("AND", out, test)
        assert out is not None
        return out

    def _load(self, r: Read, dtype: DType) -> Node:
        key = self.memory(r.node)
        param = self.args.param(key, dtype, "in")
        flat = r.position
        access = self.access(key, flat)
        src = [self.expr(v) for v, _ in flat.dyn]
        dyn = tuple([self.args.coef(c) for _, c in flat.dyn])
        guarded = bool(r.guards)
        if guarded:
            src.append(self.guard(r.guards))
        return make("LOAD", tuple(src), Load(param, access, dyn, guarded), (), dtype)


class Translator:
    """A stage's expression in kernel axes, other stages of the group inlined or read as VALUE."""

    def __init__(self, group: Group, sizes: Sequence[int]) -> None:
        self.group, self.sizes = group, sizes
        self.members = {s.node: s for s in group.stages}
        folds = [s for s in group.stages if s.kind == "reduce" and s not in group.columns]
        self.values = {s: i for i, s in enumerate(folds)}
        self.memo: dict[Any, Node] = {}

    def stage(self, s: Stage, atoms: Sequence[Affine], guards: tuple[Guard, ...] = ()) -> Node:
        assert s.expr is not None
        return self.expr(s.expr, s, tuple(atoms), guards)

    def form(self, f: Affine, s: Stage, atoms: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Affine:
        out = f.substitute(atoms)
        if f.dyn:
            moved = tuple([(self.expr(v, s, atoms, guards), c) for v, c in f.dyn])
            out = Affine(out.const, out.terms, out.dyn + moved)
        return out

    def guards(self, gs: Iterable[Guard], s: Stage, atoms: tuple[Affine, ...]) -> tuple[Guard, ...]:
        return tuple([(self.form(f, s, atoms, ()), lo, hi) for f, lo, hi in gs])

    def expr(self, root: Node, s: Stage, atoms: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
        for n in toposort([root]):
            key = (n, s, atoms, guards)
            if key not in self.memo:
                self.memo[key] = self._node(n, s, atoms, guards)
        return self.memo[root, s, atoms, guards]

    def _node(self, n: Node, s: Stage, atoms: tuple[Affine, ...], guards: tuple[Guard, ...]) -> Node:
        if n.op == "READ":
            r: Read = n.arg
            index = tuple([self.form(f, s, atoms, guards) for f in r.index])
            held = tuple(dict.fromkeys(guards + self.guards(r.guards, s, atoms)))
            p = self.members.get(r.node)
            if p is None or p is s or self.group.kind == "update":
                return make("READ", (), Read(r.node, index, held, r.flat), (), n.dtype)
            if p.kind == "dot":
                return make("VALUE", (), 0, (), n.dtype)
            if p.kind == "reduce":
                return make("VALUE", (), self.values[p], (), n.dtype)
            return self.stage(p, atoms_at(p, index, self.sizes), held)
        if n.op == "AT":
            return make("AT", (), self.form(n.arg, s, atoms, guards), (), n.dtype)
        if n.op == "GUARD":
            return make("GUARD", (), self.guards(n.arg, s, atoms), (), n.dtype)
        if not n.src:
            return n
        return make(n.op, tuple([self.memo[m, s, atoms, guards] for m in n.src]), n.arg, (), n.dtype)


@dataclass
class Frame:
    """Inner axes that phases share: sizes and the kernel axes they are."""

    sizes: list[int]
    axes: list[int]


def lower_group(g: Group, stored: set[Node], memory: Callable[[Node], Any]) -> Launch:
    """A 'map', 'row' or 'update' group as one kernel.  ``memory`` names the memory of a node."""
    rows = refine([[t.atoms[a] for a in g.places[t].rows] for t in g.stages if t not in g.clones]) or []
    frames, frame_of = _frames(g, len(rows))
    sizes = rows + [s for f in frames for s in f.sizes]
    forms = {t: _atom_forms(t, g.places[t], rows, frame_of.get(t)) for t in g.stages}
    if g.kind == "map":
        sizes, forms = _in_store_order([_store_form(t, forms[t]) for t in g.stages if t.node in stored], sizes, forms)
    tr = Translator(g, sizes)
    exprs = {t: tr.stage(t, forms[t]) for t in g.stages}
    checks = [(tr.expr(c, t, tuple(forms[t]), ()), gather, t) for t in g.stages for c, gather in t.checks]
    stores = {t: _store_form(t, forms[t]) for t in g.stages if t.node in stored}
    # Axes that everything walks as one are one.
    everything = [f for e in [*exprs.values(), *[c for c, _, _ in checks]] for f in _forms_in(e)] + list(stores.values())
    named = {k: s for k, s in enumerate(sizes)}
    runs = collapse(everything, range(len(rows)), named)
    row_runs = len(runs)
    frame_runs: list[list[list[int]]] = []
    for f in frames:
        found = collapse(everything, f.axes, named, _breaks(g, f, frame_of))
        frame_runs.append(found)
        runs += found
    merge = {k: (new, k == run[-1]) for new, run in enumerate(runs) for k in run}
    numbers = {id(f): [merge[run[-1]][0] for run in found] for f, found in zip(frames, frame_runs)}
    args = Arguments()
    axes = tuple([args.slot(math.prod(sizes[k] for k in run)) for run in runs])
    by_row = g.lane == "row" or g.kind != "row"
    group = _group(runs, sizes, list(stores.values())) if by_row and not frames else 1
    if by_row:
        args.lane = row_runs - 1 - (group > 1)
    em = Emitter(args, memory, merge)
    phases, launch_checks = _phases(g, exprs, checks, stores, frame_of, numbers, tr, em)
    if launch_checks:
        args.param("status", int64, "status")
    if not row_runs:  # a kernel has at least one row axis: one row
        axes = (args.slot(1), *axes)
        phases = tuple([_shift_phase(p) for p in phases])
        row_runs = 1
    lane, block = ("inner", 0)
    if by_row:
        folds = any(p.axes for p in phases)
        depth = max([math.prod(f.sizes) for f in frames], default=1)
        lane, block = "row", POINTWISE_BLOCK
        if folds:
            lanes = math.prod(sizes[k] for k in runs[args.lane]) if args.lane >= 0 else 1
            block = _column_block(g.rows, lanes, depth if len(phases) > 2 else 0)
    walked, rest = 0, math.prod(g.columns[0].atoms[a] for a in g.columns[0].folded) if g.columns else 1
    while rest > 1:  # what one task walks: the block's rows
        walked += 1
        rest //= math.prod(sizes[k] for k in runs[row_runs - walked])
    scalars = tuple(args.scalar_types)
    kernel = Kernel(axes, row_runs, lane, block, tuple(args.modes), scalars, len(args.ints), phases, group, walked)
    outs = [t.node for t in stores]
    return Launch(kernel, args.params, args.ints, args.scalars, outs, launch_checks, g, [t.node for t in g.stages])


def _in_store_order(
    stores: Sequence[Affine], sizes: list[int], forms: dict[Stage, list[Affine]]
) -> tuple[list[int], dict[Stage, list[Affine]]]:
    """The axes of a pointwise kernel, and forms in them, in the order of the memory that all its results share."""
    orders = {tuple(sorted(range(len(sizes)), key=lambda k: -f.coef(k))) for f in stores}
    if len(orders) != 1:
        return sizes, forms
    (order,) = orders
    moved = [Affine.axis(order.index(k)) for k in range(len(sizes))]
    return [sizes[k] for k in order], {t: [f.substitute(moved) for f in own] for t, own in forms.items()}


def _group(runs: Sequence[Sequence[int]], sizes: Sequence[int], stores: Sequence[Affine]) -> int:
    """Size of the last row axis if it is so short that lanes run along the one before it, else 1."""
    if len(runs) < 2:
        return 1
    size = math.prod(sizes[k] for k in runs[-1])
    together = size in SHORT and all(f.coef(runs[-1][-1]) == 1 and f.coef(runs[-2][-1]) == size for f in stores)
    return size if together else 1


def _breaks(g: Group, frame: Frame, frame_of: dict[Stage, Frame]) -> list[int]:
    """Frame axes at which a fold's axes are not neighbours: there the order of the fold starts a new loop."""
    out: list[int] = []
    for t in g.stages:
        if t.kind != "reduce" or t in g.columns or frame_of.get(t) is not frame:
            continue
        inner = g.places[t].inner
        forms = spread([t.atoms[a] for a in inner], frame.sizes, frame.axes[0])
        for a, b, form in zip(inner, inner[1:], forms[1:]):
            if b != a + 1 and form.terms:
                out.append(min(k for k, _ in form.terms))
    return out


def _column_block(rows: int, lanes: int, depth: int) -> int:
    """Columns of one task, of ``lanes`` side by side: every thread gets some.  Kernels that read ``depth`` values of each
    column again in later phases keep them in cache.  A column's bits do not depend on it."""
    if depth > AGAIN:
        return COLUMN_BLOCKS[-1]
    from ..runtime.threads import get_num_threads

    wide = COLUMN_BLOCKS if not depth else COLUMN_BLOCKS[COLUMN_BLOCKS.index(512) :]
    return next((b for b in wide if rows // lanes * -(-lanes // b) >= get_num_threads()), COLUMN_BLOCKS[-1])


def _frames(g: Group, first: int) -> tuple[list[Frame], dict[Stage, Frame]]:
    frames: list[Frame] = []
    frame_of: dict[Stage, Frame] = {}
    members: list[list[Stage]] = []
    for t in g.stages:
        inner = [t.atoms[a] for a in g.places[t].inner]
        if not inner:
            continue
        for f, group in zip(frames, members):
            if math.prod(f.sizes) == math.prod(inner) and (fine := refine([f.sizes, inner])) is not None:
                f.sizes = fine
                group.append(t)
                break
        else:
            frames.append(Frame(inner, []))
            members.append([t])
    at = first
    for f, group in zip(frames, members):
        f.axes = list(range(at, at + len(f.sizes)))
        at += len(f.sizes)
        for t in group:
            frame_of[t] = f
    return frames, frame_of


def _atom_forms(t: Stage, place: Place, rows: Sequence[int], frame: Frame | None) -> list[Affine]:
    out = [Affine()] * len(t.atoms)
    for a, form in zip(place.rows, spread([t.atoms[a] for a in place.rows], rows, 0)):
        out[a] = form
    if frame is not None:
        for a, form in zip(place.inner, spread([t.atoms[a] for a in place.inner], frame.sizes, frame.axes[0])):
            out[a] = form
    return out


def _store_form(t: Stage, atoms: Sequence[Affine]) -> Affine:
    return flatten([f.substitute(atoms) for f in t.out_index], t.node.shape)


def _forms_in(root: Node) -> Iterable[Affine]:
    """Every index form of an expression that kernel axes enter by."""
    seen: set[Node] = set()
    stack = [root]
    while stack:
        for n in toposort([stack.pop()]):
            if n in seen:
                continue
            seen.add(n)
            found: list[Affine] = []
            if n.op == "READ":
                found = [n.arg.position, *[f for f, _, _ in n.arg.guards]]
            elif n.op == "AT":
                found = [n.arg]
            elif n.op == "GUARD":
                found = [f for f, _, _ in n.arg]
            for f in found:
                yield f
                stack.extend([v for v, _ in f.dyn])


def _level(e: Node, levels: dict[int, int]) -> int:
    """The first phase at which ``e`` can be evaluated: after every fold it looks at."""
    level = 0
    seen: set[Node] = set()
    stack = [e]
    while stack:
        for n in toposort([stack.pop()]):
            if n in seen:
                continue
            seen.add(n)
            if n.op == "VALUE":
                level = max(level, levels[n.arg] + 1)
            elif n.op in ("READ", "AT", "GUARD"):
                guards = n.arg.guards if n.op == "READ" else n.arg if n.op == "GUARD" else ()
                for f in [*(n.arg.index if n.op == "READ" else [n.arg] if n.op == "AT" else []), *[g[0] for g in guards]]:
                    stack.extend([v for v, _ in f.dyn])
    return level


def _phases(
    g: Group,
    exprs: dict[Stage, Node],
    checks: Sequence[tuple[Node, Node, Stage]],
    stores: dict[Stage, Affine],
    frame_of: dict[Stage, Frame],
    numbers: dict[int, list[int]],
    tr: Translator,
    em: Emitter,
) -> tuple[tuple[Phase, ...], dict[int, Node]]:
    levels: dict[int, int] = {}
    table: dict[tuple[int, int], tuple[tuple[int, ...], list[Reduce], list[Store], list[Check]]] = {}

    def phase(level: int, t: Stage) -> tuple[tuple[int, ...], list[Reduce], list[Store], list[Check]]:
        f = frame_of.get(t)
        key = (level, -1 if f is None else f.axes[0])
        if key not in table:
            table[key] = (() if f is None else tuple(numbers[id(f)]), [], [], [])
        return table[key]

    codes: dict[int, Node] = {}
    for t in g.stages:
        level = _level(exprs[t], levels)
        if t.kind == "reduce" and t not in g.columns:
            levels[tr.values[t]] = level
            phase(level, t)[1].append(Reduce(tr.values[t], t.node.arg[0], em.expr(exprs[t])))
        if t in stores:
            value = exprs[t]
            fold = t.node.arg[0] if t in g.columns else ""
            if t in tr.values:  # a fold's result is stored once a row, after its phase
                value = make("VALUE", (), tr.values[t], (), t.node.dtype)
                key = (level + 1, -1)
                if key not in table:
                    table[key] = ((), [], [], [])
                target = table[key]
            else:
                target = phase(level, t)
            memory = em.memory(t.node)
            param = em.args.param(memory, t.node.dtype, "out")
            target[2].append(Store(param, em.access(memory, stores[t], t.kind == "update"), em.expr(value), None, fold))
    for c, gather, t in checks:
        code = next((k for k, n in codes.items() if n is gather), len(codes) + 1)
        codes[code] = gather
        phase(_level(c, levels), t)[3].append(Check(em.expr(c), code))
    done = [Phase(axes, tuple(r), tuple(s), tuple(c)) for _, (axes, r, s, c) in sorted(table.items()) if r or s or c]
    return tuple(done), codes


def _shift_phase(p: Phase) -> Phase:
    """The phase with every axis number one higher."""

    def access(a: Access) -> Access:
        return Access(a.offset, tuple([(k + 1, c) for k, c in a.terms]))

    memo: dict[Node, Node] = {}

    def expr(root: Node) -> Node:
        for n in toposort([root]):
            arg = n.arg
            if n.op == "INDEX":
                arg = access(arg)
            elif n.op == "LOAD":
                arg = Load(arg.param, access(arg.access), arg.dyn, arg.guarded)
            memo[n] = make(n.op, tuple([memo[s] for s in n.src]), arg, n.shape, n.dtype)
        return memo[root]

    return Phase(
        tuple([k + 1 for k in p.axes]),
        tuple([Reduce(r.id, r.op, expr(r.expr)) for r in p.reduces]),
        tuple([Store(s.param, access(s.access), expr(s.value), s.guard and expr(s.guard), s.fold) for s in p.stores]),
        tuple([Check(expr(c.cond), c.code) for c in p.checks]),
    )
