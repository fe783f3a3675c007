"""The Triton spelling: interpreted on host memory, and compiled for GPUs that are not here."""

import re
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import (
    binary_kernel,
    case_id,
    column_sum,
    edge_pairs,
    gather,
    gemm,
    halves,
    in_place,
    layer_norm,
    multi,
    padded,
    pointwise,
    small_cases,
    softmax,
    total,
)
from ml_dtypes import bfloat16

from spiraltorch import dtypes as dt
from spiraltorch.ir import node
from spiraltorch.ir.kernel import Access, Kernel, Load, Param, Phase, Slot, Store
from spiraltorch.kernels import reference
from spiraltorch.kernels import triton as spelling
from spiraltorch.kernels.triton import GemmTile, Tile, compiler, launcher
from spiraltorch.kernels.triton.module import needs_wide


def interpreted(case, tile=None):
    arrays = case.copies()
    spelling.interpret(case.kernel, arrays, case.ints, case.scalars, tile)
    case.check(arrays)
    return arrays


@pytest.mark.parametrize("case", small_cases(), ids=case_id)
def test_interpreted(case):
    interpreted(case)


RNG = np.random.default_rng(7)
TILES = [
    (softmax(RNG, 5, 19), Tile(1, 16)),
    (softmax(RNG, 5, 19), Tile(2, 16)),
    (softmax(RNG, 5, 19), Tile(4, 32, one_block=True)),
    (softmax(RNG, 5, 32), Tile(1, 16, wide=True)),
    (layer_norm(RNG, 5, 21), Tile(2, 32, one_block=True)),
    (layer_norm(RNG, 4, 21), Tile(2, 8)),
    (column_sum(RNG, 2, 9, 37), Tile(4, 16)),
    (column_sum(RNG, 2, 9, 37), Tile(2, 64, wide=True)),
    (pointwise(RNG, 5, 37), Tile(2, 16)),
    (pointwise(RNG, 5, 37), Tile(1, 8, wide=True)),
    (padded(RNG, 4, 11), Tile(2, 8)),
    (gather(RNG, 6, 21, True), Tile(2, 8)),
    (halves(RNG, 100), Tile(1, 32)),
    (multi(RNG, 3, 4, 21), Tile(1, 8)),
    (multi(RNG, 3, 4, 21), Tile(2, 32, one_block=True)),
    (total(RNG, 100), Tile(1, 32)),
    (gemm(RNG, np.float32, np.float32, 2, 37, 21, 70), GemmTile(16, 16, 32, group=2)),
    (gemm(RNG, bfloat16, np.float32, 2, 20, 37, 16), GemmTile(32, 16, 16, wide=True)),
]


@pytest.mark.parametrize("case,tile", TILES, ids=[f"{c.name}-{t.rows}x{t.lanes}" for c, t in TILES])
def test_interpreted_in_other_tiles(case, tile):
    interpreted(case, tile)


def test_tiles_agree_with_the_reference_bit_for_bit_where_rows_are_exact():
    case = pointwise(np.random.default_rng(3), 7, 45)
    want = case.copies()
    reference.run_kernel(case.kernel, want, case.ints, case.scalars)
    for tile in (Tile(1, 16), Tile(4, 16), Tile(1, 64)):
        got = interpreted(case, tile)
        np.testing.assert_array_equal(got[2].view(np.int32), want[2].view(np.int32))


@pytest.mark.parametrize("op", ["IDIV", "REM", "SHL", "SHR", "MIN", "LT", "MULHI", "SUB", "MUL"])
@pytest.mark.parametrize("dtype", [dt.int8, dt.int64, dt.uint64, dt.uint8], ids=lambda d: d.name)
def test_integer_edges(op, dtype):
    if op == "MULHI" and dtype.is_signed:
        op = "MAX"
    a, b = edge_pairs(op, dtype)
    k = binary_kernel(op, dtype)
    outs = [np.zeros(a.size, k.params[2].dtype.np) for _ in range(2)]
    reference.run_kernel(k, [a, b, outs[0]], [a.size])
    spelling.interpret(k, [a, b, outs[1]], [a.size], tile=Tile(1, 256))
    np.testing.assert_array_equal(*outs)


def test_bool_rows():
    a, b = np.array([False, False, True, True]), np.array([False, True, False, True])
    for op in ("AND", "OR", "XOR", "MIN", "MAX", "EQ", "NE", "LT", "LE"):
        k = binary_kernel(op, dt.bool_)
        outs = [np.zeros(4, bool) for _ in range(2)]
        reference.run_kernel(k, [a, b, outs[0]], [4])
        spelling.interpret(k, [a, b, outs[1]], [4], tile=Tile(1, 4))
        np.testing.assert_array_equal(*outs, err_msg=op)


def test_bfloat16_rounds_to_nearest_even():
    at = Access(0, ((0, 1),))
    value = node.cast(node.make("LOAD", (), Load(0, at), (), dt.float32), dt.bfloat16)
    params = (Param(dt.float32), Param(dt.bfloat16, "out"))
    k = Kernel((Slot(0),), 1, "row", 8, params, (), 1, (Phase((), (), (Store(1, at, value),)),))
    x = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    x[:3] = [np.nan, np.inf, 1.00390625]
    out = np.zeros(4096, bfloat16)
    spelling.interpret(k, [x, out], [4096], tile=Tile(1, 4096))
    np.testing.assert_array_equal(out.astype(np.float32), x.astype(bfloat16).astype(np.float32))


def test_the_text_of_softmax():
    k = softmax(RNG, 2, 3).kernel
    assert (
        spelling.source(k, Tile(1, 1024, one_block=True), "softmax")
        == """\
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _max(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def softmax(x, out, rows, cols, x_row_stride, R: tl.constexpr, L: tl.constexpr):
    lanes = tl.arange(0, L)
    row = tl.program_id(0)
    # phase 1: r0 = max of v0 over col
    col = lanes
    inside = col < cols
    v0 = tl.load(x + row * x_row_stride + col, mask=inside)
    r0 = tl.reduce(tl.where(inside, v0, float("-inf")), 0, _max)
    # phase 2: r1 = sum of v3 over col
    v2 = v0 - r0
    v3 = libdevice.exp(v2)
    r1 = tl.reduce(tl.where(inside, v3, 0.0), 0, _add)
    # phase 3: write out over col
    v5 = tl.div_rn(v3, r1)
    tl.store(out + row * x_row_stride + col, v5, mask=inside)
"""
    )


# ---------------------------------------------------------------- machine code


def memory_instructions(binary):
    """Every global load and store: PTX or GCN opcodes."""
    if "ptx" in binary.asm:
        return set(re.findall(r"(?:ld|st)\.global\S*", binary.asm["ptx"]))
    return set(re.findall(r"(?:global|buffer)_(?:load|store)_\w+", binary.asm["amdgcn"]))


WIDE = {
    "cuda:90": {"ld.global.v4.b32", "st.global.v4.b32"},
    "hip:gfx942": {"buffer_load_dwordx4", "buffer_store_dwordx4"},
}


@pytest.mark.parametrize("target", sorted(WIDE))
@pytest.mark.parametrize(
    "case,tile",
    [
        (pointwise(RNG, 2, 3), Tile(1, 1024)),
        (softmax(RNG, 2, 3), Tile(1, 1024, one_block=True)),
        (softmax(RNG, 2, 3), Tile(1, 2048, warps=8)),
        (softmax(RNG, 2, 3), Tile(4, 256, one_block=True)),
        (padded(RNG, 2, 3), Tile(1, 1024)),
    ],
    ids=lambda v: v.name if hasattr(v, "name") else f"{v.rows}x{v.lanes}",
)
def test_aligned_kernels_move_128_bits_and_nothing_less(case, tile, target):
    assert memory_instructions(spelling.compile(case.kernel, target, tile)) == WIDE[target]


def plain_kernel():
    """out[i] = x[i] * y[i] - x[i], so that a fused multiply-subtract would be possible."""
    at = Access(0, ((0, 1),))
    x, y = (node.make("LOAD", (), Load(i, at), (), dt.float32) for i in range(2))
    value = node.scalar("SUB", node.scalar("MUL", x, y), x)
    params = (Param(dt.float32), Param(dt.float32), Param(dt.float32, "out"))
    return Kernel((Slot(0),), 1, "row", 64, params, (), 1, (Phase((), (), (Store(2, at, value),)),))


@pytest.mark.parametrize("target", sorted(WIDE))
def test_any_length_has_a_wide_main_path(target):
    pointers_only = (16, 16, 16, 1)
    assert WIDE[target] <= memory_instructions(spelling.compile(plain_kernel(), target, Tile(1, 1024), pointers_only))
    scalar_only = memory_instructions(spelling.compile(plain_kernel(), target, Tile(1, 1024), (1, 1, 1, 1)))
    assert not WIDE["cuda:90"] & scalar_only


def test_rows_round_one_by_one():
    ptx = spelling.compile(plain_kernel(), "cuda:90", Tile(1, 1024)).asm["ptx"]
    assert "mul.rn.f32" in ptx and "sub.rn.f32" in ptx and "fma" not in ptx
    gcn = spelling.compile(plain_kernel(), "hip:gfx942", Tile(1, 1024)).asm["amdgcn"]
    assert re.search(r"v_(pk_)?mul_f32", gcn) and not re.search(r"v_(pk_)?(fma|mac|fmac)\w*_f32", gcn)
    ptx = spelling.compile(softmax(RNG, 2, 3).kernel, "cuda:90", Tile(1, 1024, True)).asm["ptx"]
    assert "div.rn.f32" in ptx and "max.NaN.f32" in ptx
    assert "sqrt.rn.f32" in spelling.compile(layer_norm(RNG, 2, 3).kernel, "cuda:90", Tile(1, 1024, True)).asm["ptx"]


@pytest.mark.parametrize("target", sorted(WIDE))
def test_matrix_products_use_the_matrix_units(target):
    case = gemm(RNG, bfloat16, np.float32, 1, 2, 2, 2)
    binary = spelling.compile(case.kernel, target, GemmTile())
    if target == "cuda:90":
        assert "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16" in binary.asm["ptx"]
        assert "cp.async.cg" in binary.asm["ptx"]
    else:
        assert "v_mfma_f32" in binary.asm["amdgcn"]
        assert set(re.findall(r"spill_count:\s+(\d+)", binary.asm["amdgcn"])) == {"0"}


def test_float32_products_are_ieee_unless_asked():
    case = gemm(RNG, np.float32, np.float32, 1, 2, 2, 2)
    tile = GemmTile(64, 64, 32, warps=4)
    assert "tf32" not in spelling.compile(case.kernel, "cuda:90", tile).asm["ptx"]
    assert "tf32" in spelling.compile(case.kernel, "cuda:90", replace(tile, precision="tf32")).asm["ptx"]


@pytest.mark.parametrize("name", ["gather", "integers", "column_sum", "multi", "gemm_float64", "gemm_int32", "total"])
def test_the_rest_compiles_for_both(name):
    case = next(c for c in small_cases() if c.name == name)
    for target in WIDE:
        binary = spelling.compile(case.kernel, target, spelling.plan(case.kernel, case.ints))
        assert memory_instructions(binary)


def test_64_bit_indices():
    binary = spelling.compile(plain_kernel(), "cuda:90", Tile(1, 1024, wide=True))
    assert ".param .u64 " in binary.asm["ptx"] and WIDE["cuda:90"] <= memory_instructions(binary)


def test_binaries_are_cached_by_alignment():
    k = plain_kernel()
    assert spelling.compile(k) is spelling.compile(plain_kernel())
    assert spelling.compile(k, aligned=(16, 16, 16, 8)) is not spelling.compile(k)
    assert compiler.alignment([0, 48, 24, 7]) == (16, 16, 8, 1)


def test_interpreting_leaves_the_compiler_alone():
    case = in_place(np.random.default_rng(0), 50)
    for length in (128, 256):
        interpreted(case, Tile(1, length))
        assert spelling.compile(case.kernel, "cuda:80", Tile(1, length)).asm["ptx"]


def test_unknown_targets_are_named():
    with pytest.raises(ValueError, match=r"no such target: 'metal:3'"):
        spelling.compile(plain_kernel(), "metal:3")
    with pytest.raises(ValueError, match="2 or more tile rows"):
        spelling.source(column_sum(RNG, 1, 2, 3).kernel, Tile(1, 128))
    with pytest.raises(ValueError, match="one tile row"):
        spelling.source(total(RNG, 3).kernel, Tile(2, 128))
    k = multi(RNG, 2, 2, 2).kernel
    with pytest.raises(ValueError, match="last of one phase and not of another"):
        spelling.source(replace(k, phases=(*k.phases, Phase((1,)))), Tile(1, 128))


# ---------------------------------------------------------------- plans and launches


def test_plans_fit_their_sizes():
    k = softmax(RNG, 2, 3).kernel
    assert spelling.plan(k, [4096, 1000, 1000]) == Tile(1, 1024, True, False, 4)
    assert spelling.plan(k, [4096, 100, 100]) == Tile(8, 128, True, False, 4)
    assert not spelling.plan(k, [8, 50000, 50000]).one_block
    assert spelling.plan(pointwise(RNG, 2, 3).kernel, [10, 30, 30]) == Tile(32, 32, False, False, 4)
    assert spelling.plan(total(RNG, 3).kernel, [7]).rows == 1
    assert (
        spelling.plan(gemm(RNG, bfloat16, np.float32, 1, 2, 2, 2).kernel, [1, 2, 8192, 512, 512, 0, 8192, 0]).rows == 16
    )


def test_offsets_beyond_32_bits_are_seen():
    k = softmax(RNG, 2, 3).kernel
    assert not needs_wide(k, [1 << 10, 1 << 10, 1 << 10])
    assert needs_wide(k, [1 << 16, 1 << 14, 1 << 14])  # 4 GiB
    assert needs_wide(k, [1 << 4, 8, 1 << 32])
    g = next(c for c in small_cases() if c.name == "gemm_table").kernel
    assert needs_wide(g, [1, 6, 5, 7, 0, 0, 5, 0])
    assert not needs_wide(gemm(RNG, np.float32, np.float32, 1, 2, 2, 2).kernel, [1, 64, 64, 64, 64, 64, 64, 64])


class FakeBinary:
    """Stands where a loaded kernel would."""

    function, packed_metadata = "function", "metadata"

    def __init__(self):
        self.calls = []

    def run(self, *arguments):
        self.calls.append(arguments)


def test_a_launch_passes_addresses_numbers_and_blocks(monkeypatch):
    binary, built = FakeBinary(), []

    def build(*arguments):
        built.append(arguments)
        return binary

    monkeypatch.setattr(launcher, "compile", build)
    monkeypatch.setattr(launcher, "device_target", lambda device: f"cuda:{90 + device}")
    monkeypatch.setattr(launcher, "_ready", {})
    case = pointwise(RNG, 2, 3)
    for stream in (5, 6):
        launcher.launch(case.kernel, [256, 264, 512], [100, 3000, 3000], [np.float32(0.5)], device=1, stream=stream)
    launcher.launch(case.kernel, [256, 256, 512], [100, 3000, 3000], [np.float32(0.5)], device=1, stream=7)
    launcher.launch(case.kernel, [256, 264, 512], [0, 3000, 3000], [np.float32(0.5)], device=1, stream=8)
    tile = Tile(1, 1024)
    assert [b[1:] for b in built][:2] == [
        ("cuda:91", tile, (16, 8, 16, 1, 8, 8), 1),
        ("cuda:91", tile, (16, 16, 16, 1, 8, 8), 1),
    ]
    head = (300, 1, 1, 5, "function", "metadata", None, None, None)
    assert binary.calls[0] == (*head, 256, 264, 512, 100, 3000, 3000, 0.5, 1, 1024)
    assert [call[3] for call in binary.calls] == [5, 6, 7]
