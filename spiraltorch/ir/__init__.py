"""The language: interned typed nodes, a closed set of operations, and the kernel tree.

Import the modules by name; this package has no state of its own.
"""
