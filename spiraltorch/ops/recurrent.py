"""Recurrent cells and layers: one step, and one direction of one layer over all its time steps.

In: what the inputs add to the gates, for all steps (one matrix product outside), and the weights that the state goes
through.  Out: outputs, final states, and ``work``: what backward looks at.

    gates[t] = input_gates[t] + (h[t-1] @ weight_hh.T + bias_hh)        h[t], c[t] = cell(gates[t], h[t-1], c[t-1])

Rows are steps after steps, at each the sequences that have it: sequence b at step t is row ``offsets[t] + b``, and
``offsets[t + 1] - offsets[t]`` sequences, the first ones, have step t (:class:`spiraltorch.nn.utils.rnn.PackedSequence`).
The loop over time is a pair of library routines (:mod:`spiraltorch.kernels.library.recurrent`), whose meaning is
:func:`unrolled`; that is what is differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dtypes import DType, int64
from ..errors import DtypeError, ShapeError
from ..ir import graph, lang
from ..ir.cells import CELLS, Cell, Nodes, backward_parts, forward_parts
from ..ir.node import Node, cast
from . import samples as s
from .gradients import vjp
from .matmul import contract
from .registry import op

T = s.T
LANES = 16  # hidden units come in whole vectors of every machine: others are padded with units that stay 0
PANEL = 32  # columns of a matrix that lie together


# -- one step ---------------------------------------------------------------------------------------------


def _blocks(gates: Node, count: int) -> Nodes:
    """The gates of (.., count * units) one by one."""
    units = gates.shape[-1] // count
    whole = tuple([(0, n, 1) for n in gates.shape[:-1]])
    return [graph.slice_(gates, (*whole, (k * units, (k + 1) * units, 1))) for k in range(count)]


def _affine(x: Node, weight: Node, bias: Node | None) -> Node:
    out = contract(x, "ni", weight, "oi", "no")
    return out if bias is None else out + bias


def _step(
    kind: str, input: Node, h: Node, c: Node, w_ih: Node, w_hh: Node, b_ih: Node | None, b_hh: Node | None
) -> tuple[Node, Node]:
    cell = CELLS[kind]
    _refuse_integers(input, h, c, w_ih, w_hh, b_ih, b_hh)
    for name, x, w in (("input", input, w_ih), ("hidden", h, w_hh)):
        if x.shape[-1] != w.shape[-1]:
            raise ShapeError(f"{name} has inconsistent {name}_size: got {x.shape[-1]}, expected {w.shape[-1]}")
    if input.shape[0] != h.shape[0] or c.shape != h.shape:
        raise ShapeError(f"Input batch size {input.shape[0]} doesn't match hidden0 batch size {h.shape[0]}")
    x, g = _affine(input, w_ih, b_ih), _affine(h, w_hh, b_hh)
    h, c, _ = cell.forward(_blocks(x, cell.gates), _blocks(g, cell.gates), h, c)
    return h, c


def _of_floats(*specs: s.Call) -> Callable[[DType], list[s.Sample]]:
    """Samples, of float types alone."""
    drawn = s.calls(*specs)

    def samples(dtype: DType) -> list[s.Sample]:
        return drawn(dtype) if dtype.kind == "f" else []

    return samples


def _small(*shape: int) -> s.T:
    return T(*shape, fill="unit")


def _cell_samples(gates: int) -> Callable[[DType], list[s.Sample]]:
    weights = _small(gates * 3, 4), _small(gates * 3, 3)
    state = [_small(2, 3), _small(2, 3)] if gates == 4 else _small(2, 3)
    biases = _small(gates * 3), _small(gates * 3)
    return _of_floats(s.call(_small(2, 4), state, *weights, *biases), s.call(_small(2, 4), state, *weights))


def _refuse_integers(*tensors: Node | None) -> None:
    """Raises NotImplementedError unless all are floats."""
    for n in tensors:
        if n is not None and n.dtype.kind != "f":
            raise DtypeError(f"recurrent cells are not implemented for {n.dtype.name!r}; convert first, e.g. x.float()")


@op("lstm_cell", kinds="f", where=("",), samples=_cell_samples(4))
def lstm_cell(
    input: Node, hx: Sequence[Node], w_ih: Node, w_hh: Node, b_ih: Node | None = None, b_hh: Node | None = None
) -> tuple[Node, Node]:
    """(h, c), each [N, H], after one step from the two of ``hx`` for an input [N, I]; weights are [4H, I] and [4H, H], for
    the input, forget, cell and output gates.  Raises RuntimeError for sizes that do not fit.  (torch.lstm_cell)"""
    return _step("lstm", input, *hx, w_ih, w_hh, b_ih, b_hh)


@op("gru_cell", kinds="f", where=("",), samples=_cell_samples(3))
def gru_cell(input: Node, hx: Node, w_ih: Node, w_hh: Node, b_ih: Node | None = None, b_hh: Node | None = None) -> Node:
    """h [N, H] after one step from ``hx`` for an input [N, I]; weights are [3H, I] and [3H, H], for the reset, update and
    new gates.  Raises RuntimeError for sizes that do not fit.  (torch.gru_cell)"""
    return _step("gru", input, hx, hx, w_ih, w_hh, b_ih, b_hh)[0]


@op("rnn_tanh_cell", kinds="f", where=("",), samples=_cell_samples(1))
def rnn_tanh_cell(input: Node, hx: Node, w_ih: Node, w_hh: Node, b_ih: Node | None = None, b_hh: Node | None = None) -> Node:
    """``tanh(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)``.  Raises RuntimeError for sizes that do not fit.
    (torch.rnn_tanh_cell)"""
    return _step("tanh", input, hx, hx, w_ih, w_hh, b_ih, b_hh)[0]


@op("rnn_relu_cell", kinds="f", where=("",), samples=_cell_samples(1))
def rnn_relu_cell(input: Node, hx: Node, w_ih: Node, w_hh: Node, b_ih: Node | None = None, b_hh: Node | None = None) -> Node:
    """``relu(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)``.  Raises RuntimeError for sizes that do not fit.
    (torch.rnn_relu_cell)"""
    return _step("relu", input, hx, hx, w_ih, w_hh, b_ih, b_hh)[0]


# -- all steps: the definition -----------------------------------------------------------------------------


def unrolled(
    kind: str, reverse: bool, x: Node, weight: Node, bias: Node, h: Node, c: Node | None, offsets: Node, project: Node | None = None
) -> dict[str, Node]:
    """The layer step by step.  x: the input's gates, (rows, gates * units).  bias: the state's, for each row.

    Gives 'out', 'h', 'c' (final), and for each row what there was: 'kept' values, the states 'before h' and 'before c'.
    """
    cell, (batch, _), rows = CELLS[kind], h.shape, x.shape[0]
    steps = offsets.shape[0] - 1
    dense = rows == steps * batch
    parts: dict[str, Nodes] = {name: [] for name in ("out", "kept", "before h", "before c")}
    order = range(steps)
    for t in reversed(order) if reverse else order:
        start, end = _at(offsets, t), _at(offsets, t + 1)
        place = start + graph.iota((batch,), 0)
        there = lang.lt(place, end)
        place = lang.where(there, place, 0)

        def taken(n: Node, t: int = t, place: Node = place) -> Node:
            if dense:
                return graph.slice_(n, ((t * batch, (t + 1) * batch, 1), (0, n.shape[1], 1)))
            return graph.gather(n, place, 0)

        g = contract(h, "nk", weight, "gk", "ng") + taken(bias)
        state = h if c is None else c
        new_h, new_c, kept = cell.forward(_blocks(taken(x), cell.gates), _blocks(g, cell.gates), h, state)
        if project is not None:
            new_h = contract(new_h, "nk", project, "pk", "np")
        here = [new_h, _side_by_side(kept), h, *([] if c is None else [c])]
        for name, n in zip(parts, here):
            parts[name].insert(0, n) if reverse else parts[name].append(n)
        if not dense:
            there = graph.reshape(there, (batch, 1))
            new_h, new_c = [lang.where(graph.broadcast(there, n.shape), n, old) for n, old in ((new_h, h), (new_c, state))]
        h, c = new_h, c if c is None else new_c
    found = {name: joined([graph.reshape(n, (n.size,)) for n in nodes]) for name, nodes in parts.items() if nodes}
    for name, n in found.items():
        n = graph.reshape(n, (steps * batch, parts[name][0].shape[1]))
        found[name] = n if dense else graph.gather(n, _sources(offsets, rows, batch), 0)
    return {**found, "h": h, **({} if c is None else {"c": c})}


def _even(rows: int, batch: int) -> Node:
    """Where the steps begin when all sequences have all of them.  Steps of a slice are data: a new batch compiles nothing."""
    count = rows + max(batch, 1)
    return graph.slice_(graph.iota((count,), 0), ((0, count, max(batch, 1)),))


def _at(offsets: Node, t: int) -> Node:
    return graph.reshape(graph.slice_(offsets, ((t, t + 1, 1),)), ())


def _side_by_side(parts: Nodes) -> Node:
    """(n, units) each, as (n, count * units)."""
    rows, units = parts[0].shape
    stacked = joined([graph.reshape(p, (p.size,)) for p in parts])
    return graph.reshape(graph.permute(graph.reshape(stacked, (len(parts), rows, units)), (1, 0, 2)), (rows, len(parts) * units))


def _sources(offsets: Node, rows: int, batch: int) -> Node:
    """Where each row comes from among (step, sequence)."""
    steps = offsets.shape[0] - 1
    shape = (rows, steps)
    row = graph.iota(shape, 0)
    after = graph.slice_(offsets, ((1, steps + 1, 1),))
    passed = cast(lang.le(graph.broadcast(after, shape), row), int64)
    step = lang.fold("add", passed, 1)
    return step * batch + (graph.iota((rows,), 0) - graph.gather(offsets, step, 0))


def joined(parts: Sequence[Node]) -> Node:
    """Flat parts one after the other."""
    total, start = sum([n.size for n in parts]), 0
    out = graph.full(0, (total,), parts[0].dtype)
    for n in parts:
        out = graph.update(out, ((start, start + n.size, 1),), n)
        start += n.size
    return out


def _gradients(
    g: Sequence[Node | None], names: Sequence[str], function: Callable[..., dict[str, Node]], inputs: Nodes
) -> list[Node | None]:
    """The vector-Jacobian product of ``function``'s results called ``names``."""
    holes = [graph.param(("hole", i), n.shape, n.dtype) for i, n in enumerate(inputs)]
    found = function(*holes)
    return vjp([found[name] for name in names], holes, g, dict(zip(holes, inputs)))


# -- the routines' calls: flat results ----------------------------------------------------------------------


def panels(matrix: Node) -> Node:
    """(k, n) as panels of neighbouring columns: (panels, k, columns of a panel)."""
    k, n = matrix.shape
    width = PANEL if n % PANEL == 0 else LANES
    return graph.permute(graph.reshape(matrix, (k, n // width, width)), (1, 0, 2))


def _matrix(found: Node) -> Node:
    """What :func:`panels` was made of."""
    count, k, width = found.shape
    return graph.reshape(graph.permute(found, (1, 0, 2)), (k, count * width))


def part(flat: Node, parts: dict[str, tuple[int, int]], name: str) -> Node:
    """One part of a flat result."""
    start = 0
    for other, (rows, columns) in parts.items():
        if other == name:
            return graph.reshape(graph.slice_(flat, ((start, start + rows * columns, 1),)), (rows, columns))
        start += rows * columns
    raise KeyError(name)


def forward_body(options: tuple[str, bool], x: Node, weight: Node, bias: Node, h: Node, *more: Node) -> Node:
    """What CALL recurrent.forward means, in primitives."""
    *c, offsets = more
    found = unrolled(*options, x, _transposed(_matrix(weight)), graph.broadcast(bias, x.shape), h, c[0] if c else None, offsets)
    names = forward_parts(options[0], x.shape[0], *h.shape)
    return joined([graph.reshape(found[name], (found[name].size,)) for name in names])


def backward_body(options: tuple[str, bool], x: Node, weight: Node, bias: Node, h: Node, *more: Node) -> Node:
    """What CALL recurrent.backward means, in primitives: gradients of gates and first states."""
    cell = CELLS[options[0]]
    states = 1 + cell.memory
    *c, offsets = more[:states]
    names = ["out", "h", "c"][: 1 + states]
    w = _matrix(weight)

    def layer(x: Node, bias: Node, h: Node, c: Node | None = None) -> dict[str, Node]:
        return unrolled(*options, x, w, bias, h, c, offsets)

    inputs = [x, graph.broadcast(bias, x.shape), h, *c]
    found = _gradients(more[states : 2 * states + 1], names, layer, inputs)
    dx, gates, *rest = [graph.full(0, n.shape, n.dtype) if g is None else g for g, n in zip(found, inputs)]
    extra = _blocks(dx, cell.gates)[cell.gates - 1 :] if cell.kept > cell.gates else []
    all_gates = _side_by_side([*_blocks(gates, cell.gates), *extra])
    return joined([graph.reshape(n, (n.size,)) for n in (all_gates, *rest)])


def _transposed(n: Node) -> Node:
    return graph.permute(n, (1, 0))


# -- the operator --------------------------------------------------------------------------------------------


class _Layer:
    """The operator's arguments as the routines want them: a wide type, whole vectors of units."""

    def __init__(
        self, kind: str, reverse: bool, x: Node, weight: Node, bias: Node | None, h: Node, c: Node | None, offsets: Node | None
    ) -> None:
        self.kind, self.cell, self.options = kind, CELLS[kind], (kind, reverse)
        wide = x.dtype.acc
        self.given, self.units = h.shape[1], -(-h.shape[1] // LANES) * LANES
        gates = self.cell.gates
        bias = graph.full(0, (gates * self.given,), wide) if bias is None else cast(bias, wide)
        self.rows, self.batch = x.shape[0], h.shape[0]
        self.x, self.bias = self.padded(cast(x, wide), gates), self.padded(bias, gates)
        w = graph.reshape(cast(weight, wide), (gates, self.given, self.given))
        more = (0, self.units - self.given, 0)
        self.weight = graph.reshape(graph.pad(w, ((0, 0, 0), more, more)), (gates * self.units, self.units))
        self.states = [self.padded(cast(n, wide)) for n in (h, c) if n is not None]
        self.offsets = _even(self.rows, self.batch) if offsets is None else offsets

    def padded(self, n: Node, count: int = 1) -> Node:
        """(.., count * given units) as (.., count * units)."""
        if self.units == self.given:
            return n
        lead = n.shape[:-1]
        split = graph.reshape(n, (*lead, count, self.given))
        wide = graph.pad(split, ((0, 0, 0),) * (len(lead) + 1) + ((0, self.units - self.given, 0),))
        return graph.reshape(wide, (*lead, count * self.units))

    def cut(self, n: Node, count: int = 1) -> Node:
        """What was padded, without."""
        if self.units == self.given:
            return n
        lead = n.shape[:-1]
        split = graph.reshape(n, (*lead, count, self.units))
        cut = graph.slice_(split, (*[(0, m, 1) for m in (*lead, count)], (0, self.given, 1)))
        return graph.reshape(cut, (*lead, count * self.given))

    def forward(self) -> tuple[Node, dict[str, tuple[int, int]]]:
        parts = forward_parts(self.kind, self.rows, self.batch, self.units)
        inputs = (self.x, panels(_transposed(self.weight)), self.bias, *self.states, self.offsets)
        return graph.call("recurrent.forward", inputs, (_size(parts),), self.x.dtype, *self.options), parts

    def backward(self, grads: Sequence[Node], work: Node) -> tuple[Node, dict[str, tuple[int, int]]]:
        parts = backward_parts(self.kind, self.rows, self.batch, self.units)
        inputs = (self.x, panels(self.weight), self.bias, *self.states, self.offsets, *[self.padded(g) for g in grads], work)
        return graph.call("recurrent.backward", inputs, (_size(parts),), self.x.dtype, *self.options), parts


def _size(parts: dict[str, tuple[int, int]]) -> int:
    return sum([rows * columns for rows, columns in parts.values()])


def _projected(kind: str, reverse: bool, offsets: Node | None, wide: DType) -> Callable[..., dict[str, Node]]:
    """A layer with a projection, as a function of what has a gradient."""

    def layer(x: Node, weight: Node, h: Node, c: Node, project: Node, bias: Node | None = None) -> dict[str, Node]:
        at = _even(x.shape[0], h.shape[0]) if offsets is None else offsets
        x, weight, h, c, project = [cast(n, wide) for n in (x, weight, h, c, project)]
        bias = graph.full(0, x.shape, wide) if bias is None else graph.broadcast(cast(bias, wide), x.shape)
        return unrolled(kind, reverse, x, weight, bias, h, c, at, project)

    return layer


def _layer_grad(
    g: Sequence[Node], out: Sequence[Node], kind: str, reverse: bool, input_gates: Node, weight_hh: Node, hx: Node,
    cx: Node | None = None, bias_hh: Node | None = None, offsets: Node | None = None, weight_hr: Node | None = None,
) -> list[Node | None]:  # fmt: skip
    wide = input_gates.dtype.acc
    ups = [cast(n, wide) for n in g[1:]]
    db: Node | None = None
    dc: Node | None = None
    dr: Node | None = None
    if weight_hr is not None:
        assert cx is not None
        inputs = [input_gates, weight_hh, hx, cx, weight_hr, *([] if bias_hh is None else [bias_hh])]
        dx, dw, dh, dc, dr, *rest = _gradients(ups, ["out", "h", "c"], _projected(kind, reverse, offsets, wide), inputs)
        db = rest[0] if rest else None
    else:
        layer = _Layer(kind, reverse, input_gates, weight_hh, bias_hh, hx, cx, offsets)
        cell = layer.cell
        flat, parts = layer.backward(ups, out[0])
        before = part(out[0], forward_parts(kind, layer.rows, layer.batch, layer.units), "before h")
        blocks = _blocks(part(flat, parts, "gates"), cell.kept)
        states = _first(part(flat, parts, "gates"), cell)
        dx = layer.cut(_side_by_side([*blocks[: cell.gates - 1], blocks[-1]]) if cell.kept > cell.gates else states, cell.gates)
        w = graph.reshape(contract(states, "rg", before, "rk", "gk"), (cell.gates, layer.units, layer.units))
        n = (0, layer.given, 1)
        dw = graph.reshape(graph.slice_(w, ((0, cell.gates, 1), n, n)), weight_hh.shape)
        db = layer.cut(lang.sum_(states, 0), cell.gates)
        dh = layer.cut(part(flat, parts, "h"))
        dc = layer.cut(part(flat, parts, "c")) if cell.memory else None
    given = ((input_gates, dx), (weight_hh, dw), (hx, dh), (cx, dc), (bias_hh, db), (offsets, None), (weight_hr, dr))
    return [grad for n, grad in given if n is not None]


def _first(gates: Node, cell: Cell) -> Node:
    """The gradients of the state's gates among those of all kept values."""
    units = gates.shape[1] // cell.kept
    return graph.slice_(gates, ((0, gates.shape[0], 1), (0, cell.gates * units, 1)))


def _layer_samples() -> list[s.Call]:
    found = []
    for kind, cell in CELLS.items():
        for h, bias in ((3, True), (16, False)):
            g = cell.gates * h
            given = [kind, not bias, _small(8, g), _small(g, h), _small(2, h), _small(2, h) if cell.memory else None]
            found.append(s.call(*given, *([_small(g)] if bias else [])))
    found.append(s.call("lstm", False, _small(6, 12), _small(12, 2), _small(2, 2), _small(2, 3), _small(12), None, _small(2, 3)))
    return found


@op("recurrent_layer", kinds="f", acc=False, where=(), grad=_layer_grad, tolerance=1e-4, samples=_of_floats(*_layer_samples()),
    results=("work", "output", "h_n", "c_n"),
    saves=("input_gates", "weight_hh", "hx", "cx", "bias_hh", "offsets", "weight_hr", "work"))  # fmt: skip
def recurrent_layer(
    kind: str, reverse: bool, input_gates: Node, weight_hh: Node, hx: Node, cx: Node | None = None, bias_hh: Node | None = None,
    offsets: Node | None = None, weight_hr: Node | None = None,
) -> tuple[Node, ...]:  # fmt: skip
    """(work, output [rows, H], h_n [N, H], c_n [N, H] of an 'lstm'): one direction of one layer, of 'lstm', 'gru', 'tanh' or
    'relu' cells, over ``input_gates`` [rows, gates * H].  Rows are all sequences' steps, or as ``offsets`` [T + 1] says;
    ``weight_hr`` [P, H] projects the outputs of an 'lstm'.  (torch.nn.LSTM)"""
    _refuse_integers(input_gates, weight_hh, hx, cx, bias_hh, weight_hr)
    wide = input_gates.dtype.acc
    if weight_hr is not None:
        bias = [] if bias_hh is None else [bias_hh]
        found = _projected(kind, reverse, offsets, wide)(input_gates, weight_hh, hx, cx, weight_hr, *bias)
        results = [found[name] for name in ("out", "h", "c")]
        return graph.full(0, (0,), wide), *[cast(n, input_gates.dtype) for n in results]
    layer = _Layer(kind, reverse, input_gates, weight_hh, bias_hh, hx, cx, offsets)
    flat, parts = layer.forward()
    names = ("out", "h", "c") if layer.cell.memory else ("out", "h")
    return flat, *[cast(layer.cut(part(flat, parts, name)), input_gates.dtype) for name in names]
