"""Pairs and parts for the tests of the tail: swaps at ragged cells under padding on either side."""

from __future__ import annotations

import torch
from hooks.conformance.batches import BATCH, LENGTH, ids, mask

import mas_hooks as mh
from mas_hooks.engine.batch import PatchBatch

# One real cell a row, whatever the padding: rows are 10, 6 and 9 tokens long.
COLUMNS = {"none": [4, 5, 3], "left": [4, 7, 3], "right": [4, 2, 5]}


def pairs(padding="left", columns=None, from_column=None, cells=None):
    """Swaps at `columns` (or any `cells`), labelled from there on, or from `from_column` on."""
    columns = torch.tensor(columns or COLUMNS[padding])
    where = cells or mh.Where.one_per_row(columns)
    real = mask(padding).bool()
    begins = columns if from_column is None else torch.full((BATCH,), from_column)
    wanted = real & (torch.arange(LENGTH) >= begins[:, None])
    own = {"input_ids": ids(), "attention_mask": mask(padding)} if padding != "bare" else ids()
    return mh.Pairs.from_tensors(own, where, own, where, ids(7), wanted)


def part(own, width, index=(2, 0, 1), seed=0):
    """Random vectors at the target cells of some pairs, with gradient."""
    index = torch.tensor(index)
    count = len(own.cells(index)[0])
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return PatchBatch(own, index, vectors.requires_grad_())


def numbers(runner, parts):
    """Logits and the gradient of the vectors of each part, for a fixed weighting of the logits."""
    out = runner.run(parts)
    weight = torch.linspace(-1, 1, out.logits.numel()).view_as(out.logits)
    return out, torch.autograd.grad((out.logits.float() * weight).sum(), [one.vectors for one in parts])
