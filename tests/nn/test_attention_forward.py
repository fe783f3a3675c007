"""multi_head_attention_forward against torch's, in all its forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

F, TF = st.nn.functional, torch.nn.functional
GEN = torch.Generator().manual_seed(4)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GEN, dtype=torch.float64)


L, S, N, E, H = 3, 5, 2, 8, 2
Q, K, V = drawn(L, N, E), drawn(S, N, E), drawn(S, N, E)
IN, IN_BIAS, OUT, OUT_BIAS = drawn(3 * E, E), drawn(3 * E), drawn(E, E), drawn(E)
PADDING = torch.tensor([[False, False, True, False, True], [False] * 5])
MASK = drawn(L, S) > 1
CASES: dict[str, dict[str, Any]] = {
    "plain": {}, "no weights": {"need_weights": False}, "heads": {"average_attn_weights": False},
    "padding": {"key_padding_mask": PADDING}, "float padding": {"key_padding_mask": drawn(N, S), "need_weights": False},
    "mask": {"attn_mask": MASK}, "masks": {"attn_mask": drawn(N * H, L, S), "key_padding_mask": PADDING, "need_weights": False},
    "float mask": {"attn_mask": drawn(L, S), "need_weights": False},
    "causal": {"attn_mask": torch.ones(L, S).triu(1).bool(), "is_causal": True, "need_weights": False},
    "causal weights": {"attn_mask": torch.ones(L, S).triu(1).bool(), "is_causal": True},
    "extra key": {"bias_k": drawn(1, 1, E), "bias_v": drawn(1, 1, E), "key_padding_mask": PADDING, "attn_mask": MASK},
    "zero key": {"add_zero_attn": True, "key_padding_mask": PADDING, "attn_mask": MASK, "need_weights": False},
    "own weights": {"use_separate_proj_weight": True, "q_proj_weight": drawn(E, E), "k_proj_weight": drawn(E, E), "v_proj_weight": drawn(E, E)},
    "static": {"static_k": drawn(N * H, 4, E // H), "static_v": drawn(N * H, 4, E // H)},
}  # fmt: skip


def arguments(m: Any, tensors: list[Any], changed: dict[str, Any]) -> Any:
    names = {"bias_k": None, "bias_v": None, "add_zero_attn": False, **changed}
    q, k, v, w, b, o, c = tensors
    first = (q, k, v, E, H, w, b, names.pop("bias_k"), names.pop("bias_v"), names.pop("add_zero_attn"), 0.3, o, c, False)
    return m.multi_head_attention_forward(*first, **names)


def mine(value: Any) -> Any:
    return ours(value) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("name", CASES)
def test_forms(name: str) -> None:
    leaves = [t.clone().requires_grad_() for t in (Q, K, V, IN, IN_BIAS, OUT, OUT_BIAS)]
    own = [ours(t.detach()).requires_grad_() for t in leaves]
    want = arguments(TF, leaves, CASES[name])
    got = arguments(F, own, {k: mine(v) for k, v in CASES[name].items()})
    close(got[0], want[0], 1e-4, 1e-5)
    assert (got[1] is None) == (want[1] is None)
    if want[1] is not None:
        close(got[1], want[1], 1e-4, 1e-5)
    want[0].square().sum().backward()
    got[0].square().sum().backward()
    for a, b in zip(own, leaves):
        if b.grad is not None:
            close(a.grad, b.grad, 1e-3, 1e-4)


def test_sequences_without_a_batch() -> None:
    x = Q[:, 0]
    want = arguments(TF, [x, x, x, IN, IN_BIAS, OUT, OUT_BIAS], {"key_padding_mask": torch.tensor([False, True, False])})
    own = ours(x)
    got = arguments(F, [own, own, own, *map(ours, (IN, IN_BIAS, OUT, OUT_BIAS))], {"key_padding_mask": st.tensor([False, True, False])})
    for g, w in zip(got, want):
        close(g, w, 1e-4, 1e-5)


def test_refusals() -> None:
    own = [ours(t) for t in (Q, K, V, IN, IN_BIAS, OUT, OUT_BIAS)]
    for error, changed in (
        (RuntimeError, {"is_causal": True}), (RuntimeError, {"attn_mask": st.zeros(L, L, dtype=st.float64)}), (AssertionError, {"attn_mask": st.ones(L, S).int()}),
        (AssertionError, {"key_padding_mask": st.zeros(N)}), (AssertionError, {"bias_k": st.zeros(1, 1, E)}),
        (AssertionError, {"use_separate_proj_weight": True}),
    ):  # fmt: skip
        with pytest.raises(error):
            arguments(F, own, changed)


def test_convolution_over_time_first() -> None:
    x, w, b = drawn(7, 2, 3), drawn(2, 3, 4), drawn(4)
    close(F.conv_tbc(ours(x), ours(w), ours(b), 1), TF.conv_tbc(x, w, b, 1), 1e-4, 1e-5)
    with pytest.raises(RuntimeError):
        F.conv_tbc(ours(x[0]), ours(w), ours(b))
