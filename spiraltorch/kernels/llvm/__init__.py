"""Kernels as LLVM IR for CPUs, compiled through llvmlite.

The way of the data: :mod:`.math` expands transcendental rows, :mod:`.emit` writes the loops and asks
:mod:`.points` for the values at each point, which spells rows with :mod:`.rows`; :mod:`.target`
turns the text into object code and loads it.
"""
