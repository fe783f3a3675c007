"""One workload in one framework, in a process of its own: ``python -m benchmarks.worker softmax torch 2``.

Reads commands from standard input and answers each with one line of JSON, so that workers of several frameworks
can measure in turns.  At start it answers with the first call's seconds and a number that the frameworks
must agree on; ``measure SECONDS`` answers with the median time of a step; at the end of the input, with memory.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

OURS = "spiraltorch"
SAMPLE_SECONDS = 2e-3  # shorter steps are timed several at a time


def main(name: str, framework: str, threads: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cpus)  # before any library makes its threads
    from .registry import FRAMEWORKS, load_workloads

    before, start = _status("VmRSS"), time.perf_counter()
    fw = FRAMEWORKS[framework].load()
    import_s = time.perf_counter() - start
    fw.threads(threads)
    imported = _status("VmRSS")
    step = load_workloads()[name].build(fw)
    start = time.perf_counter()
    result = step()
    fw.wait(result)
    first = time.perf_counter() - start
    say(first=first, check=_check(result), import_s=import_s, import_mib=(imported - before) / 1024)
    del result
    for _ in range(3):
        fw.wait(step())
    _forget_peak()
    for line in sys.stdin:
        say(ms=1e3 * _measure(step, fw.wait, float(line.split()[1])))
    say(peak_mib=(_status("VmHWM") - imported) / 1024, roofline_ms=_roofline(fw.lib, step) if framework == OURS else None)


def _roofline(st: Any, step: Any) -> float:
    """Milliseconds that the step's launches would take at the machine's measured limits."""
    with st.profile() as p:
        step()
    return float(1e3 * p.least_seconds)


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _measure(step: Any, wait: Any, seconds: float) -> float:
    """Median seconds of a step over about ``seconds``."""
    clock = time.perf_counter
    start = clock()
    wait(step())
    once = max(clock() - start, 1e-7)
    several = max(1, round(SAMPLE_SECONDS / once))
    samples: list[float] = []
    end = clock() + seconds
    while clock() < end or len(samples) < 5:
        start = clock()
        for _ in range(several):
            result = step()
        wait(result)
        samples.append((clock() - start) / several)
    return statistics.median(samples)


def _check(result: Any) -> float:
    """The mean of the first array: equal in every framework, up to rounding."""
    import numpy as np

    first = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(first, float):
        first = np.asarray(first.detach() if hasattr(first, "detach") else first)
    return float(np.mean(np.asarray(first, np.float64)))


def _status(name: str) -> int:
    """A figure of this process' memory, in KiB."""
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")


def _forget_peak() -> None:
    """Let VmHWM start again, so that it shows the steady state and not the compiler."""
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
