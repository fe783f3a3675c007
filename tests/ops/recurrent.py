"""One direction of a recurrent layer, step by step in torch: the oracle for the record ``recurrent_layer``.

``layer(kind, reverse, input_gates, weight_hh, hx, ...)`` gives what the record gives: ``work``, outputs, final states.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
LANES = 16


def _cell(kind: str, x: torch.Tensor, g: torch.Tensor, h: torch.Tensor, c: Any) -> tuple[Any, ...]:
    """(h, c, what is kept for backward)."""
    if kind == "lstm":
        i, f, n, o = (x + g).chunk(4, 1)
        kept = [i.sigmoid(), f.sigmoid(), n.tanh(), o.sigmoid()]
        c = kept[1] * c + kept[0] * kept[2]
        return kept[3] * c.tanh(), c, kept
    if kind == "gru":
        xs, gs = x.chunk(3, 1), g.chunk(3, 1)
        r, z = (xs[0] + gs[0]).sigmoid(), (xs[1] + gs[1]).sigmoid()
        n = (xs[2] + r * gs[2]).tanh()
        return (1 - z) * n + z * h, None, [r, z, gs[2], n]
    h = torch.tanh(x + g) if kind == "tanh" else torch.relu(x + g)
    return h, None, [h]


def layer(
    kind: str, reverse: bool, x: torch.Tensor, w: torch.Tensor, h: torch.Tensor, c: Any = None, bias: Any = None,
    offsets: Any = None, project: Any = None,
) -> list[torch.Tensor]:  # fmt: skip
    units, batch = w.shape[0] // GATES[kind], h.shape[0]
    narrow = x.dtype
    x, w, h, c, bias, project = (t if t is None or narrow == torch.float64 else t.float() for t in (x, w, h, c, bias, project))
    more = 0 if project is not None else -units % LANES

    def padded(t: torch.Tensor) -> torch.Tensor:
        return F.pad(t.unflatten(-1, (-1, units)), (0, more)).flatten(-2)

    x, h0 = padded(x), h if project is not None else padded(h)
    w = padded(w.T).T if project is not None else padded(padded(w).T).T
    b = 0 if bias is None else padded(bias)
    state, memory = h0, None if c is None else padded(c)
    starts = list(range(0, len(x) + 1, batch)) if offsets is None else offsets.tolist()
    steps: list[Any] = [None] * (len(starts) - 1)
    for t in reversed(range(len(steps))) if reverse else range(len(steps)):
        n = starts[t + 1] - starts[t]
        before = None if memory is None else memory[:n]
        new, new_c, kept = _cell(kind, x[starts[t] : starts[t + 1]], state[:n] @ w.T + b, state[:n], before)
        new = new if project is None else new @ project.T
        steps[t] = (new, torch.cat(kept, 1), state[:n], *([] if before is None else [before]))
        state = torch.cat((new, state[n:]))
        memory = None if memory is None else torch.cat((new_c, memory[n:]))
    out, *saved = [torch.cat(parts) for parts in zip(*steps)]
    last = [state] if memory is None else [state, memory]
    work = torch.cat([t.reshape(-1) for t in (out, *last, *saved)]).detach() if project is None else x.new_zeros(0)
    return [work, *[t[:, : h.shape[1] if i < 2 else units].to(narrow) for i, t in enumerate((out, *last))]]
