"""``python -m fuzz --seconds 60 --seed 0``: draw programs until the time is over.

Every kind of finding is made small by leaving out calls, and printed as the calls that show it, with the seed that
drew it; ``--save tests/fuzz/found`` writes it as a script that runs alone, and that the tests run from then on.  The exit
status is 1 when there is one.  ``--programs 20`` of seed 0 are 20 programs: none is counted twice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from .compare import Finding, differences
from .programs import Program, programs, without
from .scripts import save

AT_ONCE = 100


class Fuzz:
    """Counts, and what was found: the smallest program for each kind of finding in each operator, and its seed."""

    def __init__(self, seconds: float, most: int) -> None:
        self.end = time.monotonic() + seconds
        self.most = most
        self.programs = self.calls = self.seed = 0
        self.used: Counter[str] = Counter()
        self.found: dict[tuple[str, str], tuple[Finding, Program, int]] = {}

    def check(self, p: Program) -> None:
        if time.monotonic() >= self.end or self.programs >= self.most:
            return
        self.programs += 1
        self.calls += len(p.calls)
        self.used.update(c.op.name for c in p.calls)
        for f in differences(p):
            known = self.found.get((f.kind, f.where))
            if known is None or len(str(p)) < len(str(known[1])):
                self.found[f.kind, f.where] = f, p, self.seed

    def run(self, seed: int) -> None:
        limits = settings(
            max_examples=AT_ONCE, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck), verbosity=hypothesis.Verbosity.quiet,
        )  # fmt: skip
        self.seed = seed
        while time.monotonic() < self.end and self.programs < self.most:
            hypothesis.seed(self.seed)(limits(given(programs())(self.check)))()
            self.seed += 1

    def summary(self, folder: Path | None = None) -> str:
        """Counts and findings, made small; they are saved as scripts in ``folder``."""
        lines = [
            f"{self.programs} programs, {self.calls} calls, {len(self.used)} operators, {len(self.found)} findings"
        ]
        for finding, p, seed in self.found.values():
            small, finding = smallest(p, finding)
            if folder is not None:
                save(folder, small, finding, seed)
            lines += ["", f"{finding} (seed {seed})", *["    " + line for line in str(small).splitlines()]]
        return "\n".join(lines)


def smallest(p: Program, finding: Finding) -> tuple[Program, Finding]:
    """``p`` without the calls that the finding does not need; all of it, if it does not happen again."""
    key = finding.kind, finding.where
    k = 0
    while k < len(p.calls):
        smaller = without(p, k)
        same = [f for f in differences(smaller) if (f.kind, f.where) == key] if smaller is not None else []
        if smaller is not None and same:
            p, finding = smaller, same[0]
        else:
            k += 1
    return p, finding


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--programs", type=int, default=1 << 60, help="stop after so many, also before the time is over"
    )
    parser.add_argument("--save", type=Path, help="folder that gets every finding as a script")
    options = parser.parse_args()
    fuzz = Fuzz(options.seconds, options.programs)
    fuzz.run(options.seed)
    print(fuzz.summary(options.save))
    return 1 if fuzz.found else 0


if __name__ == "__main__":
    sys.exit(main())
