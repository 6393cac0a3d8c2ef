"""Pairs, models and comparisons that the tests of tails share."""

import torch

import mas_hooks as mh
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.tasks import task
from mas_hooks.engine.batch import PatchBatch
from mas_hooks.hooks.wrap import wrap

TASK = task("multi_object", max_quantity=6)
VOCABULARY = len(TASK.vocabulary)
LONG = mh.task_pairs([TASK], ["full"], (30, 5, 5))[0][0, 0]
SHORT = mh.task_pairs([task("multi_object", max_quantity=3)], ["full"], (11, 5, 5))[0][0, 0]


def handle(module, name="state", side="output", **options):
    """A frozen model with random weights, and one of its sites."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    model = wrap(module.eval().requires_grad_(False), **options)
    return model, model.at(name, side)


def part(pairs, index, width, seed=0):
    """Some rows, with random vectors for their cells."""
    index = torch.as_tensor(index)
    cells, _ = pairs.cells(index)
    vectors = torch.randn(len(cells), width, generator=torch.Generator().manual_seed(seed))
    return PatchBatch(pairs, index, vectors.requires_grad_())


def with_cells(pairs, where):
    """The same pairs, swapped at other cells."""
    ids = pairs.target_inputs
    return Pairs.from_tensors(ids, where, ids, where, pairs.labels, pairs.label_mask, pairs.deterministic_mask)


def every_cell(pairs, least=0):
    """The same pairs, swapped at all cells from column `least` to the one they are swapped at, rows shuffled."""
    upto = pairs.target_where.columns
    columns = torch.arange(pairs.labels.shape[1])
    where = Where.from_mask((columns <= upto[:, None]) & (columns >= upto.clamp(max=least)[:, None]))
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(1))
    return with_cells(pairs, Where(where.rows[order], where.columns[order]))


def assert_same(one, two, parts):
    """Two runners agree in everything they say, and in the gradient of the vectors."""
    found = [own.run(parts) for own in (one, two)]
    torch.testing.assert_close(found[0].logits, found[1].logits, rtol=1e-5, atol=1e-5)
    for name in ("labels", "row", "deterministic", "scored"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name
    assert found[0].pairs == found[1].pairs == sum(len(own.index) for own in parts)
    weight = torch.linspace(-1, 1, found[0].logits.numel()).view_as(found[0].logits)
    vectors = [own.vectors for own in parts]
    grads = [torch.autograd.grad((out.logits * weight).sum(), vectors) for out in found]
    for own, other in zip(*grads, strict=True):
        assert own.abs().max() > 0
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


PARTS = {
    "one part": [(LONG, list(range(30)))],
    "shuffled rows": [(LONG, [7, 3, 29, 0, 11])],
    "the same pairs twice": [(LONG, [4, 2, 9]), (LONG, [9, 4, 1, 0])],
    "pairs of different lengths": [(SHORT, [10, 2, 5]), (LONG, [8, 6]), (SHORT, [0])],
}
