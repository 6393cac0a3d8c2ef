"""What modules take and give in odd shapes: tuples, dicts, keywords, flat activations, time first."""

import pytest
import torch
from hooks.hook_models import BATCH, HIDDEN, LENGTH, Fused, ids, values
from torch import nn

from mas_hooks.core.errors import NoTensorError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap


class Odd(nn.Module):
    """Modules that give a tuple, a dict and a number, and one that is called by keyword."""

    class Pair(nn.Module):
        def forward(self, mask, h):
            return h * mask, "kept"

    class Told(nn.Module):
        def forward(self, h):
            return {"h": h}

    class Count(nn.Module):
        def forward(self, h=None):
            return 3

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.pair, self.told, self.count = self.Pair(), self.Told(), self.Count()

    def forward(self, ids):
        h = self.embedding(ids)
        h, kept = self.pair(h=h, mask=torch.full_like(h, 2.0))
        assert kept == "kept"
        return self.told(h)["h"] * self.count()


def test_tuples_keep_their_rest_and_odd_outputs_are_refused():
    model = wrap(Odd())
    edit = Edit(model.at("pair", width=4), torch.zeros_like, Where([1], [2]))
    edited = model.run_with_hooks(ids(), [edit])
    expected = model.forward(ids()).clone()
    expected[1, 2] = 0
    assert torch.equal(edited, expected)
    for name, told in (("told", "a dict"), ("count", "an int")):
        with pytest.raises(NoTensorError, match=f"site '{name}' gives {told}, not a floating"):
            model.run_with_cache(ids(), name)
    with pytest.raises(NoTensorError, match="site 'count' gives a NoneType"):
        read_site(model, model.at("count", "input", width=4), ids(), Where([0], [0]))
    with pytest.raises(NoTensorError, match="site 'embedding' gives an int64 tensor"):
        read_site(model, model.at("embedding", "input", width=4), ids(), Where([0], [0]))


def test_the_input_side_is_what_forward_takes_first_even_by_keyword():
    model = wrap(Odd())
    site = model.at("pair", "input", width=4)
    assert torch.equal(read_site(model, site, ids(), Where([0], [1])), torch.full((1, 4), 2.0))
    edited = model.run_with_hooks(ids(), [Edit(site, lambda h: h * 2, Where([0], [1]))])
    expected = model.forward(ids()).clone()
    expected[0, 1] *= 2
    assert torch.equal(edited, expected)


def test_flat_activations_have_one_position():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model, x = wrap(module), values(BATCH, 3)
    edit = Edit(model.at("0"), lambda h: h + 1, Where([2, 0], [0, 0]))
    h = module[0](x)
    _, cache = model.run_with_cache(x, "0", Where([2, 0], [0, 0]))
    assert torch.equal(cache["0"], h[[2, 0]])
    shifted = h + torch.tensor([1.0, 0.0, 1.0])[:, None]
    assert torch.equal(model.run_with_hooks(x, [edit]), module[2](torch.tanh(shifted)))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_time_first_modules_are_seen_batch_first(kind):
    model = wrap(Fused(kind, batch_first=False), logits=lambda out: out[0])
    seen = model.run_with_cache(ids(), "rnn")[1]["rnn"]
    assert seen.shape == (BATCH, LENGTH, HIDDEN)
    torch.testing.assert_close(model.module.head(seen), model.forward(ids()))
    where = Where([2], [4])
    below = read_site(model, model.at("rnn", "input"), ids(), where)
    assert torch.equal(below, model.module.embedding(ids())[2, 4][None])
    edited = model.run_with_hooks(ids(), [Edit(model.at("rnn"), torch.zeros_like, where)])
    assert torch.equal(edited[2, 4], model.module.head.bias)
    assert torch.equal(edited[:2], model.forward(ids())[:2])
