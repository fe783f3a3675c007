"""The matrix product's code for other instruction sets: its inner loops are looked at, and run where this machine can."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import llvmlite.binding
import pytest

from spiraltorch.dtypes import DType, float32, float64
from spiraltorch.kernels.llvm import gemm_core, target

HOST = target.host()
X86 = pytest.mark.skipif(not HOST.is_x86, reason="an x86 machine is needed to make and run x86 code")


def inner_loop(text: str, function: str) -> list[str]:
    """The instructions of the first loop of a function: from the last label before the first jump back to it, to the jump."""
    lines = [line.split("#")[0].strip() for line in text[text.index(f"\n{function}:\n") :].splitlines()]
    seen: dict[str, int] = {}
    for k, line in enumerate(lines):
        if line.startswith(".L") and line.endswith(":"):
            seen[line[:-1]] = k
        words = line.split()
        if len(words) > 1 and words[0].startswith(("j", "b")) and words[-1] in seen:
            return [x for x in lines[seen[words[-1]] + 1 : k + 1] if x]
    raise AssertionError(f"{function} has no loop")


def tile(machine: target.Target, dtype: DType) -> tuple[gemm_core.Shape, list[str], str]:
    """The shape of the largest micro-kernel, its loop, and the whole assembly."""
    text = target.assembly(gemm_core.core_text(machine, dtype), machine)
    shape = gemm_core.shape_of(machine, dtype)
    return shape, inner_loop(text, f"micro_{shape.rows}x{shape.vectors}"), text


@X86
@pytest.mark.parametrize("dtype,suffix", [(float32, "ps"), (float64, "pd")])
def test_avx2_keeps_a_tile_in_sixteen_registers(dtype: DType, suffix: str) -> None:
    shape, loop, text = tile(target.avx2(), dtype)
    fmas = [x for x in loop if re.match(rf"vfmadd\d+{suffix}\b.*%ymm", x)]
    assert len(fmas) == shape.rows * shape.vectors == 12
    assert "%zmm" not in text and "%ymm16" not in text and "%k1" not in text
    assert not [x for x in loop if "(%rsp" in x or "(%rbp" in x]
    assert len(loop) <= 12 + 6 + 2 + 5  # products, loads of A and B, counting


@X86
@pytest.mark.parametrize("dtype", [float32, float64])
def test_avx512_keeps_a_tile_in_registers(dtype: DType) -> None:
    level = "+avx512f,+avx512bw,+avx512dq,+avx512vl,+fma,+avx2,+f16c"
    shape, loop, _ = tile(target.Target("avx512", HOST.triple, "x86-64-v4", level, 512), dtype)
    assert len([x for x in loop if x.startswith("vfmadd") and "%zmm" in x]) == shape.rows * shape.vectors == 28
    assert not [x for x in loop if "(%rsp" in x or "(%rbp" in x]


@pytest.mark.parametrize("dtype,lanes", [(float32, "4s"), (float64, "2d")])
def test_neon_keeps_a_tile_in_registers(dtype: DType, lanes: str) -> None:
    llvmlite.binding.initialize_all_targets()
    llvmlite.binding.initialize_all_asmprinters()
    shape, loop, _ = tile(target.neon(), dtype)
    assert len([x for x in loop if x.startswith("fmla") and f".{lanes}" in x]) == shape.rows * shape.vectors == 24
    moves = [x for x in loop if x.startswith(("mov\tv", "mov v")) or "[sp" in x]
    assert not moves, f"sums are moved or spilt: {moves}"


PROGRAM = """
import numpy as np
import spiraltorch as st
from spiraltorch.kernels.llvm.target import host
from spiraltorch.runtime import tuning

assert host().name == "avx2" and host().vector_bits == 256 and tuning.machine().startswith("avx2 ")
rng = np.random.default_rng(0)
for m, n, k in ((1, 1, 1), (1, 70, 800), (7, 33, 5), (6, 16, 64), (13, 65, 129), (150, 300, 790), (3, 500, 64)):
    for dtype, unit in ((np.float32, 2.0**-24), (np.float64, 2.0**-53)):
        a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (n,)))
        got = (st.tensor(a) @ st.tensor(b) + st.tensor(c)).numpy()
        turned = (st.tensor(np.ascontiguousarray(a.T)).t() @ st.tensor(np.ascontiguousarray(b.T)).t()).numpy()
        want, scale = a.astype(float) @ b.astype(float), np.abs(a).astype(float) @ np.abs(b)
        assert (np.abs(got - want - c) <= (k + 4) * unit * (scale + np.abs(c))).all(), (m, n, k, dtype)
        assert (np.abs(turned - want) <= (k + 4) * unit * scale).all(), (m, n, k, dtype)
print("right")
"""


@pytest.mark.skipif(not HOST.is_x86 or HOST.vector_bits < 256, reason="a machine with AVX2 is needed to run its code")
def test_products_with_avx2_alone() -> None:
    """A process whose code is made for AVX2, all of it, against float64."""
    environment = {**os.environ, "ST_INSTRUCTIONS": "avx2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


@pytest.mark.parametrize("name,reason", [("avx3", "there are: avx2, sse2"), ("avx2", "this machine lacks fma")])
def test_instructions_that_are_not_there(name: str, reason: str) -> None:
    lesser: Callable[..., target.Target] = target._lesser
    has = dict.fromkeys(("avx2", "f16c", "bmi", "bmi2", "popcnt"), True)
    with pytest.raises(ValueError, match=reason):
        lesser(name, "x86_64-unknown-linux-gnu", has)
