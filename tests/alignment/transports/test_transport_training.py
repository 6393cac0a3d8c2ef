"""How every transport trains, keeps its precision, is stored, and refuses rows of another width."""

import pytest
import torch
from transport_cases import SPECS, every, made, widths

from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import ShapeError


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


@every
@widths
def test_every_parameter_has_a_finite_gradient_from_every_start(spec, width_s, width_t, generator):
    for init in ("random", "identity") if width_s == width_t else ("random",):
        full = TransportSpec(**spec, init=init)
        one = full.make(width_s, width_t, "x")
        one.start(full.draw_start(width_s, width_t, generator))
        h = torch.randn(9, width_s, generator=generator)
        goal = torch.randn(9, width_t, generator=generator)
        (one.view()(h) - goal).square().sum().backward()
        for name, parameter in one.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            blind = min(width_s, width_t) == 1  # one unit has no rotation, and its norm is a constant
            assert blind or parameter.grad.abs().max() > 1e-3, name


@every
def test_every_transport_learns(spec, generator):
    truth = made(spec, 6, 6, generator)
    one = TransportSpec(**spec).make(6, 6, "x")
    if "rank" in spec:
        one.start(torch.randn(6, 6, generator=generator))
    if spec.get("kind") == "orthogonal":
        start = truth.view().steps[0].detach().clone()
        skew = torch.randn(6, 6, generator=generator).tril(-1)
        one.start(start @ torch.linalg.matrix_exp(0.4 * (skew - skew.T)))  # of the same determinant
    h = torch.randn(300, 6, generator=generator)
    goal = truth(h).detach()
    optimizer = torch.optim.Adam(one.parameters(), lr=3e-2)
    losses = []
    for _ in range(400):
        optimizer.zero_grad()
        loss = (one.view()(h) - goal).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-2 * losses[0]


@every
def test_results_are_float32_and_the_same_under_autocast_and_in_a_low_default_dtype(spec, generator):
    one = made(spec | {"zscore": True}, 6, 4, generator)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    one.to(torch.bfloat16)
    assert {tensor.dtype for tensor in one.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())
    h = torch.randn(5, 6, generator=generator).bfloat16()
    expected = one(h)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        found, viewed = one(h), one.view()(h)
    assert torch.equal(found, expected)
    assert torch.equal(viewed, expected)
    torch.set_default_dtype(torch.bfloat16)
    try:
        low = TransportSpec(**spec, zscore=True).make(6, 4, "x")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in low.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("spec", [*SPECS, {"kind": "identity"}], ids=str)
def test_transports_widen_and_follow_the_device(spec, generator):
    one = made(spec, 6, 6, generator)
    assert {tensor.dtype for tensor in one.double().state_dict().values()} == {torch.float64}
    assert one(torch.ones(2, 6)).dtype == torch.float64
    moved = one.float().to("meta", torch.bfloat16)
    assert {(t.device.type, t.dtype) for t in moved.state_dict().values()} == {("meta", torch.float32)}


@every
def test_training_is_the_same_each_time_whatever_the_global_generator(spec, generator):
    h, goal = torch.randn(20, 6, generator=generator), torch.randn(20, 4, generator=generator)
    ends = []
    for seed in range(2):
        torch.manual_seed(seed)
        full = TransportSpec(**spec)
        one = full.make(6, 4, "x")
        one.start(full.draw_start(6, 4, torch.Generator().manual_seed(3)))
        optimizer = torch.optim.Adam(one.parameters(), lr=1e-1)
        for _ in range(5):
            optimizer.zero_grad()
            (one.view()(h) - goal).square().sum().backward()
            optimizer.step()
        ends.append(one(h))
    assert torch.equal(*ends)


@every
def test_a_state_dict_brings_back_the_same_transport(spec, generator):
    one, other = (made(spec | {"zscore": True}, 6, 4, generator) for _ in range(2))
    h = torch.randn(5, 6, generator=generator)
    assert not torch.allclose(one(h), other(h), atol=0.1)
    other.load_state_dict(one.state_dict())
    assert torch.allclose(one(h), other(h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", [*SPECS, {"kind": "identity"}], ids=str)
def test_rows_of_another_width_are_refused(spec):
    view = TransportSpec(**spec).make(6, 6, "x").view()
    with pytest.raises(ShapeError, match=r"^an activation has shape \(2, 5\), but \(n, 6\) is needed\.$"):
        view(torch.zeros(2, 5))
    if "layer_norm" not in spec:
        with pytest.raises(ShapeError, match=r"has shape \(2, 3, 6\)"):
            view.backward(torch.zeros(2, 3, 6))


@every
def test_no_rows_are_no_rows(spec):
    assert TransportSpec(**spec).make(6, 4, "x")(torch.zeros(0, 6)).shape == (0, 4)


def test_an_orthogonal_matrix_is_built_once_a_view(generator, monkeypatch):
    one = made({"kind": "orthogonal"}, 6, 6, generator)
    calls = []
    real = torch.linalg.matrix_exp
    monkeypatch.setattr(torch, "matrix_exp", lambda *a: calls.append(1) or real(*a))
    view = one.view()
    built = len(calls)
    for _ in range(3):
        view.backward(view(torch.ones(2, 6)))
    assert built == len(calls) == 1
