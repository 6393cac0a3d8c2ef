"""Taking an activation out of what a module gives, putting it back, and telling logits."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from mas_hooks.core.errors import NoLogitsError, NoTensorError
from mas_hooks.hooks.outputs import default_logits, describe_output, put_tensor, take_tensor

Named = namedtuple("Named", "hidden rest")
H, FLAT = torch.randn(2, 3, 4), torch.randn(2, 4)
VALUES = {
    "tensor": H,
    "flat": FLAT,
    "tuple": (H, None, "kept"),
    "flat tuple": (FLAT, 5),
    "list": [H, 1],
    "named": Named(H, 7),
}


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_put_is_the_twin_of_take(name, time_first):
    value = VALUES[name]
    first = value if isinstance(value, torch.Tensor) else value[0]
    h = take_tensor(value, "site", time_first)
    expected = first[:, None] if first.ndim == 2 else first.transpose(0, 1) if time_first else first
    assert torch.equal(h, expected)
    again = put_tensor(value, h + 1, time_first)
    assert type(again) is type(value)
    if first is value:
        assert torch.equal(again, value + 1)
    else:
        assert torch.equal(again[0], first + 1)
        assert tuple(again[1:]) == tuple(value[1:])
    assert torch.equal(take_tensor(again, "site", time_first), h + 1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"hidden": H}, "a dict"),
        (7, "an int"),
        (None, "a NoneType"),
        ((), "a tuple of 0 ()"),
        ((None, H), "a tuple of 2 (NoneType, Tensor)"),
        (torch.zeros(2, 3, dtype=torch.int64), "an int64 tensor of shape (2, 3)"),
        (torch.zeros(3), "a float32 tensor of shape (3,)"),
        (torch.zeros(1, 2, 3, 4), "a float32 tensor of shape (1, 2, 3, 4)"),
        (pack_sequence([torch.zeros(2, 3)]), "a PackedSequence of 4 (Tensor, Tensor, NoneType, NoneType)"),
    ],
)
def test_no_activation(value, told):
    with pytest.raises(NoTensorError) as caught:
        take_tensor(value, "blocks.0")
    assert describe_output(value) == told
    assert str(caught.value) == (
        f"site 'blocks.0' gives {told}, not a floating (batch, position, width) or (batch, width) tensor; "
        "choose a site inside it, listed by hook_points()."
    )


@pytest.mark.parametrize(
    "output",
    [
        H,
        (H, 5),
        [None, H],
        (torch.zeros(2, dtype=torch.int64), H),
        {"scores": H, "steps": 3},
        SimpleNamespace(logits=H, hidden=FLAT),
        (H, (FLAT, FLAT)),
    ],
)
def test_logits_that_can_be_told(output):
    assert default_logits(output) is H


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ((H, FLAT), "a tuple of 2 (Tensor, Tensor)"),
        ({"a": H, "b": FLAT}, "a dict"),
        (7, "an int"),
        (torch.zeros(2, 3, dtype=torch.int64), "an int64 tensor of shape (2, 3)"),
        (nn.GRU(2, 3)(torch.zeros(1, 2, 2)), "a tuple of 2 (Tensor, Tensor)"),
        (SimpleNamespace(logits=None), "a SimpleNamespace"),
    ],
)
def test_logits_that_cannot(output, told):
    with pytest.raises(NoLogitsError) as caught:
        default_logits(output)
    assert str(caught.value) == (
        f"cannot tell which part of {told} holds the logits; pass wrap(model, logits=lambda out: …)."
    )


def test_logits_by_key():
    logits, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 4)
    assert default_logits({"hidden": other, "logits": logits}) is logits
