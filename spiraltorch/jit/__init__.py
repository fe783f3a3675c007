"""From graph to program, in passes that can be read aloud:

canonical (eager.py)  leaves become numbered inputs, the structure becomes a key
simplify  (rules.py)  rewrite to fewer, plainer nodes; split large reductions
stages    (stages.py) which values get a loop nest of their own
walk      (walk.py)   what each of them reads, where
fuse      (fuse.py)   stages that walk the same rows share a kernel; every refusal has a sentence
lower     (lower.py)  groups become Kernel and Gemm trees with run-time sizes
plan      (plan.py)   order, in-place, arena, launches over many argument rows
program   (program.py) native code for the kernels; one call runs the whole plan
"""
