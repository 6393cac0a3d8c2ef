"""Pairs whose cells in one model are looked up among natural cells: how pairs come to name the cells of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.errors import UnsupportedError
from mas_hooks.inputs import Inputs
from mas_hooks.latents import NaturalCells, look_up
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Where
from mas_hooks.tasks import AbstractTask


def on_cells(
    pairs: Mapping[tuple[int, int], Pairs], model: int, task: AbstractTask[Any], cells: NaturalCells, seed: int = 0
) -> dict[tuple[int, int], Pairs]:
    """Pairs of `task_pairs` whose cells in one model are natural cells with the same variables, drawn uniformly.

    task: that model's; its "full" variables are compared. A pair that finds no cell is left out and counted in
    `redraws`. Pairs into the model lose their labels, which become (n, 0): they serve the latent loss alone.
    The same seed gives the same cells, whether these are in a recording or in the model that was recorded.
    Raises what `look_up` raises, and UnsupportedError for pairs that are not tokens of a task.
    """
    made = dict(pairs)
    for source, target in pairs:
        way = (source, target)
        if source == model:
            made[way] = _moved(made[way], "source", task, cells, (seed, *way, 0))
        if target == model:
            made[way] = _unlabelled(_moved(made[way], "target", task, cells, (seed, *way, 1)))
    return made


def _moved(
    pairs: Pairs, side: Literal["source", "target"], task: AbstractTask[Any], cells: NaturalCells, seed: Sequence[int]
) -> Pairs:
    """The pairs that find a cell, with that cell on one side."""
    named = {"source": (pairs.source_inputs, pairs.source_where), "target": (pairs.target_inputs, pairs.target_where)}
    inputs, where = named[side]
    if not isinstance(inputs, Tensor) or not pairs.single or len(where) != len(pairs):
        raise UnsupportedError(f"looking up the {side} cells of these pairs", "give pairs from mas_hooks.task_pairs")
    states = [
        task.replay(task.vocabulary.decode(inputs[row, : column + 1].tolist()))[-1]
        for row, column in zip(where.rows.tolist(), where.columns.tolist(), strict=True)
    ]
    wanted = {name: np.array([getattr(state, name) for state in states]) for name in task.variables["full"]}
    matches = look_up(wanted, cells, seed)
    kept = _only(pairs, matches.index)
    found, there = _taken(cells.inputs, cells.where, matches.cell[matches.index])
    changed = {f"{side}_inputs": found, f"{side}_where": there, "redraws": pairs.redraws + matches.dropped}
    return replace(kept, **changed)


def _taken(inputs: Inputs | None, where: Where, index: Int[Tensor, " m"]) -> tuple[Inputs | None, Where]:
    """Some cells, one in each row of its own; those of a recording keep their rows."""
    rows, columns = where.rows[index], where.columns[index]
    if inputs is None:
        return None, Where(rows, columns)
    return model_inputs.rows(inputs, rows), Where.one_per_row(columns)


def _only(pairs: Pairs, index: Int[Tensor, " m"]) -> Pairs:
    """Some of the pairs, which swap one cell each."""
    source_inputs, source_where = _taken(pairs.source_inputs, pairs.source_where, index)
    target_inputs, target_where = _taken(pairs.target_inputs, pairs.target_where, index)
    after = pairs.expected and {name: values[index.cpu().numpy()] for name, values in pairs.expected.items()}
    judged = (pairs.labels[index], pairs.label_mask[index], pairs.deterministic_mask[index], pairs.source_key[index])
    return Pairs(source_inputs, source_where, target_inputs, target_where, *judged, pairs.redraws, after)


def _unlabelled(pairs: Pairs) -> Pairs:
    """Without labels: natural target cells do not continue as the pair's tokens do."""
    none = torch.zeros(len(pairs), 0, dtype=torch.bool)
    return replace(pairs, labels=none.long(), label_mask=none, deterministic_mask=none)
