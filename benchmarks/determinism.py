"""Whether every workload gives the same bits in every process and on any number of threads.

``python -m benchmarks --determinism`` runs each workload a few steps in processes of 1, 2, 4 and again 4 threads and
compares the digests of all results; a training workload's losses depend on every bit of its weights.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from .registry import FRAMEWORKS, load_workloads
from .runner import ROOT

STEPS = 5
RUNS = (1, 2, 4, 4)  # threads of each process


def digest(name: str, threads: int) -> str:
    """The bits of everything that some steps of a workload return."""
    import spiraltorch as st

    fw = FRAMEWORKS["spiraltorch"].load()
    before = st.get_num_threads()
    st.set_num_threads(threads)
    try:
        step = load_workloads()[name].build(fw)
        found = hashlib.sha256()
        for _ in range(STEPS):
            for value in _leaves(step()):
                found.update(value.tobytes())
        return found.hexdigest()[:16]
    finally:
        st.set_num_threads(before)


def _leaves(result: Any) -> Iterable[np.ndarray]:
    if isinstance(result, (tuple, list)):
        for r in result:
            yield from _leaves(r)
    elif isinstance(result, dict):
        yield from _leaves(list(result.values()))
    elif result is not None:
        yield np.asarray(result.detach() if hasattr(result, "detach") else result)


def main(pattern: str = "*") -> int:
    """Print a line for each workload; 1 when one gave different bits."""
    names = [n for n in load_workloads() if any(fnmatch.fnmatch(n, p) for p in pattern.split(","))]
    columns = [_process(names, threads) for threads in RUNS]
    different = 0
    for name in names:
        found = [c[name] for c in columns]
        same = len(set(found)) == 1
        different += not same
        print(f"{name:24} {found[0] if same else 'DIFFERENT: ' + ' '.join(found)}")
    threads = ", ".join(map(str, RUNS))
    print(f"{len(names)} workloads, {STEPS} steps each, in processes of {threads} threads: {different} gave different bits")
    return 1 if different else 0


def _process(names: list[str], threads: int) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.determinism", str(threads), *names], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps({name: digest(name, int(sys.argv[1])) for name in sys.argv[2:]}))
