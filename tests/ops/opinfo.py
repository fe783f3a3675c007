"""SpiralTorch against torch on the sample inputs that torch tests its own operators with.

    python -m tests.ops.opinfo lgamma clamp 'special.*'      # every difference, per operator
    python -m tests.ops.opinfo --dtypes float32,int64 --limit 3 --shown 10 add
    python -m tests.ops.opinfo --reference sinh              # the larger set, with extreme values
    python -m tests.ops.opinfo --summary                     # all operators, one line each
    python -m tests.ops.opinfo --dtypes float64 --limit 0 --forms 0 --second 2 prod   # second-order gradients alone

In: operator names or patterns, as torch's OpInfo spells them.  Out: what differs, of values, dtypes, shapes,
gradients, refusals (torch raises, we must raise an error that the same ``except`` catches), whether a result shares memory
with an argument and how it lies there, methods, in-place forms and ``out=``.  :func:`check` is the same as a function.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

import spiraltorch as st
from tests.ops import sidebyside
from tests.ops.harness import RELATIVE
from tests.ops.sidebyside import (
    aliased,
    as_near,
    compare,
    convert,
    detached,
    leaves,
    look,
    ours_of,
    outcome,
    same_family,
    widened,
)

DTYPES = ("float32", "float64", "int64", "bool", "bfloat16", "float16", "complex64")
NO_METHOD = ("nn.functional.", "linalg.", "fft.", "special.", "signal.", "masked.", "sparse.", "torch.")
RANDOM = (
    "bernoulli", "cauchy", "empty*", "exponential", "geometric", "log_normal", "multinomial", "new_empty*", "normal*",
    "nn.functional.*dropout*", "nn.functional.fractional*", "nn.functional.rrelu", "rand*", "uniform", "*_lowrank",
)  # fmt: skip


@dataclass
class Difference:
    """One thing that is not as in torch: what it is (``kind``), of which call."""

    kind: str
    call: str
    detail: str


@dataclass
class Report:
    """The differences of one operator and how many calls were compared."""

    name: str
    compared: int = 0
    missing: bool = False
    differences: list[Difference] = field(default_factory=list)

    def line(self) -> str:
        if self.missing:
            return f"{self.name}: missing"
        kinds = Counter(d.kind for d in self.differences)
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        return f"{self.name}: {self.compared} calls, {counts or 'no difference'}"

    def show(self, most: int) -> None:
        """Print up to ``most`` differences of each kind."""
        for kind in dict.fromkeys(d.kind for d in self.differences):
            for d in [d for d in self.differences if d.kind == kind][:most]:
                print(f"   {kind}: {d.call}\n      {d.detail}", flush=True)


def resolve(root: Any, name: str) -> Callable[..., Any] | None:
    """The callable that a library has under an OpInfo name: a function, else a method or a property of Tensor."""
    at = root
    for part in name.removeprefix("torch.").split("."):
        at = getattr(at, part, None)
    if callable(at) and not isinstance(at, type):
        return at  # type: ignore[no-any-return]
    member = getattr(root.Tensor, name, None)
    if member is None or callable(member):
        return member  # type: ignore[no-any-return]
    return lambda x: getattr(x, name)


def describe(name: str, sample: Any) -> str:
    def short(v: Any) -> str:
        if isinstance(v, torch.Tensor):
            small = f"={v.detach().tolist()}" if v.numel() <= 2 else ""
            gaps = "" if v.is_contiguous() else f" strides {list(v.stride())}"
            return f"{str(v.dtype)[6:]}{list(v.shape)}{gaps}{small}"
        if isinstance(v, (list, tuple)) and v:
            return f"[{', '.join(map(short, v))}]"
        return repr(v)

    named = [f"{k}={short(v)}" for k, v in sample.kwargs.items()]
    return f"{name}({', '.join([short(sample.input), *map(short, sample.args), *named])})"


class Comparison:
    """Runs the forms of one operator on samples and collects what differs."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.report = Report(".".join(filter(None, [info.name, info.variant_test_name])))
        self.theirs, self.ours = resolve(torch, info.name), resolve(st, info.name)
        self.report.missing = self.ours is None and self.theirs is not None and not info.name.startswith("_")
        self.random = any(fnmatch.fnmatch(info.name, p) for p in RANDOM)
        self.said: set[str] = set()

    def note(self, kind: str, call: str, detail: str) -> None:
        self.report.differences.append(Difference(kind, call, detail.partition("\n")[0]))

    def note_once(self, kind: str, detail: str) -> None:
        if detail not in self.said:
            self.said.add(detail)
            self.note(kind, self.report.name, detail)

    def agree(
        self, kind: str, call: str, want: Any, raised: Any, got: Any, error: Any, relative: float = 0.0,
        exact: Callable[[], Any] | None = None,
    ) -> bool:  # fmt: skip
        """Whether both raised, or gave equal results; a difference is noted, unless torch is as far from ``exact``."""
        self.report.compared += 1
        if raised is not None:
            if error is None:
                self.note(f"{kind} not refused", call, f"torch raises {type(raised).__name__}: {str(raised)[:200]}")
            elif not same_family(error, raised):
                self.note(
                    f"{kind} error class", call, f"{type(error).__name__} ({str(error)[:150]}), torch "
                    f"{type(raised).__name__} ({str(raised)[:150]})"
                )  # fmt: skip
            return False
        if error is not None:
            self.note(f"{kind} raises", call, f"{type(error).__name__}: {str(error)[:300]}")
            return False
        found = compare(got, want, self.random, relative)
        if found and not as_near(got, want, exact):
            self.note(kind, call, found)
        return found is None

    def sample(self, sample: Any) -> None:
        """The function itself and its gradient."""
        args = (sample.input, *sample.args)
        if self.theirs is None:
            return
        want, raised = outcome(lambda: self.theirs(*args, **sample.kwargs))  # type: ignore[misc]
        if raised is not None and outcome(lambda: self.info.op(*args, **sample.kwargs))[1] is None:
            return  # torch's test calls something of its own, which takes other arguments
        call = describe(self.report.name, sample)
        values, failed = outcome(lambda: (convert(args), convert(sample.kwargs)))
        if failed is not None:
            self.note("unknown argument", call, str(failed)[:200])
            return
        got, error = outcome(lambda: look(self.ours(*values[0], **values[1])))  # type: ignore[misc]
        exact = lambda: self.theirs(*widened(args), **widened(sample.kwargs))  # noqa: E731
        if not self.agree("value", call, want, raised, got, error, exact=exact):
            return
        self.memory(call, (args, sample.kwargs), values, want, got)
        if not self.random:
            self.gradient(call, (args, sample.kwargs), values, want, got)

    def memory(self, call: str, theirs_in: Any, ours_in: Any, want: Any, got: Any) -> None:
        """Which results are views of which arguments; their strides, and those of results of their own."""
        inputs = list(zip(leaves(ours_in), leaves(theirs_in)))
        alike = all(a.stride() == b.stride() for a, b in inputs)
        for k, (a, b) in enumerate(zip(leaves(got), leaves(want))):
            ours = [i for i, (x, _) in enumerate(inputs) if x._storage is a._storage]
            theirs = [i for i, (_, x) in enumerate(inputs) if x.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() and b.numel()]
            if ours != theirs and b.numel():
                self.note("view", call, f"result {k} shares memory with {ours} instead of {theirs}")
            elif alike and b.numel():
                strides = [tuple([s for n, s in zip(t.shape, t.stride()) if n > 1]) for t in (a, b)]
                if strides[0] != strides[1]:
                    self.note("strides" if ours else "layout", call, f"result {k}: {a.stride()} instead of {b.stride()}")

    def gradient(self, call: str, theirs_in: Any, ours_in: Any, want: Any, got: Any) -> None:
        rng = np.random.default_rng(5)
        pairs = [(a, b) for a, b in zip(leaves(got), leaves(want)) if b.requires_grad]
        inputs = [(a, b) for a, b in zip(leaves(ours_in), leaves(theirs_in)) if b.requires_grad]
        for k, (a, b) in enumerate(zip(leaves(got), leaves(want))):
            if a.requires_grad and not b.requires_grad:
                self.note("gradient", call, f"result {k} requires grad")
        if not pairs or not inputs:
            return
        for a, _ in pairs:
            if not a.requires_grad:
                self.note("gradient", call, "the result does not require grad")
                return
        draws = [torch.from_numpy(np.asarray(rng.normal(size=tuple(b.shape)))).to(b.dtype) for _, b in pairs]
        theirs, raised = outcome(lambda: torch.autograd.grad([b for _, b in pairs], [b for _, b in inputs], draws, allow_unused=True))
        ours, error = outcome(
            lambda: look(st.autograd.grad([a for a, _ in pairs], [a for a, _ in inputs], [ours_of(d) for d in draws], allow_unused=True))
        )
        if raised is not None:
            return  # a gradient that torch lacks may exist here
        if error is not None:
            self.note("gradient raises", call, f"{type(error).__name__}: {str(error)[:300]}")
            return
        for k, (a, b) in enumerate(zip(ours, theirs)):
            if a is None and b is None:
                continue
            a = st.zeros_like(inputs[k][0]) if a is None else a
            b = torch.zeros_like(inputs[k][1]) if b is None else b
            found = compare(a, b)
            if found and not as_near(a, b, lambda: self._wide_gradient(theirs_in, draws, k)):
                self.note("gradient", call, f"input {k}: {found}")

    def second(self, sample: Any) -> None:
        """The gradients of a gradient's weighted sum, with respect to the inputs and to what came in from above."""
        args = ((sample.input, *sample.args), sample.kwargs)
        values, failed = outcome(lambda: convert(args))
        if failed is not None or self.theirs is None:
            return
        want, raised = outcome(lambda: twice(torch, self.theirs, args))
        got, error = outcome(lambda: look(twice(st, self.ours, values)))
        if raised is None and any(t.count_nonzero() for t in want):
            self.agree("second gradient", describe(self.report.name, sample), want, raised, got, error)

    def _wide_gradient(self, inputs: Any, draws: list[torch.Tensor], k: int) -> Any:
        """torch's gradient for tensor ``k`` of those that require it, computed in float64."""
        args, kwargs = widened(inputs)
        outs = [t for t in leaves(self.theirs(*args, **kwargs)) if t.requires_grad]  # type: ignore[misc]
        wanted = [t for t in leaves((args, kwargs)) if t.requires_grad][k]
        return torch.autograd.grad(outs, wanted, [d.to(o.dtype) for d, o in zip(draws, outs)], allow_unused=True)

    def forms(self, sample: Any) -> None:
        """The method, the in-place method and ``out=``, for one sample."""
        name, call = self.info.name, describe(self.report.name, sample)
        if not isinstance(sample.input, torch.Tensor) or self.theirs is None:
            return
        if self.info.method_variant is not None and not name.startswith(NO_METHOD) and hasattr(torch.Tensor, name):
            self._method("method", name, call, sample)
        if self.info.inplace_variant is not None and hasattr(torch.Tensor, name + "_"):
            self._method("inplace", name + "_", call, sample)
        if self.info.supports_out:
            self._out(call, sample)

    def _method(self, kind: str, name: str, call: str, sample: Any) -> None:
        if not hasattr(st.Tensor, name):
            self.note_once(f"{kind} missing", f"Tensor.{name}")
            return
        if not callable(getattr(torch.Tensor, name)):
            return
        x = sample.input.detach().clone()
        rest = detached((sample.args, sample.kwargs))
        want, raised = outcome(lambda: getattr(x, name)(*rest[0], **rest[1]))
        first = convert(sample.input.detach().clone())
        ours = convert(rest)
        got, error = outcome(lambda: look(getattr(first, name)(*ours[0], **ours[1])))
        wide = widened((sample.input.detach(), *rest))
        self.agree(kind, call, want, raised, got, error, exact=lambda: getattr(wide[0].clone(), name)(*wide[1], **wide[2]))
        if kind == "inplace" and raised is None and error is None and got is not first:
            self.note(kind, call, "the result is not the tensor itself")

    def _out(self, call: str, sample: Any) -> None:
        args, kwargs = detached(((sample.input, *sample.args), sample.kwargs))
        plain, raised = outcome(lambda: self.theirs(*args, **kwargs))  # type: ignore[misc]
        if raised is not None or not leaves(plain) or torch.complex32 in [t.dtype for t in leaves(plain)]:
            return
        names = [str(t.dtype)[6:] for t in leaves((args, kwargs))]
        loose = max([RELATIVE.get(n, sidebyside.TOLERANCE.get(n, 2e-5)) for n in names], default=0.0)  # that of what went in
        for change in (_as_is, _resized, _wider, _integer):
            target = change(plain)
            ours_target = convert(target)
            want, raised = outcome(lambda: self.theirs(*args, **kwargs, out=target))  # type: ignore[misc]
            first, named = convert((args, kwargs))
            got, error = outcome(lambda: look(self.ours(*first, **named, out=ours_target)))  # type: ignore[misc]
            wide = widened((args, kwargs))
            exact = lambda: self.theirs(*wide[0], **wide[1])  # noqa: E731
            ok = self.agree(f"out={change.__name__}", call, want, raised, got, error, loose, exact)
            if ok and isinstance(want, torch.Tensor) and got is not ours_target:
                self.note("out", call, "the result is not the tensor given as out")

    def errors(self, case: Any) -> None:
        """One of torch's own error cases."""
        sample = case.sample_input
        args = (sample.input, *sample.args)
        if self.theirs is None:
            return
        _, raised = outcome(lambda: self.theirs(*args, **sample.kwargs))  # type: ignore[misc]
        if raised is None:
            return
        values, failed = outcome(lambda: aliased((args, sample.kwargs)))
        if failed is None:
            got, error = outcome(lambda: look(self.ours(*values[0], **values[1])))  # type: ignore[misc]
            self.agree("error", describe(self.report.name, sample), None, raised, got, error)


def twice(library: Any, function: Any, given: Any) -> Any:
    """The second-order gradients of ``function(*given[0], **given[1])`` in one of the libraries; the same draws in both."""

    def draw(t: Any, seed: int) -> Any:
        drawn = np.random.default_rng(seed).normal(size=(2, *t.shape))
        made = torch.from_numpy(drawn[0] + 1j * drawn[1] if t.is_complex() else drawn[0])
        made = made.to(getattr(torch, str(t.dtype).rpartition(".")[2]))
        return ours_of(made) if library is st else made

    inputs = [t for t in leaves(given) if t.requires_grad]
    outs = [t for t in leaves(function(*given[0], **given[1])) if t.requires_grad]
    above = [draw(t, k).requires_grad_() for k, t in enumerate(outs)]
    first = library.autograd.grad(outs, inputs, above, allow_unused=True, create_graph=True)
    again = {k: t for k, t in enumerate(first) if t is not None and t.requires_grad}
    wanted = [*inputs, *above]
    weights = [draw(t, 50 + k) for k, t in again.items()]
    found = library.autograd.grad(list(again.values()), wanted, weights, allow_unused=True) if again else [None] * len(wanted)
    return [library.zeros_like(t) if g is None else g for g, t in zip(found, wanted)]


def _targets(result: Any, make: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(result, torch.Tensor):
        return make(result)
    return tuple([_targets(t, make) for t in result])


def _as_is(result: Any) -> Any:
    return _targets(result, torch.zeros_like)


def _resized(result: Any) -> Any:
    return _targets(result, lambda t: torch.zeros((0,), dtype=t.dtype))


def _wider(result: Any) -> Any:
    return _targets(result, lambda t: torch.zeros_like(t, dtype=torch.float64))


def _integer(result: Any) -> Any:
    return _targets(result, lambda t: torch.zeros_like(t, dtype=torch.int64))


# -- running --------------------------------------------------------------------------------------------


@cache
def database() -> tuple[Any, ...]:
    """torch's list of operators with their sample inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return tuple(op_db)


def chosen(patterns: list[str]) -> list[Any]:
    """The OpInfos whose name, or name and variant, match one of the patterns."""
    found = []
    for info in database():
        names = (info.name, f"{info.name}.{info.variant_test_name}")
        if any(fnmatch.fnmatch(n, p) for n in names for p in patterns):
            found.append(info)
    return found


def samples_of(info: Any, dtype: torch.dtype, reference: bool) -> Iterator[Any]:
    """The sample inputs for a type; none where torch's generator does not know the type."""
    make = info.reference_inputs if reference else info.sample_inputs
    grad = info.supports_autograd and (dtype.is_floating_point or dtype.is_complex) and dtype in info.supported_backward_dtypes("cpu")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = iter(())
        try:
            source = iter(make("cpu", dtype, requires_grad=grad))
            yield from source
        except Exception:
            return


def spread(items: list[Any], limit: int | None) -> list[Any]:
    """At most ``limit`` of the items, evenly over the list."""
    if limit is None or len(items) <= limit:
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def check(
    info: Any, names: tuple[str, ...] = DTYPES, limit: int | None = None, forms: int = 4, reference: bool = False,
    seconds: float = 1e9, second: int = 0,
) -> Report:  # fmt: skip
    """Compare one operator: at most ``limit`` samples for each type, the other forms on ``forms`` of them.

    Second-order gradients on ``second`` of them, where torch has them.
    """
    c = Comparison(info)
    if c.report.missing or c.ours is None:
        return c.report
    end = time.monotonic() + seconds
    for name in names:
        every = list(itertools.islice(samples_of(info, getattr(torch, name), reference), 400))
        samples = spread(every, limit)
        for s in samples:
            if time.monotonic() < end:
                c.sample(s)
        for s in spread(samples, forms):
            if time.monotonic() < end:
                c.forms(s)
        for s in spread(every, second) if info.supports_gradgrad and not c.random else ():
            c.second(s)
    if info.error_inputs_func is not None:
        for case in info.error_inputs("cpu"):
            c.errors(case)
    return c.report


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("names", nargs="*", help="operators, or patterns such as 'special.*'; none: all")
    p.add_argument("--dtypes", default=",".join(DTYPES))
    p.add_argument("--limit", type=int, default=None, help="samples for each type")
    p.add_argument("--forms", type=int, default=4, help="samples on which methods, in-place forms and out= are tried")
    p.add_argument("--second", type=int, default=0, help="samples whose second-order gradients are compared (--dtypes float64)")
    p.add_argument("--shown", type=int, default=4, help="differences printed for each operator and kind")
    p.add_argument("--reference", action="store_true", help="torch's larger set of samples")
    p.add_argument("--summary", action="store_true", help="one line an operator")
    p.add_argument("--seconds", type=float, default=1e9, help="time for each operator")
    a = p.parse_args()
    reports = []
    for info in chosen(a.names or ["*"]):
        report = check(info, tuple(a.dtypes.split(",")), a.limit, a.forms, a.reference, a.seconds, a.second)
        reports.append(report)
        print(report.line(), flush=True)
        if not a.summary:
            report.show(a.shown)
    bad = [r for r in reports if r.missing or r.differences]
    missing = sum(r.missing for r in reports)
    print(f"{len(reports)} operators: {len(reports) - len(bad)} agree, {missing} missing, {len(bad) - missing} differ")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
