"""The handle: wrapping, what a cache keeps, which cells are refused before a run, and the logits."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from hooks.hook_models import BATCH, HIDDEN, LENGTH, VOCABULARY, Cells, Fused, Positionwise, ids
from torch import nn

from mas_hooks.core.errors import (
    EmptyError,
    NoLogitsError,
    PositionError,
    SettingError,
    ShapeError,
    TrainModeWarning,
    UnknownNameError,
    UnreachedSiteError,
    UnsupportedError,
)
from mas_hooks.core.sites import Where
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

SHUFFLED = Where([2, 0, 2, 1, 0], [4, 5, 0, 2, 1])


def test_only_modules_are_wrapped():
    with pytest.raises(UnsupportedError) as caught:
        wrap([nn.Linear(2, 3)])
    assert (
        str(caught.value) == "wrapping a list of 1 (Linear) is not supported; pass a torch.nn.Module or a model folder."
    )


def test_a_handle_in_words():
    assert wrap(Positionwise()).name == "Positionwise"
    model = wrap(Positionwise(), name="a")
    site = model.at("head", side="input")
    assert (model.name, str(site), site.width, site.model) == ("a", "a:head:input", 4, model)
    assert wrap(nn.Tanh()).device == torch.device("cpu")
    assert wrap(nn.Linear(2, 3, device="meta")).device == torch.device("meta")


class Attending(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=dropout)


DROPPING = {
    "Dropout": lambda rate: nn.Sequential(nn.Linear(2, 3), nn.Dropout(rate)),
    "GRU": lambda rate: Fused(nn.GRU, layers=2, dropout=rate),
    "MultiheadAttention": Attending,
}


@pytest.mark.parametrize("kind", DROPPING)
def test_a_model_that_drops_units_is_warned_of(kind):
    make = DROPPING[kind]
    with pytest.warns(TrainModeWarning) as caught:
        wrap(make(0.3), name="mine")
    assert [str(one.message) for one in caught] == [
        f"mine is in train mode and its {kind} drops units at random; call .eval() on it first."
    ]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrap(make(0.3).eval())
        wrap(make(0.0))


def test_the_dropout_of_a_single_layer_does_nothing():
    rnn = nn.GRU(2, 3)
    rnn.dropout = 0.5
    wrap(rnn)


@pytest.mark.parametrize(
    "make", [Positionwise, lambda: Fused(nn.GRU), lambda: Fused(nn.LSTM), lambda: Cells(nn.GRUCell)]
)
def test_a_cache_keeps_the_asked_rows_in_the_order_asked(make):
    model = wrap(make(), logits=lambda out: out if isinstance(out, torch.Tensor) else out[0])
    names = [name for name in model.hook_points() if name in ("embed", "state", "layers.0", "head")]
    with torch.no_grad():
        logits, whole = model.run_with_cache(ids(), names)
        assert torch.equal(logits, model.forward(ids()))
        assert list(whole) == names
        for where in (SHUFFLED, Where([1], [0]), Where([0, 0, 0], [2, 2, 1])):
            _, cells = model.run_with_cache(ids(), names, where)
            for name in names:
                torch.testing.assert_close(cells[name], where.gather(whole[name]))
                assert cells[name].untyped_storage().nbytes() == len(where) * whole[name].shape[-1] * 4
        _, columns = model.run_with_cache(ids(), names, [5, 0, -2])
        for name in names:
            torch.testing.assert_close(columns[name], whole[name][:, [5, 0, 4]])
            assert columns[name].untyped_storage().nbytes() == BATCH * 3 * whole[name].shape[-1] * 4


def test_names_filter():
    model = wrap(Positionwise(), layer_path="layers")
    _, cache = model.run_with_cache(ids())
    assert list(cache) == model.hook_points()[:5]
    assert cache["embed"].shape == (BATCH, LENGTH, 4)
    assert list(model.run_with_cache(ids(), "head")[1]) == ["head"]
    _, both = model.run_with_cache(ids(), ["embed", "embedding", "embed"])
    assert list(both) == ["embed", "embedding"]
    assert torch.equal(both["embed"], both["embedding"])
    with pytest.raises(UnknownNameError, match="Did you mean 'embed'"):
        model.run_with_cache(ids(), ["head", "embedd"])
    with pytest.raises(EmptyError) as caught:
        wrap(nn.Sequential(nn.Linear(2, 3)), name="mine").run_with_cache(torch.zeros(1, 2))
    assert str(caught.value) == "the list of canonical sites of mine is empty; name some of hook_points()."


def test_a_cache_is_safe_from_what_the_model_writes_into():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    x = torch.randn(2, 5, 3)
    for positions in (None, [0, 1, 2, 3, 4]):
        with torch.no_grad():
            _, cache = wrap(module).run_with_cache(x, "0", positions)
            assert torch.equal(cache["0"], module[0](x))


def test_the_callers_gradient_mode_holds():
    model = wrap(Positionwise())
    assert model.run_with_cache(ids(), "embed")[1]["embed"].requires_grad
    assert not read_site(model, model.at("embed"), ids(), SHUFFLED).requires_grad
    with torch.no_grad():
        assert not model.run_with_cache(ids(), "embed")[1]["embed"].requires_grad


class Refusing(nn.Module):
    """Takes a mapping; must not be run."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)

    def forward(self, input_ids, attention_mask):
        pytest.fail("was run")


MASK = torch.ones(BATCH, LENGTH, dtype=torch.int64)
MASK[0, :2] = MASK[1, 4:] = 0
REFUSED = {
    "column beyond": (Where([0], [LENGTH]), "position 6 of row 0", "rows run 0 to 2, positions 0 to 5"),
    "negative column": (Where([0], [-1]), "position -1 of row 0", "rows run 0 to 2, positions 0 to 5"),
    "row beyond": (Where([3], [2]), "position 2 of row 3", "rows run 0 to 2, positions 0 to 5"),
    "left padding": (
        Where([2, 0], [0, 1]),
        "position 1 of row 0",
        "that cell is padding (attention_mask 0); mas_hooks.positions counts tokens",
    ),
    "right padding": (
        Where([1], [5]),
        "position 5 of row 1",
        "that cell is padding (attention_mask 0); mas_hooks.positions counts tokens",
    ),
    "a column on padding": (
        [-1],
        "position 5 of row 1",
        "that cell is padding (attention_mask 0); mas_hooks.positions counts tokens",
    ),
    "a column beyond": ([2, LENGTH], "position 6 of row 0", "rows run 0 to 2, positions 0 to 5"),
    "a negative column beyond": ([-LENGTH - 1], "position -7 of row 0", "rows run 0 to 2, positions 0 to 5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_cells_are_refused_before_a_run(name):
    positions, cell, allowed = REFUSED[name]
    model = wrap(Refusing(), name="mine")
    inputs = {"attention_mask": MASK, "input_ids": ids()}
    with pytest.raises(PositionError) as caught:
        model.run_with_cache(inputs, "embed", positions)
    assert str(caught.value) == f"{cell} is not in the inputs of mine: {allowed}."
    if isinstance(positions, Where):
        with pytest.raises(PositionError):
            model.run_with_hooks(inputs, [Edit(model.at("embed"), torch.neg, positions)])


def test_inputs_without_positions_are_refused():
    model = wrap(nn.Embedding(3, 4), name="mine")
    with pytest.raises(ShapeError) as caught:
        model.run_with_cache(torch.tensor([0, 1]), [], [0])
    assert str(caught.value) == "the input of mine has shape (2,), but (batch, position, …) is needed."
    with pytest.raises(EmptyError, match="the list of cells to read at embed is empty"):
        wrap(Positionwise()).run_with_cache(ids(), "embed", [])


def test_a_mapping_is_passed_by_keyword():
    class Masked(Positionwise):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids) * attention_mask[..., None]

    model = wrap(Masked())
    inputs = {"attention_mask": MASK, "input_ids": ids()}
    logits, cache = model.run_with_cache(inputs, "embed", Where([2, 1], [5, 3]))
    assert not logits[0, :2].any()
    assert torch.equal(cache["embed"], model.module.embedding(ids()[[2, 1], [5, 3]]))


def test_collecting_stops_above_the_site():
    class Half(Positionwise):
        def forward(self, ids):
            h = self.layers[0](self.embedding(ids))
            pytest.fail("went on")
            return h

    model = wrap(Half(), layer_path="layers")
    found = read_site(model, model.at("blocks.0.hook_resid_post"), ids(), SHUFFLED)
    assert torch.equal(found, SHUFFLED.gather(model.module.layers[0](model.module.embedding(ids()))))
    below = read_site(model, model.at("blocks.0.hook_resid_pre"), ids(), SHUFFLED)
    assert torch.equal(below, SHUFFLED.gather(model.module.embedding(ids())))


def test_collecting_from_a_loop_stops_at_the_last_asked_step():
    model = wrap(Cells(nn.GRUCell))
    steps = []
    watcher = model.module.rnn[0].register_forward_pre_hook(lambda *_: steps.append(1))
    read_site(model, model.at("state"), ids(), Where([0, 1], [3, 1]))
    watcher.remove()
    assert len(steps) == 4
    with pytest.raises(UnreachedSiteError, match="at 1 of the asked cells: 6 positions passed its module"):
        read_site(model, model.at("state"), ids(), Where([0, 1], [3, LENGTH]))


class Giving(nn.Module):
    """Gives what it is told to make of its logits."""

    def __init__(self, make):
        super().__init__()
        self.inner, self.make = Positionwise(), make

    def forward(self, ids):
        return self.make(self.inner(ids))


@pytest.mark.parametrize(
    "make",
    [
        lambda logits: logits,
        lambda logits: SimpleNamespace(logits=logits, loss=logits.sum()),
        lambda logits: (logits, {"state": 3}),
        lambda logits: {"scores": logits, "argmax": logits.argmax(-1)},
    ],
)
def test_logits_are_found(make):
    model = wrap(Giving(make))
    assert torch.equal(model.forward(ids()), model.module.inner(ids()))


def test_logits_that_are_not_clear_ask_for_a_function():
    gru = nn.GRU(HIDDEN, 4, batch_first=True)
    x = torch.randn(2, 3, HIDDEN)
    with pytest.raises(NoLogitsError, match=r"part of a tuple of 2 .* pass wrap\(model, logits=lambda out: …\)\."):
        wrap(gru).run_with_cache(x, "state")
    model = wrap(gru, logits=lambda out: out[0])
    logits, cache = model.run_with_cache(x, "state")
    assert torch.equal(logits, cache["state"])
    assert read_site(wrap(gru), wrap(gru).at("state"), x, Where([0], [1])).shape == (1, 4)


def test_a_misspelt_side_is_told():
    with pytest.raises(UnknownNameError, match=r"no side 'inpt'\. Did you mean 'input'"):
        wrap(Fused(nn.GRU).eval()).at("head", side="inpt")


def test_one_edit_needs_no_list_and_a_name_is_no_site():
    model = wrap(Fused(nn.GRU).eval(), logits=lambda out: out[0])
    edit = Edit(model.at("state"), torch.zeros_like, Where([0], [1]))
    assert torch.equal(model.run_with_hooks(ids(), edit), model.run_with_hooks(ids(), [edit]))
    with pytest.raises(SettingError, match=r"the site of an edit is 'state', but must be a site, from model\.at"):
        Edit("state", torch.zeros_like, Where([0], [1]))


def test_sites_name_themselves_and_mistaken_positions_are_told():
    model = wrap(Positionwise(), name="mine")
    site = model.at("embed")
    by_name, by_site = (model.run_with_cache(ids(), [asked])[1]["embed"] for asked in ("embed", site))
    assert torch.equal(by_name, by_site)
    for wrong in (-1, "last"):
        with pytest.raises(
            SettingError, match=r"positions is .*, but must be a list of columns, or cells from mas_hooks"
        ):
            model.run_with_cache(ids(), "embed", positions=wrong)
    assert repr(model) == "HookedModel('mine', a Positionwise with 1 canonical sites)"
    with pytest.raises(SettingError, match=r"fn of an edit at mine:embed is 'Tensor', but must be a function"):
        Edit(site, torch.zeros(4), Where([0], [0]))


def test_a_block_that_is_not_there_is_told_by_number():
    with pytest.raises(UnknownNameError, match=r"^mine has no block '7'\. There is: 0, 1\.$"):
        wrap(Positionwise(), layer_path="layers", name="mine").at("blocks.7.hook_resid_post")
