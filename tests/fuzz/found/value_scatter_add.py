"""value in scatter_add: 16-bit floats were added as the integers that their bits are

Found by ``python -m fuzz``.
"""

from math import inf, nan  # what numbers below may be


def inputs(m):
    v0 = m.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=m.bfloat16)
    v1 = m.tensor([[0, 1, 2, 0], [2, 0, 0, 1]], dtype=m.int64)
    v2 = m.tensor([[-2.0, -1.25, -0.5, 0.25], [1.0, 1.75, 2.5, 3.25]], dtype=m.bfloat16)
    return v0, v1, v2,


def program(m, v0, v1, v2):
    v3 = m.scatter_add(v0, 0, v1, v2)
    v4 = m.exp(v3)
    return v4,


if __name__ == "__main__":
    import torch

    import spiraltorch

    for library in (torch, spiraltorch):
        print(library.__name__, *program(library, *inputs(library)), sep="\n")
