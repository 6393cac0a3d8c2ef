"""Every canonical name of every family, read and edited through the package, is what the model written by hand says."""

from contextlib import ExitStack

import pytest
import torch
from hooks.conformance.batches import PADDINGS, distance, ids, mask, moved
from hooks.conformance.cases import (
    CASES,
    COLUMNS,
    ROWS,
    WHERE,
    edited_by_hand,
    inputs,
    model,
    names_of,
    plain,
    seen_at,
    site_edit,
)
from hooks.conformance.hand import positions_of
from hooks.conformance.tiny import LAYERS, TINY

import mas_hooks as mh

CLOSE = 1e-5
REAL = mask("left")


def all_names(family):
    return ["embed", *(name for layer in range(LAYERS) for name in names_of(family, layer))]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("family", TINY)
def test_a_family_lists_these_canonical_names_and_no_other(family):
    handle = mh.wrap(model(family))
    _, found = handle.run_with_cache(inputs())  # no filter: all canonical names
    assert sorted(found) == sorted(all_names(family))
    assert set(found) <= set(handle.hook_points())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("family", TINY)
def test_what_is_read_at_a_name_is_what_the_hand_computes(family, padding):
    handle, hand = mh.wrap(model(family)), plain(family, padding)
    names = [*all_names(family), *(f"blocks.1.attn.hook_z[{head}]" for head in (0, 2, 3))]
    logits, found = handle.run_with_cache(inputs(padding), names)
    assert distance(logits, hand.logits, mask(padding)) < CLOSE
    for name in names:
        wanted = seen_at(name, hand)
        assert found[name].shape == wanted.shape, name
        assert handle.at(name).width == wanted.shape[-1], name
        assert distance(found[name], wanted, mask(padding)) < CLOSE, name


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_name_read_alone_or_at_some_cells_is_the_same(family, name):
    """A model may write over what it returned (Falcon adds in place), and only some ways of reading would see it."""
    handle, wanted = mh.wrap(model(family)), seen_at(name, plain(family))
    alone = handle.run_with_cache(inputs(), [name])[1][name]
    cells = handle.run_with_cache(inputs(), [name], positions=WHERE)[1][name]
    assert distance(alone, wanted, REAL) < CLOSE
    assert distance(cells, wanted[ROWS, COLUMNS]) < CLOSE


@pytest.mark.parametrize(("family", "name"), CASES)
def test_an_edit_at_a_name_has_the_effect_that_the_hand_computes(family, name):
    handle = mh.wrap(model(family))
    logits = handle.run_with_hooks(inputs(), [site_edit(handle, name)])
    assert distance(logits, edited_by_hand(family, [name]).logits, REAL) < CLOSE
    assert distance(logits, plain(family).logits, REAL) > 1e-3


@pytest.mark.parametrize("family", TINY)
def test_without_a_mask_and_with_positions_of_ones_own_the_edit_is_the_same(family):
    handle, kept = mh.wrap(model(family)), mask("left")
    names = [name for own, name in CASES if own == family]
    for name in names:
        bare = handle.run_with_hooks(ids(), [site_edit(handle, name)])
        assert distance(bare, edited_by_hand(family, [name], "none").logits) < CLOSE, name
    if family.partition("-")[0] != "bloom":  # it takes no position_ids
        own = inputs() | {"position_ids": positions_of(kept)}
        logits = handle.run_with_hooks(own, [site_edit(handle, names[0])])
        assert distance(logits, edited_by_hand(family, [names[0]]).logits, kept) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_edits_at_every_name_at_once_go_together(family):
    """Each name sees the edits before it; resid_mid the edited block input and the edited attention."""
    handle = mh.wrap(model(family))
    names = ["embed", *names_of(family, 1), "blocks.1.attn.hook_z[2]", "blocks.2.hook_mlp_out"]
    logits = handle.run_with_hooks(inputs(), [site_edit(handle, name) for name in names])
    assert distance(logits, edited_by_hand(family, names).logits, REAL) < CLOSE
    assert all(distance(logits, edited_by_hand(family, [name]).logits, REAL) > 1e-3 for name in names)


@pytest.mark.parametrize("family", TINY)
def test_the_order_in_which_edits_are_listed_is_not_the_order_in_which_they_come(family):
    handle = mh.wrap(model(family))
    names = ["embed", *names_of(family, 1)]
    wanted = edited_by_hand(family, names).logits
    logits = handle.run_with_hooks(inputs(), [site_edit(handle, name) for name in reversed(names)])
    assert distance(logits, wanted, REAL) < CLOSE
    with ExitStack() as nested:
        for name in reversed(names):
            nested.enter_context(handle.hooks([site_edit(handle, name)]))
        assert distance(handle.forward(inputs()), wanted, REAL) < CLOSE


@pytest.mark.parametrize(("family", "name"), CASES)
def test_reads_inside_an_edit_see_it_and_all_that_follows_from_it(family, name):
    handle, hand = mh.wrap(model(family)), edited_by_hand(family, [name])
    with handle.hooks([site_edit(handle, name)]):
        _, found = handle.run_with_cache(inputs())
    for own, value in found.items():
        assert distance(value, seen_at(own, hand), REAL) < CLOSE, own


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_whole_activation_put_in_is_not_written_over(family, name):
    """Falcon adds the attention in place onto what its MLP returned: never onto a tensor of ours."""
    handle, hand = mh.wrap(model(family)), plain(family)
    wanted = seen_at(name, hand).clone()
    given = wanted.clone()
    for _ in range(2):
        logits = handle.run_with_hooks(inputs(), [(name, lambda h: given)])
        assert torch.equal(given, wanted)
        assert distance(logits, hand.logits, REAL) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_a_model_without_its_head_has_the_same_names(family):
    headless = mh.wrap(model(family).base_model, logits=lambda out: out.last_hidden_state)
    _, found = headless.run_with_cache(inputs())
    assert sorted(found) == sorted(all_names(family))
    for name, value in found.items():
        assert distance(value, seen_at(name, plain(family)), REAL) < CLOSE, name


@pytest.mark.parametrize("family", TINY)
def test_the_model_is_as_before_after_an_edit(family):
    handle = mh.wrap(model(family))
    before = handle.forward(inputs())
    handle.run_with_hooks(inputs(), [site_edit(handle, name) for name in names_of(family, 1)])
    assert torch.equal(handle.forward(inputs()), before)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_gradient_of_an_edit_is_that_of_the_hand(family, name):
    handle = mh.wrap(model(family))
    vector = torch.linspace(-1, 1, handle.at(name).width).requires_grad_()
    weights = torch.cos(torch.arange(plain(family).logits.shape[-1])) * REAL[..., None]

    def fn(h):
        return moved(h) + vector * h

    with torch.enable_grad():
        logits = handle.run_with_hooks(inputs(), [site_edit(handle, name, fn)])
        (found,) = torch.autograd.grad((logits * weights).sum(), vector)
        (wanted,) = torch.autograd.grad((edited_by_hand(family, [name], fn=fn).logits * weights).sum(), vector)
    assert wanted.abs().max() > 1e-3
    assert distance(found, wanted) < CLOSE
