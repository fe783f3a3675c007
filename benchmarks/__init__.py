"""Benchmarks against torch and JAX: ``python -m benchmarks`` (``make bench``).

registry.py   what a workload and a framework are
pointwise.py rows.py reductions.py matrix.py training.py   the workloads, one small function per framework
worker.py     one workload in one framework, in a process of its own
runner.py     starts workers, lets them measure in turns
report.py     tables, ``results/*.json`` and ``docs/performance.md``
"""
