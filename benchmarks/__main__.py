"""``python -m benchmarks``: measure, print, and write ``results/*.json`` and ``docs/performance.md``.

python -m benchmarks --quick --only softmax --frameworks spiraltorch,torch
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from fnmatch import fnmatch

from .plots import bars
from .registry import FRAMEWORKS, load_workloads
from .report import RESULTS, load, merged, save, terminal, write_page
from .runner import Plan, Row, disagreements, measure, usable


def arguments() -> argparse.Namespace:
    most = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--only", default="*", help="workloads to run: names or patterns, with commas between them")
    parser.add_argument(
        "--frameworks", default=",".join(FRAMEWORKS), help="frameworks to run, with commas between them"
    )
    parser.add_argument(
        "--threads", default=",".join(map(str, sorted({1, min(2, most)}, reverse=True))), help="numbers of threads"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns each framework takes")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a turn")
    parser.add_argument("--scaling", action="store_true", help="how costs grow with size, instead of the workloads")
    parser.add_argument("--determinism", action="store_true", help="compare bits between processes and numbers of threads")
    parser.add_argument("--soak", action="store_true", help="long mixed use: whether memory and caches stay bounded")
    parser.add_argument("--calls", type=int, default=100_000, help="calls of a soak")
    parser.add_argument("--warm-starts", type=int, default=3, help="processes that time the first call with filled caches")
    parser.add_argument("--out", default="cpu", help="name of the file in benchmarks/results")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.scaling:
        from .scaling import main as scaling

        return scaling()
    if options.determinism:
        from .determinism import main as determinism

        return determinism(options.only)
    if options.soak:
        from .soak import main as soak

        return soak(options.calls)
    workloads = load_workloads()
    patterns = options.only.split(",")
    chosen = [w for w in workloads.values() if any(fnmatch(w.name, p) for p in patterns)]
    if not chosen:
        print(f"no workload matches {options.only}; there are {', '.join(workloads)}")
        return 2
    names = options.frameworks.split(",")
    unknown = [n for n in names if n not in FRAMEWORKS]
    if unknown:
        print(f"no framework {', '.join(unknown)}; there are {', '.join(FRAMEWORKS)}")
        return 2
    names = [f.name for f in usable(names)]
    threads = [int(n) for n in options.threads.split(",")]
    plan = Plan(names, threads, 1, 0.2, 0) if options.quick else Plan(names, threads, options.rounds, options.seconds, options.warm_starts)
    date = datetime.date.today().isoformat()
    rows: list[Row] = []
    problems: list[str] = []
    for n in plan.threads:
        for w in chosen:
            found = measure(w, plan, n, date)
            rows += found
            problems += disagreements(found)
            print(f"{w.name:24} {n} threads  " + "  ".join(_said(r) for r in found), file=sys.stderr, flush=True)
    print(terminal(rows))
    if problems:
        print("\nresults differ: " + "; ".join(problems))
    if not options.quick:
        path = RESULTS / f"{options.out}.json"
        everything = merged(load(path), rows)
        save(path, everything)
        write_page(everything)
        for n in {r.threads for r in everything}:
            bars(everything, n)
    return 1 if problems else 0


def _said(r: Row) -> str:
    return f"{r.framework} {r.error or f'{r.ms:.3f} ms'}"


if __name__ == "__main__":
    sys.exit(main())
