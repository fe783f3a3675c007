"""``st.profile``: the time of every launch, with the user's lines, bytes per second and share of the peak.

    with st.profile() as p:
        step(x, y)
    print(p)

While it is on, a program's instructions are run one at a time and timed; outside, nothing changes.  The time of
an empty native call is subtracted.  With ``ST_CPU=reference`` there are no
native launches, so there is nothing to time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..ir.kernel import Gemm, Kernel
from .ceilings import copy_bandwidth, fma_rate, timed
from .cost import Cost, launch_cost
from .explain import lines_of

if TYPE_CHECKING:
    from ..jit.program import Program


@dataclass
class Row:
    """One launch of one program: how often it ran, the seconds in all, and what one run costs."""

    kernel: str
    kind: str
    lines: tuple[str, ...]
    cost: Cost
    calls: int = 0
    seconds: float = 0.0

    @property
    def bandwidth(self) -> float:
        """Bytes per second that it had to move."""
        return self.calls * (self.cost.read + self.cost.written) / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Scalar operations per second."""
        return self.calls * self.cost.flops / self.seconds if self.seconds else 0.0


@dataclass
class Profile:
    """The context manager and its result: ``rows`` by time, the dearest first; ``print`` it."""

    peak: float = 0.0
    _rows: dict[Any, Row] = field(default_factory=dict)
    _keep: list[Any] = field(default_factory=list)
    _empty: dict[int, float] = field(default_factory=dict)
    _outer: Any = None

    @property
    def rows(self) -> list[Row]:
        return sorted(self._rows.values(), key=lambda r: -r.seconds)

    @property
    def seconds(self) -> float:
        """Time in launches, all together."""
        return sum(r.seconds for r in self._rows.values())

    @property
    def least_seconds(self) -> float:
        """What the launches would take at the machine's limits: for each, the bytes it must move at the speed of a
        copy, or its operations at the speed of multiply-adds, whichever is longer (the roofline)."""
        copy, fma = copy_bandwidth(), fma_rate()
        costs = [(r.calls, r.cost) for r in self._rows.values()]
        return sum(calls * max((c.read + c.written) / copy, c.flops / fma) for calls, c in costs)

    def __enter__(self) -> Profile:
        from ..jit import program

        self.peak = copy_bandwidth()
        self._outer = program.observer
        program.observer = self._run
        return self

    def __exit__(self, *exc: object) -> None:
        from ..jit import program

        program.observer = self._outer

    def _run(self, p: Program, values: Any) -> tuple[int, int]:
        table, positions = p.table, p.positions
        clock = time.perf_counter
        if (id(p), 0) not in self._rows:
            self._add(p, min(timed(table.run, positions, values, 0, 0) for _ in range(8)))
        empty = self._empty[id(p)]
        for k in range(p.launches):
            start = clock()
            done, status = table.run(positions, values, k, 1)
            row = self._rows[id(p), k]
            row.seconds += max(0.0, clock() - start - empty)
            row.calls += 1
            if status:
                return done, status
        return p.launches, 0

    def _add(self, p: Program, empty: float) -> None:
        """Rows for a program that is seen for the first time; ``empty``: seconds of a call that runs nothing."""
        self._keep.append(p)  # its id is a key
        self._empty[id(p)] = empty
        lines = lines_of(p.lowered)
        for k, step in enumerate(p.lowered.steps):
            cost = sum((launch_cost(x) for x in step.launches), Cost())
            self._rows[id(p), k] = Row(step.kernel.key, _kind(step.kernel), lines(step), cost)

    def __str__(self) -> str:
        total = self.seconds or 1.0
        lines = [
            f"{'kernel':24} {'kind':8} {'calls':>6} {'us':>9} {'share':>6} "
            f"{'GB/s':>7} {'% copy':>6} {'GFLOP/s':>8}  line"
        ]
        for r in self.rows:
            us, share = r.seconds / max(1, r.calls) * 1e6, r.seconds / total
            lines.append(
                f"{r.kernel:24} {r.kind:8} {r.calls:6} {us:9.1f} {share:6.1%} {r.bandwidth / 1e9:7.1f} "
                f"{100 * r.bandwidth / self.peak:6.0f} {r.rate / 1e9:8.1f}  {', '.join(r.lines)}"
            )
        lines.append(
            f"{len(self._rows)} launches, {self.seconds * 1e3:.3f} ms; a copy moves {self.peak / 1e9:.1f} GB/s"
        )
        return "\n".join(lines)

    __repr__ = __str__


def _kind(kernel: Any) -> str:
    if isinstance(kernel, Gemm):
        return "matmul"
    if not isinstance(kernel, Kernel):
        return "library"
    return "rows" if any(p.axes for p in kernel.phases) else "map"


def profile() -> Profile:
    """Time every launch on the CPU inside the ``with`` block; print the result afterwards.

    Launches on devices are not timed: the host does not wait for them.
    """
    return Profile()


__all__ = ["Profile", "Row", "copy_bandwidth", "profile"]
