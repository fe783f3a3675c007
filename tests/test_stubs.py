"""The type stubs are the records', and a user's script is checked by them."""

from __future__ import annotations

from pathlib import Path

import mypy.api
import pytest

from tests.test_docs import generator

USER = """
import spiraltorch as st
from spiraltorch.nn import functional as F

x = st.randn(4, 3, requires_grad=True)
y: st.Tensor = x.softmax(-1).add(1.0).reshape(2, 6).transpose(0, 1)
z: st.Tensor = st.where(x > 0, x, 0.0).sum(dim=0, keepdim=True)
p: st.Tensor = st.relu(x).square() + x[0] * 2
q: st.Tensor = F.cross_entropy(x, st.tensor([0, 1, 2, 0]))
values, places = x.max(1)
halves: tuple[st.Tensor, ...] = x.split(2)
q.backward()
print(y.shape, z.tolist(), values, places, halves, p, st.linalg.norm(x), st.fft.fft(x))


class Block(st.nn.Module):
    def __init__(self, width: int, kind: st.dtype = st.float32) -> None:
        super().__init__()
        self.layer, self.norm = st.nn.Linear(width, width, dtype=kind), st.nn.LayerNorm(width)
        self.scale = st.nn.Parameter(st.ones(width))

    def forward(self, x: st.Tensor) -> st.Tensor:
        h: st.Tensor = self.norm(self.layer(x))
        return F.relu(h) * self.scale + st.where(x == 0, 1.0, x)


def trained(model: st.nn.Module, data: st.Tensor, target: st.Tensor) -> float:
    opt = st.optim.AdamW(model.parameters(), lr=1e-3)

    @st.compile
    def step(a: st.Tensor) -> st.Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(a), target)
        loss.backward()
        opt.step()
        return loss

    first = step(data).item()
    with st.no_grad():
        return float(first) + float((st.zeros_like(data) != st.zeros(4, 3)).sum())


def moved(x: st.Tensor, where: st.device, size: st.Size) -> st.Tensor:
    x[0, 1:] = 0.5
    x *= 2
    return x[:, None].to(where).clamp(min=0).exp_().reshape(size).to(st.bool)


print(trained(st.nn.Sequential(Block(3), st.nn.Tanh()), x.detach(), x.detach()), moved(x.detach(), st.device("cpu"), st.Size((4, 1, 3))))
"""
WRONG = """
import spiraltorch as st
from spiraltorch.nn import functional as F

st.randn(2).softmax("1")
st.rellu(st.randn(2))
F.gelu()
count: int = st.randn(2).sum()
"""


def test_stubs_are_fresh() -> None:
    stubs = generator().stubs
    for path, text in stubs.generated().items():
        assert (stubs.PACKAGE / path).read_text(encoding="utf-8") == text, f"{path} is stale: run python docs/generate.py"


@pytest.mark.parametrize("name", ["softmax", "unique", "add_", "view", "T", "to", "index_put_"])
def test_methods_are_there(name: str) -> None:
    stubs = generator().stubs
    own = (stubs.PACKAGE / "tensor.py").read_text(encoding="utf-8")
    assert f"def {name}(self" in stubs.methods() + own


def test_a_users_script_is_checked(tmp_path: Path) -> None:
    for name, text in (("right", USER), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", str(tmp_path / "cache"), "--ignore-missing-imports"]
    said, _, status = mypy.api.run([*options, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")])
    lines = [line for line in said.splitlines() if ": error:" in line]
    assert status == 1 and all("wrong.py" in line for line in lines), said
    assert [int(line.partition(".py:")[2].partition(":")[0]) for line in lines] == [5, 6, 7, 8], said
