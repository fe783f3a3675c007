"""The machine that code is made for, and the way from LLVM IR text to callable addresses.

In: LLVM IR text (:mod:`.emit`).  Out: object code as bytes, which may be kept on disk, and the
addresses of its functions once loaded.

    target = host()
    obj = compile_module(emit_kernel(kernel, target, "f"), target)
    address = load_object(obj, ["f"])["f"]

The kernels' text is already vector code, so the only pass is SROA, which turns the emitter's
stack variables into registers; instruction selection does the rest.  LLVM's strength reduction of loops
is left out: it takes a third to a half of the time of compiling and makes these loops no faster.
Modules are independent of each other, so several threads may compile at once.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

_lock = threading.RLock()


@dataclass(frozen=True)
class Target:
    """A CPU: everything that the generated code depends on, so it may be part of a cache's key.

    ``vector_bits`` is the width of the registers the code is written for.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int

    def has(self, feature: str) -> bool:
        """Whether LLVM feature ``feature`` is switched on."""
        return f"+{feature}" in self.features.split(",")

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith(("x86_64", "i686", "amd64"))

    @property
    def has_half(self) -> bool:
        """Whether the CPU converts between float16 and float32."""
        return not self.is_x86 or self.has("f16c") or self.has("avx512f")

    @property
    def attributes(self) -> str:
        """Attributes of every function, so that LLVM uses the registers we write for."""
        bits = self.vector_bits
        return f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}" "no-trapping-math"="true"'


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def host() -> Target:
    """The machine we run on, with its widest registers, or with those that ``ST_INSTRUCTIONS`` names.

    Raises ValueError for instructions that it does not have.
    """
    llvm = _llvm()
    features = llvm.get_host_cpu_features()
    triple = llvm.get_process_triple()
    chosen = os.environ.get("ST_INSTRUCTIONS", "")
    if chosen:
        return _lesser(chosen, triple, features)
    wide = all(features.get(f"avx512{part}") for part in ("f", "bw", "dq", "vl"))
    bits = 512 if wide else 256 if features.get("avx2") and features.get("fma") else 128
    return Target("host", triple, llvm.get_host_cpu_name(), features.flatten(), bits)


_LEVELS = {"avx2": ("avx2", "fma", "f16c", "bmi", "bmi2", "popcnt"), "sse2": ("sse2",)}


def _lesser(name: str, triple: str, has: Mapping[str, bool]) -> Target:
    missing = [f for f in _LEVELS.get(name, ()) if not has.get(f)]
    if name not in _LEVELS or missing:
        why = f"this machine lacks {', '.join(missing)}" if missing else f"there are: {', '.join(_LEVELS)}"
        raise ValueError(f"ST_INSTRUCTIONS={name}: {why}")
    return _level(name, triple)


def _level(name: str, triple: str) -> Target:
    cpu, bits = {"avx2": ("x86-64-v3", 256), "sse2": ("x86-64", 128)}[name]
    return Target(name, triple, cpu, ",".join([f"+{f}" for f in _LEVELS[name]]), bits)


def avx2() -> Target:
    """An x86-64 with AVX2, FMA and F16C (the x86-64-v3 level)."""
    return _level("avx2", host().triple)


def sse2() -> Target:
    """The oldest x86-64: no FMA, no rounding instructions, no float16."""
    return _level("sse2", host().triple)


def neon() -> Target:
    """A 64-bit ARM: code can be made for it on any machine whose LLVM knows ARM, and looked at (:func:`assembly`)."""
    return Target("neon", "aarch64-unknown-linux-gnu", "generic", "+neon", 128)


@cache
def target_machine(target: Target) -> Any:
    """llvmlite's TargetMachine, for use under the lock."""
    with _lock:
        return _new_machine(target)


def _new_machine(target: Target) -> Any:
    """The objects are position independent: JITLink keeps one object's sections together, so the small code model is safe."""
    cpu = _llvm().Target.from_triple(target.triple)
    return cpu.create_target_machine(cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small", jit=True)


_idle: dict[Target, list[Any]] = {}  # machines that no thread is using


@contextmanager
def _own_machine(target: Target) -> Iterator[Any]:
    """A TargetMachine for this thread alone."""
    with _lock:
        idle = _idle.setdefault(target, [])
        machine = idle.pop() if idle else _new_machine(target)
    try:
        yield machine
    finally:
        idle.append(machine)


_SWITCH_KNOWN = range(14, 23)  # LLVM ends the process when it does not know a switch
_without = 0  # threads that compile without strength reduction


@contextmanager
def _no_strength_reduction() -> Iterator[None]:
    """Code is generated without LSR.  The switch is the process', so it is turned back for whoever else uses LLVM."""
    global _without
    llvm = _llvm()
    if llvm.llvm_version_info[0] not in _SWITCH_KNOWN:
        yield
        return
    with _lock:
        if _without == 0:
            llvm.set_option("spiraltorch", "-disable-lsr=true")
        _without += 1
    try:
        yield
    finally:
        with _lock:
            _without -= 1
            if _without == 0:
                llvm.set_option("spiraltorch", "-disable-lsr=false")


@cache
def _generate() -> Any:
    """LLVM's code generator as a C function.  llvmlite's own lets one thread at a time into LLVM."""
    from llvmlite.binding import ffi

    generate = ctypes.CDLL(ffi.lib._name).LLVMPY_TargetMachineEmitToMemory
    generate.restype = ffi.LLVMMemoryBufferRef
    return generate


def _object_code(machine: Any, module: Any) -> bytes:
    """What ``machine.emit_object(module)`` gives, while other threads may be in LLVM with other modules and machines."""
    from llvmlite.binding import ffi

    generate = _generate()
    with ffi.OutputString() as error:
        buffer = generate(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _registers(module: Any, machine: Any) -> None:
    """Stack variables become registers."""
    llvm = _llvm()
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1)))


def compile_module(text: str, target: Target) -> bytes:
    """Object code of an LLVM IR module.  Raises RuntimeError when the text is not valid IR."""
    llvm = _llvm()
    with _own_machine(target) as machine, llvm.parse_assembly(text, llvm.create_context()) as module:
        module.triple = target.triple
        module.verify()
        _registers(module, machine)
        with _no_strength_reduction():
            return _object_code(machine, module)


def optimized(text: str, target: Target) -> str:
    """The module after all of LLVM's passes, loop vectorisation included: for code that was not written in vectors.

    Raises RuntimeError when the text is not valid IR.
    """
    llvm = _llvm()
    machine = target_machine(target)
    with _lock:
        with llvm.parse_assembly(text, llvm.create_context()) as module:
            module.triple = target.triple
            module.verify()
            options = llvm.create_pipeline_tuning_options(speed_level=2)
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
            return str(module)


def assembly(text: str, target: Target) -> str:
    """What :func:`compile_module` makes, as assembly for people."""
    llvm = _llvm()
    with _own_machine(target) as machine, llvm.parse_assembly(text, llvm.create_context()) as module:
        module.triple = target.triple
        _registers(module, machine)
        with _no_strength_reduction():
            return str(machine.emit_assembly(module))


@cache
def _linker() -> Any:
    return _llvm().create_lljit_compiler(target_machine(host()), use_jit_link=True)


_loaded: list[Any] = []  # the code of every object stays for the life of the process
_serial = count()  # a library's name is used up even when linking it fails


def load_object(obj: bytes, names: Sequence[str]) -> dict[str, int]:
    """Load object code made for this machine; the address of each function named.

    Raises RuntimeError when the bytes are no object or lack a name.
    """
    with _lock:
        library = _llvm().JITLibraryBuilder().add_object_img(obj).add_current_process()
        for name in names:
            library.export_symbol(name)
        tracker = library.link(_linker(), f"spiraltorch{next(_serial)}")
        _loaded.append(tracker)
        return {name: tracker[name] for name in names}
