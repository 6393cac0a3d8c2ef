"""Recurrent modules and calls of them whose state is no site, each refused with the way around it."""

import pytest
import torch
from torch import nn

from mas_hooks.core.errors import NoTensorError, ShapeError, UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.wrap import wrap


def test_refused_by_name():
    def refused(module, name="state"):
        with pytest.raises(UnsupportedError) as caught:
            wrap(module).at(name)
        return str(caught.value)

    assert refused(nn.LSTM(2, 3, bidirectional=True)) == (
        "the state of a bidirectional LSTM is not supported; hook its input or output by path instead."
    )
    assert refused(nn.Sequential(nn.LSTM(2, 4, proj_size=3)), "state.0") == (
        "the state of a projected LSTM (proj_size) is not supported; hook its output by path instead."
    )


def test_a_packed_sequence_is_refused():
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            return (
                nn.utils.rnn.pack_padded_sequence(x, [3, 2], batch_first=True).data
                + self.rnn(nn.utils.rnn.pack_padded_sequence(x, [3, 2], batch_first=True))[0].data.sum()
            )

    model = wrap(Packing())
    with pytest.raises(UnsupportedError, match=r"packed sequence at a state site .* pass the padded batch"):
        model.run_with_cache(torch.randn(2, 3, 2), "state")
    with pytest.raises(NoTensorError, match="'rnn' gives a tuple of 2 \\(PackedSequence, Tensor\\)"):
        model.run_with_cache(torch.randn(2, 3, 2), "rnn")
    with pytest.raises(NoTensorError, match="'rnn' gives a PackedSequence"):
        read_site(model, model.at("rnn", side="input"), torch.randn(2, 3, 2), Where([0], [0]))


def test_unbatched_calls_are_refused():
    with pytest.raises(
        ShapeError, match="the input of GRU has shape \\(4, 2\\), but \\(batch, position, width\\) is needed"
    ):
        wrap(nn.GRU(2, 3), logits=lambda out: out[0]).run_with_cache(torch.randn(4, 2), "state")
    with pytest.raises(ShapeError, match="the state of GRUCell has shape \\(3,\\), but \\(batch, width\\) is needed"):
        wrap(nn.GRUCell(2, 3)).run_with_cache(torch.randn(2), "state")


def test_a_stack_that_drops_is_refused():
    with pytest.warns(UserWarning, match="in train mode and its GRU drops units"):
        model = wrap(nn.GRU(2, 3, num_layers=2, dropout=0.5), logits=lambda out: out[0])
    with pytest.raises(UnsupportedError, match=r"in train mode with dropout is not supported; call \.eval\(\) first"):
        model.run_with_cache(torch.randn(2, 4, 2), "state.1")
    model.module.eval()
    assert model.run_with_cache(torch.randn(2, 4, 2), "state.1")[1]["state.1"].shape == (4, 2, 3)
