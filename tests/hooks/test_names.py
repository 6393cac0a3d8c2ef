"""Names of sites: canonical first, dotted paths always, and what is said about a wrong one."""

import pytest
import torch
from hooks.hook_models import Cells, Fused, Positionwise, ids
from torch import nn

from mas_hooks.core.errors import UnknownNameError, UnsupportedError
from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.wrap import wrap


def test_canonical_names_come_first():
    model = wrap(Positionwise(), layer_path="layers")
    blocks = [f"blocks.{index}.hook_resid_{end}" for index in (0, 1) for end in ("pre", "post")]
    paths = [
        "embedding",
        "layers",
        "layers.0",
        "layers.0.0",
        "layers.0.1",
        "layers.1",
        "layers.1.0",
        "layers.1.1",
        "head",
    ]
    assert model.hook_points() == ["embed", *blocks, *paths]
    assert wrap(Positionwise()).hook_points() == ["embed", *paths]
    assert wrap(Fused(nn.GRU)).hook_points() == ["embed", "state", "embedding", "rnn", "head"]
    assert wrap(Fused(nn.LSTM, layers=2)).hook_points()[:3] == ["embed", "state.0", "state.1"]
    assert wrap(Cells(nn.GRUCell, 2)).hook_points()[:3] == ["embed", "state.0", "state.1"]
    assert wrap(nn.GRU(2, 3)).hook_points() == ["state"]


def test_canonical_names_are_shorthands_of_paths():
    model = wrap(Positionwise(), layer_path="layers")
    same = {"embed": ("embedding", "output"), "blocks.1.hook_resid_post": ("layers.1", "output")}
    same["blocks.1.hook_resid_pre"] = ("layers.1", "input")
    for name, place in same.items():
        assert model.point(name) == model.point(*place)


def test_a_path_that_is_called_as_a_canonical_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.state = nn.GRU(4, 3, batch_first=True)

        def forward(self, ids):
            return self.state(self.embed(ids))[0]

    model = wrap(Named())
    assert model.hook_points() == ["embed", "state"]
    assert model.point("state").kind == "fused"
    assert set(model.run_with_cache(ids())[1]) == {"embed", "state"}


def test_two_embeddings_are_named_by_path_only():
    model = wrap(nn.ModuleDict({"one": nn.Embedding(2, 3), "two": nn.Embedding(2, 3)}))
    assert model.hook_points() == ["one", "two"]


def test_states_that_are_refused_are_not_counted():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.back = nn.LSTM(2, 3, bidirectional=True)
            self.on = nn.GRU(2, 4)

    model = wrap(Both())
    assert model.at("state").width == 4
    assert model.at("back").width == 6


WIDTHS = {
    "linear": (nn.Linear(3, 5), 3, 5),
    "norm": (nn.LayerNorm(4), 4, 4),
    "rms": (nn.RMSNorm(4), 4, 4),
    "gru": (nn.GRU(3, 5), 3, 5),
    "both ways": (nn.GRU(3, 5, bidirectional=True), 3, 10),
    "projected": (nn.LSTM(3, 5, proj_size=2), 3, 2),
    "cell": (nn.LSTMCell(3, 5), 3, 5),
    "embedding": (nn.Embedding(3, 5), None, 5),
    "head": (nn.Sequential(nn.Linear(3, 9), nn.GELU(), nn.Linear(9, 5), nn.Tanh()), 3, 5),
    "dropped": (nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 5), nn.Dropout(0.0)), 3, 5),
    "unsaid below": (nn.Sequential(nn.Bilinear(2, 2, 3), nn.Linear(3, 5)), None, 5),
    "unsaid above": (nn.Sequential(nn.Linear(3, 5), nn.GLU()), 3, None),
    "silent": (nn.GELU(), None, None),
}


@pytest.mark.parametrize("name", WIDTHS)
def test_width_where_the_module_says_it(name):
    module, taken, given = WIDTHS[name]
    model = wrap(nn.ModuleDict({"part": module}), name="mine")
    for side, width in (("input", taken), ("output", given)):
        if width is not None:
            assert model.at("part", side).width == width
            continue
        with pytest.raises(UnsupportedError) as caught:
            model.at("part", side)
        assert str(caught.value) == (
            "site 'part' of mine, whose module does not say how wide it is, is not supported; "
            "give its width: .at('part', width=…)."
        )
        assert model.at("part", side, width=8).width == 8


def test_state_widths():
    assert wrap(Fused(nn.GRU)).at("state").width == 5
    assert wrap(Fused(nn.LSTM)).at("state").width == 10
    assert wrap(Cells(nn.LSTMCell, 2)).at("state.1").width == 10
    assert wrap(nn.LSTM(2, 3, num_layers=2)).at("state.1").width == 6


@pytest.mark.parametrize(
    ("got", "near"),
    [("embbed", "embed"), ("blocks.1.hook_resid_psot", "blocks.1.hook_resid_post"), ("layer.0.1", "layers.0.1")],
)
def test_a_misspelt_site_names_the_nearest(got, near):
    with pytest.raises(UnknownNameError) as caught:
        wrap(Positionwise(), layer_path="layers", name="mine").at(got)
    assert str(caught.value).startswith(f"mine has no site {got!r}. Did you mean {near!r}? There is: embed, blocks.0.")


def test_a_state_that_is_not_there():
    with pytest.raises(UnknownNameError, match=r"has no site 'state'. There is: .*embedding"):
        wrap(Positionwise()).at("state")
    with pytest.raises(UnknownNameError, match=r"has no site 'state.2'. Did you mean 'state.[01]'"):
        wrap(Fused(nn.GRU, layers=2)).at("state.2")


def test_a_state_has_no_input_side():
    with pytest.raises(UnsupportedError) as caught:
        wrap(Fused(nn.GRU)).at("state", side="input")
    assert str(caught.value) == (
        "the input side of a state is not supported; hook the recurrent module's input by its path."
    )


def test_layer_path_that_is_misspelt_or_no_list():
    with pytest.raises(UnknownNameError) as caught:
        wrap(Positionwise(), layer_path="layer")
    assert str(caught.value).startswith("Positionwise has no layer_path 'layer'. Did you mean 'layers'?")
    with pytest.raises(UnsupportedError) as caught:
        wrap(Positionwise(), layer_path="head")
    assert str(caught.value) == "layer_path 'head', which leads to a Linear, is not supported; name a list of blocks."


def test_layer_path_to_a_sequential():
    keyed = nn.Sequential()
    keyed.add_module("first", nn.Linear(3, 4))
    keyed.add_module("second", nn.Linear(4, 5))
    for module, path, prefix in ((keyed, "", ""), (nn.ModuleDict({"stack": keyed}), "stack", "stack.")):
        model = wrap(module, layer_path=path)
        assert model.point("blocks.1.hook_resid_pre") == HookPoint(f"{prefix}second", side="input", width=4)
        assert model.point("blocks.1.hook_resid_post") == HookPoint(f"{prefix}second", width=5)
    x = torch.randn(2, 6, 3)
    _, cache = wrap(keyed, layer_path="").run_with_cache(x, "blocks.1.hook_resid_pre")
    assert torch.equal(cache["blocks.1.hook_resid_pre"], keyed[0](x))


def test_one_block_used_twice_is_refused():
    block = nn.Linear(3, 3)
    with pytest.raises(UnsupportedError, match=r"whose list holds a block twice, .* hook by dotted paths"):
        wrap(nn.Sequential(nn.Sequential(block, nn.Tanh(), block)), layer_path="0")
