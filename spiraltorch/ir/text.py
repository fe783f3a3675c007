"""Graphs, kernels and GEMMs as text, and back: ``parse_x(format_x(value)) == value``.

One node a line, in SSA form; a shared node is printed once, and numbers depend on structure alone,
so the text doubles as the structural key of a kernel.  Constants print so that they read back to
the same bits (``repr`` of a Python float is exact; an unusual nan prints its bits).

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph, node, text
    >>> x = graph.param(0, (2, 3), dtypes.float32)
    >>> print(text.format_graph([node.scalar("MUL", x, node.const(0.5, dtypes.float32))]))
    %0 = PARAM 0 : float32[2, 3]
    %1 = CONST 0.5 : float32
    %2 = MUL(%0, %1) : float32[2, 3]
    return %2

and of a kernel (softmax's last phase):

    kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=3
      phase (a1)
        %4 = LOAD p0[a0*s2+a1] : float32
        %5 = VALUE 1 : float32
        %6 = DIV(%4, %5) : float32
        store p1[a0*s2+a1] = %6
"""

from __future__ import annotations

import math
import re
import struct
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..dtypes import BY_NAME, DType
from .kernel import Access, Bound, Check, Coef, Gemm, Kernel, Load, Operand, Param, Phase, Reduce, Slot, Store
from .node import Bits, Node, Shape, make, toposort

_NAN = struct.pack("<d", float("nan"))


# ---------------------------------------------------------------- writing


def _value_text(bits: Bits) -> str:
    value = bits.value
    text = repr(value)
    if isinstance(value, float) and math.isnan(value) and struct.pack("<d", value) != _NAN:
        text = f"nan:{struct.pack('>d', value).hex()}"
    elif isinstance(value, complex):
        text = f"complex:{struct.pack('>dd', value.real, value.imag).hex()}"
    return text if bits.static else text + " dynamic"


def _type_text(n: Node) -> str:
    return n.dtype.name + str(list(n.shape)) if n.shape else n.dtype.name


def _arg_text(n: Node, buffers: dict[Node, int]) -> str:
    arg = n.arg
    if arg is None:
        return ""
    if isinstance(arg, Bits):
        return " " + _value_text(arg)
    if n.op == "BUFFER":
        return f" {buffers.setdefault(n, len(buffers))}"
    return f" {arg!r}"


def _node_line(n: Node, names: Mapping[Node, str], buffers: dict[Node, int]) -> str:
    src = f"({', '.join([names[s] for s in n.src])})" if n.src else ""
    return f"{n.op}{src}{_arg_text(n, buffers)} : {_type_text(n)}"


def format_node(n: Node, depth: int = 3) -> str:
    """One line for people: the expression down to ``depth`` operands, then its type."""

    def expression(m: Node, left: int) -> str:
        if m.src and left == 0:
            return "..."
        src = f"({', '.join([expression(s, left - 1) for s in m.src])})" if m.src else ""
        return m.op + src + _arg_text(m, {})

    return f"{expression(n, depth)} : {_type_text(n)}"


def format_graph(roots: Iterable[Node]) -> str:
    """The graph below ``roots``; buffers are named by the order in which they appear."""
    roots = list(roots)
    names: dict[Node, str] = {}
    buffers: dict[Node, int] = {}
    lines = []
    for i, n in enumerate(toposort(roots)):
        names[n] = f"%{i}"
        lines.append(f"%{i} = {_node_line(n, names, buffers)}")
    lines.append("return " + ", ".join([names[r] for r in roots]))
    return "\n".join(lines)


class _Body:
    """Writes phases; nodes are numbered through all phases of one kernel."""

    def __init__(self, nodes: list[Node]) -> None:
        self.pending = iter(nodes)
        self.names: dict[Node, str] = {}
        self.lines: list[str] = []

    def use(self, root: Node) -> str:
        # toposort lists the nodes in the order of the roots, so what a root still lacks comes next.
        names = self.names
        while root not in names:
            n = next(self.pending)
            names[n] = f"%{len(names)}"
            self.lines.append(f"    {names[n]} = {_node_line(n, names, {})}")
        return names[root]

    def phase(self, title: str, p: Phase) -> None:
        self.lines.append(f"  {title} ({', '.join([f'a{ax}' for ax in p.axes])})")
        for r in p.reduces:
            value = self.use(r.expr)
            self.lines.append(f"    r{r.id} = {r.op} {value}")
        for s in p.stores:
            value = self.use(s.value)
            guard = "" if s.guard is None else f" if {self.use(s.guard)}"
            self.lines.append(f"    store p{s.param}[{s.access!r}] {s.fold}= {value}{guard}")
        for c in p.checks:
            cond = self.use(c.cond)
            self.lines.append(f"    check {cond} else {c.code}")


def _signature(k: Kernel | Gemm) -> str:
    params = ", ".join([f"{p.mode} {p.dtype.name}" for p in k.params])
    return f"params=({params}) scalars=({', '.join([d.name for d in k.scalars])}) slots={k.slots}"


def _list_text(items: Iterable[Any]) -> str:
    return f"({', '.join([repr(i) for i in items])})"


def format_kernel(k: Kernel) -> str:
    """The kernel tree as text; equal kernels give equal text."""
    body = _Body(k.nodes())
    group = (f" group={k.group}" if k.group > 1 else "") + (f" walked={k.walked}" if k.walked else "")
    body.lines.append(f"kernel rows={k.rows} lane={k.lane} block={k.block}{group} axes={_list_text(k.axes)} {_signature(k)}")
    for p in k.phases:
        body.phase("phase", p)
    return "\n".join(body.lines)


def _operand_text(name: str, o: Operand) -> str:
    bounds = "".join([f" size={b.size!r} {_place_text(b)}" for b in o.bounds])
    return f"  {name} = p{o.param} {_place_text(o)}{bounds}"


def _place_text(o: Operand | Bound) -> str:
    return f"outer={o.outer!s} inner={o.inner!s} batch={_list_text(o.batch)} offset={o.offset!r}"


def format_gemm(g: Gemm) -> str:
    """The GEMM as text: its operands, then the epilogue."""
    body = _Body(g.nodes())
    window = f" window={_list_text(g.window)}" if g.window else ""
    body.lines += [
        f"gemm axes={_list_text(g.axes)} depth={g.depth!r}{window} acc={g.acc.name} {_signature(g)}",
        _operand_text("a", g.a),
        _operand_text("b", g.b),
    ]
    body.phase("epilogue", g.epilogue)
    return "\n".join(body.lines)


# ---------------------------------------------------------------- reading

_NODE = re.compile(r"(%\d+) = (\w+)(?:\((%[^)]*)\))?(?: (.+?))? : (\w+)(\[[\d, ]*\])?")
_REDUCE = re.compile(r"r(\d+) = (\w+) (%\d+)")
_STORE = re.compile(r"store p(\d+)\[([^\]]*)\] (\w*)= (%\d+)(?: if (%\d+))?")
_CHECK = re.compile(r"check (%\d+) else (-?\d+)")
_LOAD = re.compile(r"p(\d+)\[([^\];]*)((?:; [^\];]+)*)\](\??)")
_PHASE = re.compile(r"(?:phase|epilogue) \(([a\d, ]*)\)")
_OPERAND = re.compile(r"[ab] = p(\d+) (.+)")
_PLACE = re.compile(r"outer=(\S+) inner=(\S+) batch=\(([^)]*)\) offset=(\S+)")
_SIGNATURE = r"params=\(([^)]*)\) scalars=\(([^)]*)\) slots=(\d+)"
_KERNEL = re.compile(r"kernel rows=(\d+) lane=(\w+) block=(\d+)(?: group=(\d+))?(?: walked=(\d+))? axes=\(([^)]*)\) " + _SIGNATURE)
_GEMM = re.compile(r"gemm axes=\(([^)]*)\) depth=s(\d+)(?: window=\(([^)]*)\))? acc=(\w+) " + _SIGNATURE)


def _match(pattern: re.Pattern[str], line: str) -> re.Match[str]:
    found = pattern.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"not understood: {line.strip()!r}")
    return found


def _items(text: str) -> list[str]:
    return text.split(", ") if text else []


def _coef(text: str) -> Coef:
    return Slot(int(text[1:])) if text[0] == "s" else int(text)


def _access(text: str) -> Access:
    parts = text.split("+")
    offset: Coef = 0
    if parts[0][0] != "a":
        offset = _coef(parts.pop(0))
    terms = []
    for part in parts:
        axis, _, stride = part.partition("*")
        terms.append((int(axis[1:]), _coef(stride) if stride else 1))
    return Access(offset, tuple(terms))


def _load(text: str) -> Load:
    param, access, dyn, guarded = _match(_LOAD, text).groups()
    return Load(int(param), _access(access), tuple([_coef(d) for d in dyn.split("; ")[1:]]), bool(guarded))


def _bits(text: str) -> Bits:
    text, _, dynamic = text.partition(" ")
    if text.startswith("nan:"):
        value: Any = struct.unpack(">d", bytes.fromhex(text[4:]))[0]
    elif text.startswith("complex:"):
        value = complex(*struct.unpack(">dd", bytes.fromhex(text[8:])))
    elif text in ("True", "False"):
        value = text == "True"
    else:
        value = int(text) if text.lstrip("-").isdigit() else float(text)
    return Bits(value, not dynamic)


_ARGS: dict[str, Callable[[str], Any]] = {"CONST": _bits, "LOAD": _load, "INDEX": _access}


def _shape(text: str | None) -> Shape:
    return tuple(literal_eval(text)) if text else ()


def _node(line: str, names: dict[str, Node], buffers: Mapping[int, Node]) -> None:
    name, op, src, arg, dtype, shape = _match(_NODE, line).groups()
    operands = tuple([names[s] for s in _items(src or "")])
    if op == "BUFFER":
        i = int(arg)
        n = buffers.get(i) or make("PARAM", (), ("buffer", i), _shape(shape), BY_NAME[dtype])
    else:
        value = None if arg is None else _ARGS.get(op, literal_eval)(arg)
        n = make(op, operands, value, _shape(shape), BY_NAME[dtype])
    names[name] = n


def parse_graph(text: str, buffers: Mapping[int, Node] | None = None) -> list[Node]:
    """The roots that ``format_graph`` printed; interned, so they are the same objects.

    ``buffers`` maps a BUFFER's printed position to the leaf to use; without one it becomes the
    placeholder ``PARAM ('buffer', position)``.  Raises ValueError for a line it can't read.
    """
    names: dict[str, Node] = {}
    for line in text.strip().splitlines():
        if line.startswith("return"):
            return [names[r] for r in _items(line[len("return ") :])]
        _node(line, names, buffers or {})
    raise ValueError("no 'return' line")


def _phases(lines: Sequence[str]) -> tuple[Phase, ...]:
    names: dict[str, Node] = {}
    phases: list[Phase] = []
    reduces: list[Reduce] = []
    stores: list[Store] = []
    checks: list[Check] = []
    axes: tuple[int, ...] | None = None

    def close() -> None:
        if axes is not None:
            phases.append(Phase(axes, tuple(reduces), tuple(stores), tuple(checks)))
            for found in (reduces, stores, checks):
                found.clear()

    for line in [raw.strip() for raw in lines]:
        if line[0] == "%":
            _node(line, names, {})
        elif line[0] == "r":
            number, op, value = _match(_REDUCE, line).groups()
            reduces.append(Reduce(int(number), op, names[value]))
        elif line.startswith("store"):
            param, access, fold, value, guard = _match(_STORE, line).groups()
            stores.append(Store(int(param), _access(access), names[value], names[guard] if guard else None, fold))
        elif line.startswith("check"):
            cond, code = _match(_CHECK, line).groups()
            checks.append(Check(names[cond], int(code)))
        else:
            close()
            axes = tuple([int(a[1:]) for a in _items(_match(_PHASE, line).group(1))])
    close()
    return tuple(phases)


def _params(text: str) -> tuple[Param, ...]:
    pairs = [item.split(" ") for item in _items(text)]
    return tuple([Param(BY_NAME[dtype], mode) for mode, dtype in pairs])


def _scalars(text: str) -> tuple[DType, ...]:
    return tuple([BY_NAME[name] for name in _items(text)])


def _slots(text: str) -> tuple[Slot, ...]:
    return tuple([Slot(int(s[1:])) for s in _items(text)])


def _pair(text: str) -> tuple[Slot, Slot]:
    first, second = _slots(text)
    return first, second


def parse_kernel(text: str) -> Kernel:
    """The kernel that ``format_kernel`` printed.  Raises ValueError for a line it can't read."""
    head, *lines = text.strip().splitlines()
    rows, lane, block, group, walked, axes, params, scalars, slots = _match(_KERNEL, head).groups()
    return Kernel(
        _slots(axes), int(rows), lane, int(block), _params(params), _scalars(scalars), int(slots), _phases(lines),
        int(group or 1), int(walked or 0),
    )  # fmt: skip


def _operand(line: str) -> Operand:
    param, places = _match(_OPERAND, line).groups()
    own, *bounds = places.split(" size=s")
    found = []
    for b in bounds:
        size, _, place = b.partition(" ")
        outer, inner, batch, offset = _place(place)
        found.append(Bound(outer, inner, Slot(int(size)), batch, offset))
    return Operand(int(param), *_place(own), tuple(found))


def _place(text: str) -> tuple[Coef | str, Coef | str, tuple[Coef, ...], Coef]:
    outer, inner, batch, offset = _match(_PLACE, text).groups()
    along, deep = (step if step[0] == "p" else _coef(step) for step in (outer, inner))
    return along, deep, tuple([_coef(b) for b in _items(batch)]), _coef(offset)


def parse_gemm(text: str) -> Gemm:
    """The GEMM that ``format_gemm`` printed.  Raises ValueError for a line it can't read."""
    head, a, b, *lines = text.strip().splitlines()
    axes, depth, window, acc, params, scalars, slots = _match(_GEMM, head).groups()
    (epilogue,) = _phases(lines)
    return Gemm(
        _slots(axes), Slot(int(depth)), _operand(a), _operand(b), BY_NAME[acc], _params(params), _scalars(scalars),
        int(slots), epilogue, _pair(window) if window else None,
    )  # fmt: skip
