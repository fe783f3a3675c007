"""value in isin: False instead of True: infinities were not found where nan is among the test elements

Found by ``python -m fuzz``.
"""

from math import inf, nan  # what numbers below may be


def inputs(m):
    v0 = m.tensor([inf, 2.0, nan, -inf], dtype=m.float32)
    v1 = m.tensor([[nan, inf], [1.0, 3.0]], dtype=m.float32)
    return v0, v1,


def program(m, v0, v1):
    v2 = m.isin(v0, v1)
    v3 = m.neg(v0)
    return v2, v3,


if __name__ == "__main__":
    import torch

    import spiraltorch

    for library in (torch, spiraltorch):
        print(library.__name__, *program(library, *inputs(library)), sep="\n")
