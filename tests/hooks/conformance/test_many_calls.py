"""Nothing piles up over many calls: no hook, no tensor, no displaced forward."""

import gc

import pytest
import torch
from hooks.conformance.cases import model
from hooks.conformance.tail_pairs import pairs, part

import mas_hooks as mh
from mas_hooks.engine.runner import choose_runner


def alive():
    gc.collect()
    return sum(1 for one in gc.get_objects() if issubclass(type(one), torch.Tensor))


def left(module):
    return [
        one for one in module.modules() if one._forward_hooks or one._forward_pre_hooks or "forward" in one.__dict__
    ]


@pytest.mark.parametrize("calls", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", ["qwen2", "bloom"])
def test_many_edits_generations_and_tail_steps(family, calls):
    """One tensor or hook that a call leaves behind is seen, however few the calls are."""
    own = mh.wrap(model(family).requires_grad_(False))
    site, data = own.at("blocks.1.hook_resid_mid"), pairs("left")
    tail, where = choose_runner(own, site, data), mh.positions.last(data.target_inputs)

    def once(step):
        own.run_with_hooks(data.target_inputs, mh.Edit(site, lambda h: h * 0.5, where))
        tail.run([part(data, site.width)]).logits.sum().backward()
        if step % 20 == 0:
            with own.hooks(mh.Edit(site, lambda h: h * 0.5, "every")):
                own.generate(data.target_inputs, max_new_tokens=2, do_sample=False, pad_token_id=0)

    for step in range(20):
        once(step)
    before = alive()
    for step in range(calls):
        once(step)
    assert alive() <= before
    assert left(own.module) == []
