"""The tail gives the logits and gradients of the whole forward in every family, and runs nothing that it need not."""

import pytest
import torch
from hooks.conformance.batches import BATCH, LENGTH, PADDINGS, distance, ids
from hooks.conformance.cases import CASES, model
from hooks.conformance.tail_pairs import COLUMNS, numbers, pairs, part
from hooks.conformance.tiny import TINY

import mas_hooks as mh
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.tails.decoder import BlockTailRunner
from mas_hooks.hooks.names import blocks_path

DECODERS = [family for family in TINY if family != "bert"]
TAILS = [(family, name) for family, name in CASES if family != "bert"]


def handle(family):
    return mh.wrap(model(family).requires_grad_(False))


def assert_same(one, two, parts):
    (found, grads), (wanted, expected) = numbers(one, parts), numbers(two, parts)
    assert distance(found.logits.detach(), wanted.logits.detach()) < 1e-5
    for own, other in zip(grads, expected, strict=True):
        assert float(other.abs().max()) > 1e-6
        assert distance(own, other) < 1e-5
    for name in ("labels", "row", "deterministic", "scored"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name


@pytest.mark.parametrize(("family", "name"), TAILS, ids=["-".join(case) for case in TAILS])
@pytest.mark.parametrize("path", ["auto", "tail"])
def test_tail_equals_reference(family, name, path):
    own = handle(family)
    site = own.at(name)
    for padding in PADDINGS:
        tail = choose_runner(own, site, pairs(padding), path)
        assert isinstance(tail, BlockTailRunner)
        assert tail.reuse == (path == "auto")
        assert_same(tail, ReferenceRunner(own, site), [part(pairs(padding), site.width)])


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("end", ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_post"])
def test_the_lowest_and_the_highest_site(family, end):
    own = handle(family)
    site = own.at(end)
    tail = choose_runner(own, site, pairs("left"))
    assert tail.name == "tail"
    assert_same(tail, ReferenceRunner(own, site), [part(pairs("left"), site.width)])


@pytest.mark.parametrize("family", DECODERS)
def test_only_what_the_edit_can_change_is_run(family):
    """Blocks below the site and columns before the first edit do not run; the vocabulary meets wanted cells only."""
    own = handle(family)
    site, core, seen = own.at("blocks.1.hook_resid_post"), own.module, {}
    data = pairs("right")
    tail = choose_runner(own, site, data)
    parts = [part(data, site.width)]
    tail.run(parts)  # what is stored is computed here
    blocks = list(core.get_submodule(blocks_path(core, own.family)))
    inner = [next(part for part in block.children() if "Norm" in type(part).__name__) for block in blocks]
    watched = {**{f"norm {index}": module for index, module in enumerate(inner)}, "head": core.get_output_embeddings()}
    handles = [
        module.register_forward_hook(lambda _m, args, _o, name=name: seen.setdefault(name, []).append(args[0].shape))
        for name, module in watched.items()
    ]
    try:
        tail.run(parts)
    finally:
        for one in handles:
            one.remove()
    wanted = int(data.label_mask.sum())
    first = min(COLUMNS["right"])
    assert set(seen) == {"norm 2", "head"}
    assert [shape[:2].numel() for shape in seen["norm 2"]] == [BATCH * (LENGTH - first)]
    assert [shape[:-1].numel() for shape in seen["head"]] == [wanted]


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "bloom", "gemma3-sliding"])
@pytest.mark.parametrize("site_name", ["embed", "blocks.1.hook_resid_post", "blocks.1.attn.hook_z[2]"])
def test_other_shapes_of_work(family, site_name):
    """Labels before the swap, several cells a row, rows without one, several parts, one of them of another length."""
    own = handle(family)
    site = own.at(site_name)
    reference = ReferenceRunner(own, site)
    stepwise = mh.Where([0, 0, 0, 1, 1, 2], [0, 1, 2, 4, 5, 3])
    holes = mh.Where([0, 2, 2], [4, 3, 6])
    early, late = pairs("none", from_column=1), pairs("left", columns=[8, 7, 9])
    bare = mh.Pairs.from_tensors(**_short())
    for data in (early, pairs("none", cells=stepwise), pairs("none", cells=holes), bare):
        assert_same(choose_runner(own, site, data), reference, [part(data, site.width)])
    tail = choose_runner(own, site, early)
    together = [part(early, site.width), part(late, site.width, (1, 2), 1), part(early, site.width, (0,), 2)]
    assert_same(tail, reference, together)
    assert_same(tail, reference, [*together, part(bare, site.width, (1, 0), 3)])


def _short():
    where = mh.Where.one_per_row([2, 5, 4])
    given = {"source_inputs": ids(3)[:, :7], "source_where": where, "target_inputs": ids(3)[:, :7]}
    wanted = torch.arange(7) >= where.columns[:, None]
    return {**given, "target_where": where, "labels": ids(5)[:, :7], "label_mask": wanted}


def test_encoders_are_served_by_the_whole_forward():
    own = handle("bert")
    assert choose_runner(own, own.at("blocks.1.hook_resid_post"), pairs("none")).name == "reference"
