"""gradient in smooth_l1_loss: nan where a distance is infinite

Found by ``python -m fuzz``.
"""

from math import inf, nan  # what numbers below may be


def inputs(m):
    v0 = m.tensor([inf, -inf, 1.0, 0.25], dtype=m.float32)
    v1 = m.tensor([0.0, 1.0, -inf, 0.0], dtype=m.float32)
    return v0, v1,


def program(m, v0, v1):
    v2 = m.nn.functional.smooth_l1_loss(v0, v1, reduction='none')
    v3 = m.reciprocal(v2)
    return v2, v3,


if __name__ == "__main__":
    import torch

    import spiraltorch

    for library in (torch, spiraltorch):
        print(library.__name__, *program(library, *inputs(library)), sep="\n")
