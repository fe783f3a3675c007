"""Workloads and frameworks.

A workload is made of builders.  A builder gets a :class:`Framework` and returns ``step``, a function without
arguments whose result is synchronised, timed, and compared between frameworks:

    softmax = workload("softmax", "float32[4096, 1024]")

    @softmax.torch                      # for spiraltorch, torch and torch.compile: one surface
    def _(fw):
        x = fw.tensor(arrays((4096, 1024))[0])
        f = fw.compile(lambda x: x.softmax(-1))
        return lambda: f(x)

    @softmax.jax
    def _(fw): ...

Data comes from :func:`arrays`, so every framework computes on the same numbers.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Step = Callable[[], Any]
FAMILIES = (
    "pointwise",
    "rows",
    "reductions",
    "matrix",
    "attention",
    "sorting",
    "training",
    "convolution",
    "recurrent",
    "eager",
)


def _same(function: Any) -> Any:
    return function


@dataclass
class Framework:
    """One way to run a workload.  name: as on the command line.  module: what is imported.  compiles: whether
    ``compile`` does anything."""

    name: str
    module: str
    surface: str
    compiles: bool
    lib: Any = None
    compile: Callable[[Any], Any] = _same

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> Framework:
        """The framework with its library imported."""
        lib = importlib.import_module(self.module)
        how = (lib.jit if self.surface == "jax" else lib.compile) if self.compiles else _same
        return Framework(self.name, self.module, self.surface, self.compiles, lib, how)

    def tensor(self, array: np.ndarray, requires_grad: bool = False) -> Any:
        """A copy in the framework's own memory."""
        if self.surface == "jax":
            return self.lib.numpy.asarray(array)
        return self.lib.tensor(array, requires_grad=requires_grad)

    def wait(self, result: Any) -> None:
        """Until ``result`` is computed."""
        if self.surface == "jax":
            self.lib.block_until_ready(result)

    def threads(self, n: int) -> None:
        if self.surface == "torch":
            self.lib.set_num_threads(n)


FRAMEWORKS: dict[str, Framework] = {
    f.name: f
    for f in (
        Framework("spiraltorch", "spiraltorch", "torch", True),
        Framework("torch", "torch", "torch", False),
        Framework("torch.compile", "torch", "torch", True),
        Framework("jax", "jax", "jax", True),
    )
}


@dataclass
class Workload:
    """name; note: sizes, for the table; eager: nothing is compiled, so torch.compile has no row; per: operations in
    one step, when the time of one is what counts (given in us)."""

    name: str
    note: str
    eager: bool = False
    per: int = 0
    family: str = ""
    builders: dict[str, Callable[[Framework], Step]] = field(default_factory=dict)

    def _take(self, surface: str) -> Callable[[Callable[[Framework], Step]], Callable[[Framework], Step]]:
        def take(build: Callable[[Framework], Step]) -> Callable[[Framework], Step]:
            self.builders[surface] = build
            self.family = build.__module__.rpartition(".")[2]
            return build

        return take

    @property
    def torch(self) -> Any:
        """Decorator: the builder for everything with torch's surface."""
        return self._take("torch")

    @property
    def spiraltorch(self) -> Any:
        """Decorator: a builder for SpiralTorch alone, where it differs from torch's."""
        return self._take("spiraltorch")

    @property
    def jax(self) -> Any:
        return self._take("jax")

    def builder(self, f: Framework) -> Callable[[Framework], Step] | None:
        if self.eager and f.name == "torch.compile":
            return None
        return self.builders.get(f.name) or self.builders.get(f.surface)

    def build(self, f: Framework) -> Step:
        """The step, for a loaded framework."""
        make = self.builder(f)
        if make is None:
            raise ValueError(f"{self.name} has no {f.name} version")
        if self.eager:
            f.compile = _same
        return make(f)


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, note: str, *, eager: bool = False, per: int = 0) -> Workload:
    """A new workload.  Raises ValueError when the name is taken."""
    if name in WORKLOADS:
        raise ValueError(f"there is a workload {name} already")
    w = WORKLOADS[name] = Workload(name, note, eager, per)
    return w


def load_workloads() -> dict[str, Workload]:
    """Every workload, from every family's module."""
    for family in FAMILIES:
        importlib.import_module(f"benchmarks.{family}")
    return WORKLOADS


def arrays(*shapes: tuple[int, ...], scale: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    """float32 normal numbers, the same in every process."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s, dtype=np.float32) * np.float32(scale) for s in shapes]


def labels(count: int, classes: int, seed: int = 1) -> np.ndarray:
    """int64 class numbers, the same in every process."""
    return np.random.default_rng(seed).integers(0, classes, count)
