"""Spellings of one kernel tree: LLVM IR, plain Python loops for Numba, Triton, and NumPy as the definition."""
