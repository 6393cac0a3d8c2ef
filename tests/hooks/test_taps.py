"""Edits: which cells a function sees, what it may return, how several compose, and where gradients go."""

import pytest
import torch
from hooks.hook_models import BATCH, HIDDEN, LENGTH, Cells, Fused, Positionwise, StepByStep, ids, values
from torch import nn

from mas_hooks.core.errors import EmptyError, PositionError, SettingError, ShapeError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.taps import Edit, EditTap, ReadTap
from mas_hooks.hooks.wrap import wrap

SHUFFLED = Where([2, 0, 2, 1, 0], [4, 5, 0, 2, 1])
SITES = {
    "whole sequences": (Positionwise, "layers.0"),
    "fused": (lambda: Fused(nn.GRU), "state"),
    "fused step by step": (lambda: StepByStep(nn.GRU), "state"),
    "cells": (lambda: Cells(nn.GRUCell), "state"),
    "cell path": (lambda: Cells(nn.GRUCell), "rnn.0"),
    "lstm": (lambda: Fused(nn.LSTM), "state"),
}


def site_of(name):
    make, at = SITES[name]
    model = wrap(make().eval(), logits=lambda out: out if isinstance(out, torch.Tensor) else out[0])
    site = model.at(at, width=4) if at == "layers.0" else model.at(at)
    return model, site


@pytest.mark.parametrize("name", SITES)
def test_vectors_follow_their_cells(name):
    """However the positions pass: at once, or one at a time."""
    model, site = site_of(name)
    vectors = values(len(SHUFFLED), site.width)
    calls = []

    def fn(h, given):
        assert h.shape == given.shape
        calls.append(given)
        return given

    edit = Edit(site, fn, SHUFFLED, vectors)
    with model.hooks([edit]):
        _, cache = model.run_with_cache(ids(), site.name)
    assert torch.equal(SHUFFLED.gather(cache[site.name]), vectors)
    at_once = name == "whole sequences"
    order = torch.arange(5) if at_once else SHUFFLED.columns.argsort()
    assert len(calls) == (1 if at_once else len(set(SHUFFLED.columns.tolist())))
    assert torch.equal(torch.cat(calls), vectors[order])


@pytest.mark.parametrize("name", SITES)
def test_a_function_sees_only_its_cells_in_order(name):
    model, site = site_of(name)
    with torch.no_grad():
        _, cache = model.run_with_cache(ids(), site.name)
        seen = []
        model.run_with_hooks(ids(), [Edit(site, lambda h: seen.append(h.clone()) or h, SHUFFLED)])
    order = torch.arange(5) if name == "whole sequences" else SHUFFLED.columns.argsort()
    torch.testing.assert_close(torch.cat(seen), SHUFFLED.gather(cache[site.name])[order])


@pytest.mark.parametrize("name", SITES)
def test_cells_that_are_not_named_stay(name):
    model, site = site_of(name)
    with torch.no_grad():
        plain = model.forward(ids())
        edited = model.run_with_hooks(ids(), [Edit(site, lambda h: h + 1, Where([1], [3]))])
    changed = (plain != edited).any(-1)
    expected = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    expected[1, 3 : 4 if name == "whole sequences" else None] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("name", SITES)
def test_edits_of_a_site_compose_in_order(name):
    model, site = site_of(name)
    first = Edit(site, lambda h: h + 1, Where([0, 1], [2, 3]))
    second = (site.name, lambda h: h * 2)
    third = Edit(site, lambda h: h - 5, Where([1, 2], [3, 3]))
    with model.hooks([first, second, third]):
        _, cache = model.run_with_cache(ids(), site.name, Where([0, 1], [2, 3]))
    assert not torch.equal(model.run_with_hooks(ids(), [first, second]), model.run_with_hooks(ids(), [second, first]))
    with model.hooks([first]), model.hooks([second]), model.hooks([third]):
        nested = model.run_with_cache(ids(), site.name, Where([0, 1], [2, 3]))[1][site.name]
    assert torch.equal(nested, cache[site.name])
    if name == "whole sequences":
        h = model.run_with_cache(ids(), site.name, Where([0, 1], [2, 3]))[1][site.name]
        assert torch.equal(nested, (h + 1) * 2 - torch.tensor([[0.0], [5.0]]))


def test_edits_at_several_sites():
    module = Positionwise()
    model = wrap(module, layer_path="layers")
    shift = values(4)
    edits = [
        Edit(model.at("blocks.1.hook_resid_pre"), lambda h: h + shift, Where([0], [1])),
        ("embed", lambda h: h * 2),
        Edit(model.at("head", side="input"), torch.neg, Where([0, 1], [1, 1])),
    ]
    h = module.layers[0](module.embedding(ids()) * 2)
    h[0, 1] += shift
    h = module.layers[1](h)
    h[:2, 1] *= -1
    assert torch.equal(model.run_with_hooks(ids(), edits), module.head(h))


@pytest.mark.parametrize("given", [torch.zeros(2, 3), torch.zeros(4), None, "h"])
def test_a_wrong_result_is_told(given):
    model = wrap(Positionwise(), name="mine")
    got = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    with pytest.raises(ShapeError) as caught:
        model.run_with_hooks(ids(), [Edit(model.at("embed"), lambda h: given, Where([0, 1], [0, 0]))])
    assert str(caught.value) == f"what the edit at mine:embed returned has shape {got}, but (2, 4) is needed."
    with pytest.raises(ShapeError) as caught:
        model.run_with_hooks(ids(), [("embed", lambda h: given)])
    assert str(caught.value) == f"what the hook at 'embed' returned has shape {got}, but (3, 6, 4) is needed."


def test_vectors_that_do_not_fit_and_cells_named_twice():
    site = wrap(Positionwise(), name="mine").at("embed")
    with pytest.raises(ShapeError) as caught:
        Edit(site, torch.add, Where([0, 1], [0, 0]), torch.zeros(3, 4))
    assert str(caught.value) == (
        "the vectors tensor of an edit at mine:embed has shape (3, 4), but one row for each of its 2 cells is needed."
    )
    with pytest.raises(SettingError) as caught:
        Edit(site, torch.neg, Where([0, 1, 0], [2, 2, 2]))
    assert str(caught.value) == (
        "the number of distinct cells of an edit at mine:embed is 2, but must be 3, the number of all its cells: "
        "name each cell once."
    )


def test_results_are_cast_to_the_activation():
    model = wrap(Positionwise().to(torch.bfloat16))
    for hook in (Edit(model.at("embed"), lambda h: h.double(), Where([0], [0])), ("embed", lambda h: h.double())):
        assert torch.equal(model.run_with_hooks(ids(), [hook]), model.forward(ids()))


def test_a_function_may_write_into_what_it_sees():
    model = wrap(Positionwise())

    def zero(h):
        return h.zero_()

    for into, outside in (
        (Edit(model.at("layers.0.0"), zero, SHUFFLED), Edit(model.at("layers.0.0"), torch.zeros_like, SHUFFLED)),
        (("layers.0.0", zero), ("layers.0.0", torch.zeros_like)),
    ):
        assert torch.equal(model.run_with_hooks(ids(), [into]), model.run_with_hooks(ids(), [outside]))


def test_gradients_reach_the_values_and_what_lies_below():
    module = Positionwise()
    model, vectors = wrap(module), values(1, 4).requires_grad_()
    edit = Edit(model.at("layers.0", width=4), lambda h, v: h * v, Where([1], [2]), vectors)
    model.run_with_hooks(ids(), [edit]).sum().backward()
    h = module.layers[0](module.embedding(ids())).detach()[1, 2]
    above = torch.autograd.functional.jacobian(
        lambda h: module.head(module.layers[1](h)).sum(), h * vectors[0].detach()
    )
    torch.testing.assert_close(vectors.grad[0], above * h)
    own = module.embedding.weight.grad.clone()
    module.zero_grad()
    model.run_with_hooks(ids(), [Edit(edit.site, lambda _h, v: v, edit.where, vectors)]).sum().backward()
    assert not torch.equal(own, module.embedding.weight.grad)


def test_a_row_outside_is_told_as_it_was_asked():
    model = wrap(Cells(nn.GRUCell), logits=lambda out: out[0], name="mine")
    edit = Edit(model.at("state"), torch.neg, Where([7], [3]))
    with pytest.raises(PositionError) as caught, model.hooks([edit]):
        model.forward(ids())
    assert str(caught.value).startswith("position 3 of row 7 is not in the batch at mine:state: rows run 0 to 2")


def test_columns_of_taps():
    site = wrap(Positionwise()).at("embed")
    assert EditTap(Edit(site, torch.neg, SHUFFLED)).columns().tolist() == [0, 1, 2, 4, 5]
    assert ReadTap("embed", Where([0, 1], [3, 3])).columns().tolist() == [3]
    assert ReadTap("embed", None).columns() is None
    with pytest.raises(EmptyError) as caught:
        ReadTap("embed", Where([], []))
    assert str(caught.value) == (
        "the list of cells to read at embed is empty; name some cells, or give None for all of them."
    )


def test_no_cells_to_edit_is_no_edit():
    model = wrap(Fused(nn.LSTM), logits=lambda out: out[0])
    edit = Edit(model.at("state"), torch.neg, Where([], []), torch.zeros(0, 2 * HIDDEN))
    assert torch.equal(model.run_with_hooks(ids(), [edit]), model.forward(ids()))
