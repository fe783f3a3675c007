"""Kernels as LLVM IR for CPUs, compiled through llvmlite.

The way of the data: :mod:`.math` expands transcendental rows, :mod:`.writer` (and :mod:`.tiles`, for
transposed operands) writes the loops and asks :mod:`.points` for the values at each point, which
spells rows with :mod:`.rows`; :mod:`.emit` collects functions in a module, and :mod:`.target` turns
its text into object code and loads it.
"""
