"""What this machine can do at most, measured: bytes copied and multiply-adds done in a second, on all threads.

    copy_bandwidth()     # bytes read and written per second
    fma_rate()           # float32 operations per second, a multiply-add is two
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

COPY_BYTES = 1 << 26
ROUNDS = 1 << 16
TASKS = 64
_CHAINS = 12  # independent accumulators: enough for the latency of a multiply-add, few enough for 16 registers


@cache
def copy_bandwidth() -> float:
    """Bytes per second that a plain copy kernel moves on this machine, all threads (best of five)."""
    from ..dtypes import float32
    from ..ir import graph
    from ..jit.program import build
    from ..runtime import buffers

    shape = (COPY_BYTES // 4,)
    program = build([graph.copy(graph.param(0, shape, float32))], [None], [(shape, float32)], [])
    given = buffers.allocate(COPY_BYTES)
    given.view(np.float32, shape)[:] = 1  # pages that nobody wrote are all one page of zeros, which stays in the cache
    program.run([given])
    return 2 * COPY_BYTES / min(timed(program.run, [given]) for _ in range(5))


@cache
def fma_rate() -> float:
    """float32 operations per second of multiply-adds in registers, all threads (best of five)."""
    from ..kernels.llvm.target import host
    from ..runtime.cache import functions
    from ..runtime.plan_table import Launch, Plan

    lanes = host().vector_bits // 32
    name = f"fma_ceiling_{lanes}"
    address = functions([(name, lambda: _fma_loop(name, lanes, host().attributes))])[name]
    out = np.zeros(TASKS * lanes, np.float32)
    plan = Plan([Launch(address, [[int(out.ctypes.data)]], [TASKS], 1, parallel=True)])
    plan.run()
    return 2 * TASKS * ROUNDS * _CHAINS * lanes / min(timed(plan.run) for _ in range(5))


def _fma_loop(name: str, lanes: int, attributes: str) -> str:
    """``void name(i64* args, i64 lo, i64 hi)``: each task multiplies and adds, then stores what it got."""
    v = f"<{lanes} x float>"
    chains = range(_CHAINS)
    phis = "\n".join(f"  %a{k} = phi {v} [splat (float 1.0), %task], [%b{k}, %loop]" for k in chains)
    steps = "\n".join(f"  %b{k} = call {v} @fma({v} %a{k}, {v} %x, {v} %y)" for k in chains)
    sums = "\n".join(f"  %s{k} = fadd {v} %{'b0' if k == 1 else f's{k - 1}'}, %b{k}" for k in chains[1:])
    return f"""
declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})

define void @{name}(ptr %args, i64 %lo, i64 %hi) #0 {{
entry:
  %word = load ptr, ptr %args
  br label %task
task:
  %t = phi i64 [%lo, %entry], [%t2, %done]
  %at = mul i64 %t, {lanes}
  %p = getelementptr float, ptr %word, i64 %at
  %x = load {v}, ptr %p, align 4
  %y = fadd {v} %x, %x
  br label %loop
loop:
  %i = phi i64 [0, %task], [%i2, %loop]
{phis}
{steps}
  %i2 = add i64 %i, 1
  %more = icmp ult i64 %i2, {ROUNDS}
  br i1 %more, label %loop, label %done
done:
{sums}
  %kept = fmul {v} %s{_CHAINS - 1}, %x
  store {v} %kept, ptr %p, align 4
  %t2 = add i64 %t, 1
  %last = icmp uge i64 %t2, %hi
  br i1 %last, label %end, label %task
end:
  ret void
}}

attributes #0 = {{ {attributes} }}
""".replace("@fma(", f"@llvm.fma.v{lanes}f32(")


def timed(function: Callable[..., Any], *args: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


__all__ = ["copy_bandwidth", "fma_rate", "timed"]
