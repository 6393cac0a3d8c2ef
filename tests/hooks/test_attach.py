"""A handle borrows: everything about a model is as before, whatever happened in between."""

import copy
import gc

import pytest
import torch
from hooks.hook_models import LENGTH, Cells, Fused, Positionwise, StepByStep, ids, values
from torch import nn

from mas_hooks.core.errors import SettingError, UnknownNameError, UnreachedSiteError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

MODELS = {
    "positionwise": (Positionwise, ["embed", "layers.1", "head"]),
    "gru": (lambda: Fused(nn.GRU), ["embed", "state", "rnn"]),
    "stacked lstm": (lambda: Fused(nn.LSTM, layers=2), ["embed", "state.0", "state.1"]),
    "step by step": (lambda: StepByStep(nn.GRU), ["embed", "state", "head"]),
    "cells": (lambda: Cells(nn.LSTMCell, 2), ["embed", "state.0", "state.1"]),
}


def wrapped(module):
    return wrap(module, logits=lambda out: out if isinstance(out, torch.Tensor) else out[0], name="mine")


def replacing(model, name, cells=((0, 1), (2, 4))):
    site = model.at(name, width=4)
    rows, columns = zip(*cells, strict=True)
    return Edit(site, lambda _h, v: v, Where(rows, columns), values(len(cells), site.width))


def everything_about(module):
    """Attributes, hooks, weights, modes and gradients' settings of every part of a model."""
    parts = {}
    for path, part in module.named_modules():
        hooks = {key: list(value) for key, value in part.__dict__.items() if "hooks" in key}
        rest = {key: value for key, value in part.__dict__.items() if not key.startswith("_")}
        parts[path] = (sorted(part.__dict__), hooks, rest, part.training)
    weights = {name: (p.dtype, p.requires_grad, p.data_ptr(), p._version) for name, p in module.named_parameters()}
    return parts, weights


@pytest.fixture(params=MODELS)
def model(request):
    make, _ = MODELS[request.param]
    handle = wrapped(make())
    before, tensors = everything_about(handle.module), copy.deepcopy(handle.module.state_dict())
    yield handle
    assert everything_about(handle.module) == before
    for name, value in handle.module.state_dict().items():
        assert torch.equal(value, tensors[name])


@pytest.fixture
def names(model):
    return next(names for make, names in MODELS.values() if set(names) <= set(model.hook_points()))


def test_a_run_leaves_no_trace(model, names):
    model.run_with_cache(ids(), names)
    model.run_with_hooks(ids(), [replacing(model, name) for name in names])
    model.run_with_hooks(ids(), [(name, torch.neg) for name in names])
    read_site(model, model.at(names[1], width=4), ids(), Where([0], [1]))


def test_train_mode_and_frozen_weights_stay(model, names):
    for training in (True, False):
        model.module.train(training)
        model.module.requires_grad_(training)
        model.run_with_hooks(ids(), [replacing(model, names[1])])
        assert all(part.training == training for part in model.module.modules())
        assert all(p.requires_grad == training and p.grad is None for p in model.module.parameters())
    model.module.train().requires_grad_(True)


def test_an_error_in_an_edit_leaves_no_hook(model, names):
    def broken(h):
        raise ZeroDivisionError

    for name in names:
        with pytest.raises(ZeroDivisionError):
            model.run_with_hooks(ids(), [replacing(model, names[0]), (name, broken), (names[-1], torch.neg)])
        with pytest.raises(ZeroDivisionError), model.hooks([replacing(model, names[0])]):
            raise ZeroDivisionError


def test_a_wrong_name_leaves_no_hook(model, names):
    wrong = [(names[0], torch.neg), replacing(model, names[1]), ("nowhere", torch.neg)]
    with pytest.raises(UnknownNameError):
        model.run_with_hooks(ids(), wrong)
    with pytest.raises(UnknownNameError):
        model.hooks(wrong)
    with pytest.raises(UnknownNameError):
        model.run_with_cache(ids(), [*names, "nowhere"])


def test_an_error_while_attaching_leaves_no_hook(model, names, monkeypatch):
    last = model.module.get_submodule(model.point(names[-1]).path)

    def refuse(*args, **kwargs):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(last), "register_forward_hook", refuse)
        with pytest.raises(ZeroDivisionError):
            model.run_with_hooks(ids(), [(name, torch.neg) for name in names])
    with monkeypatch.context() as patch:  # the very last thing to be attached: the counter's reset on the root
        patch.setattr(type(model.module), "register_forward_pre_hook", refuse, raising=False)
        with pytest.raises(ZeroDivisionError):
            model.run_with_hooks(ids(), [(names[0], torch.neg)])


def test_other_hooks_survive_and_see_the_edit(model, names):
    parts = [model.module.get_submodule(model.point(name).path) for name in names]
    calls = []
    handles = [part.register_forward_hook(lambda *_: calls.append("after")) for part in parts]
    handles += [part.register_forward_pre_hook(lambda *_: calls.append("before")) for part in parts]
    plain = model.forward(ids())
    count = len(calls)
    model.run_with_cache(ids(), names)
    model.run_with_hooks(ids(), [(name, torch.neg) for name in names])
    model.forward(ids())
    assert len(calls) == 4 * count > 0
    seen = []
    watcher = model.module.embedding.register_forward_hook(lambda _m, _a, out: seen.append(out))
    edit = replacing(model, "embed")
    changed = model.run_with_hooks(ids(), [edit])
    assert torch.equal(edit.where.gather(seen[0]), edit.vectors)
    assert not torch.equal(changed, plain)
    for handle in (*handles, watcher):
        handle.remove()


def test_other_pre_hooks_see_an_edited_input(model):
    seen = []
    watcher = model.module.head.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model.run_with_hooks(ids(), [Edit(model.at("head", side="input"), torch.zeros_like, Where([1], [2]))])
    watcher.remove()
    assert not seen[0][1, 2].any()
    assert seen[0][1, 1].any()


def test_nothing_is_left_after_many_runs(model, names):
    def live():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def run():
        model.run_with_hooks(ids(), [replacing(model, names[1])])
        model.run_with_cache(ids(), names)
        read_site(model, model.at(names[1], width=4), ids(), Where([0], [1]))

    run()
    before = live()
    for _ in range(200):
        run()
    assert live() <= before


def test_the_same_hooks_can_be_nested_and_end_in_any_order(model, names):
    plain = model.forward(ids())
    inner, outer = model.hooks([(names[1], torch.neg)]), model.hooks([(names[1], torch.exp), (names[0], torch.neg)])
    outer.__enter__()
    inner.__enter__()
    both = model.forward(ids())
    outer.__exit__(None, None, None)
    alone = model.forward(ids())
    inner.__exit__(None, None, None)
    assert torch.equal(alone, model.run_with_hooks(ids(), [(names[1], torch.neg)]))
    assert torch.equal(
        both, model.run_with_hooks(ids(), [(names[0], torch.neg), (names[1], torch.exp), (names[1], torch.neg)])
    )
    assert torch.equal(model.forward(ids()), plain)


def test_counters_begin_anew_with_each_forward(model, names):
    edits = [replacing(model, name) for name in names]
    expected = model.run_with_hooks(ids(), edits)
    with model.hooks(edits):
        for _ in range(3):
            assert torch.equal(model.forward(ids()), expected)
        with pytest.raises(IndexError):
            model.forward(ids() + 100)
        assert torch.equal(model.forward(ids()), expected)


def test_a_module_that_does_not_run_is_told(model, names):
    class Deaf(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.on = inner, nn.Linear(1, 2)

        def forward(self, ids):
            return self.on(ids[..., None].float())

    deaf = wrap(Deaf(model.module), name="mine")
    paths = [model.point(name).path for name in names]
    site = deaf.at(f"inner.{paths[0]}")
    told = f"site 'mine:inner.{paths[0]}' was never reached at 2 of the asked cells: 0 positions passed its module"
    with pytest.raises(UnreachedSiteError) as caught:
        deaf.run_with_hooks(ids(), [Edit(site, torch.neg, Where([0, 1], [1, 4]))])
    assert str(caught.value) == f"{told}, and the edit asks for position 4."
    with pytest.raises(
        UnreachedSiteError, match="was never reached at 1 of the asked cells: 0 positions passed its mod"
    ):
        deaf.run_with_hooks(ids(), [(site.name, torch.neg)])
    for where, missed in ((None, 1), (Where([0, 1], [1, 4]), 2)):
        with pytest.raises(UnreachedSiteError, match=f"at {missed} of the asked cells: 0 positions passed its module."):
            deaf.run_with_cache(ids(), site.name, where)
    with pytest.raises(UnreachedSiteError), deaf.hooks([(site.name, torch.neg)]):
        pass


def test_columns_beyond_what_passed_are_told(model, names):
    for name in names:
        edit = replacing(model, name, [(0, 1), (1, LENGTH), (2, LENGTH + 3)])
        with pytest.raises(UnreachedSiteError) as caught, model.hooks([edit]):
            model.forward(ids())
        assert str(caught.value) == (
            f"site 'mine:{name}' was never reached at 2 of the asked cells: "
            f"{LENGTH} positions passed its module, and the edit asks for position {LENGTH + 3}."
        )
        with model.hooks([edit]):  # reached by one of several forwards is reached
            model.forward(ids())
            model.forward(ids(length=LENGTH + 4))


def test_a_site_of_another_handle_is_refused(model, names):
    other = wrapped(copy.deepcopy(model.module))
    with pytest.raises(SettingError) as caught:
        model.run_with_hooks(ids(), [replacing(other, names[1])])
    assert str(caught.value) == (
        f"the site of an edit is 'mine:{names[1]}', but must be a site of mine, from its .at(…); two models have "
        "this name, so give each its own with wrap(…, name=…)."
    )
    with pytest.raises(SettingError) as caught:
        model.run_with_hooks(ids(), [replacing(wrapped(model.module), names[1])])
    assert str(caught.value) == (
        f"the site of an edit is 'mine:{names[1]}', but must be of the handle that runs, not of a second wrap of the "
        "same module; take a site of mine, from its .at(…)."
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_an_identity_edit_is_bit_equal(model, names, batch):
    plain = model.forward(ids(batch))
    for name in names:
        edit = Edit(model.at(name, width=4), torch.clone, Where([0, batch - 1], [1, 4]))
        assert torch.equal(model.run_with_hooks(ids(batch), [edit, (name, torch.clone)]), plain)
