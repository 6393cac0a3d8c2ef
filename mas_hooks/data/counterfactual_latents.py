"""Counterfactual latents: natural activations at cells where the variables are what a swap should have made of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Recording, Where, recording
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.tasks import AbstractTask

Values = Mapping[str, np.ndarray]
Seed = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class NaturalCells:
    """Cells of whole, un-intervened sequences, with the program's variables there.

    inputs: what the model reads; None where the cells are those of a recording. where: the c cells.
    variables: name -> (c,) values; None and NaN are unknown values, which match nothing. name: for errors.
    """

    name: str
    inputs: Inputs | None
    where: Where
    variables: Values

    def __len__(self) -> int:
        return len(self.where)

    def to_recording(self, vectors: Tensor | np.ndarray, name: str) -> Recording:
        """What was measured at these cells, vectors (c, width), as a recording: its row i is cell i."""
        if len(vectors) != len(self):
            raise ShapeError("what was measured", tuple(vectors.shape), f"one row for each of the {len(self)} cells")
        return recording(vectors, self.variables, name)


@dataclass(frozen=True, eq=False)
class Matches:
    """One natural cell for each of n wanted sets of values: cell (n,) is its number in the natural cells, −1 for none.

    For pairs, n runs over their target cells: pair i is entry i where every pair swaps one cell.
    """

    cell: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def dropped(self) -> int:
        """How many found no natural cell."""
        return int((self.cell < 0).sum())

    @property
    def index(self) -> Int[Tensor, " m"]:
        """Which entries found one."""
        return (self.cell >= 0).nonzero()[:, 0]

    def of(self, index: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """For some entries: the places in `index` that have a natural cell, and the numbers of those cells."""
        cell = self.cell.to(index.device)[index]
        places = (cell >= 0).nonzero()[:, 0]
        return places, cell[places]


def natural_cells(task: AbstractTask[Any], trials: int = 2_000, seed: int = 0) -> NaturalCells:
    """The cells of fresh trials of a task where a single-position swap is allowed.

    So never B, T, E, void tokens or padding: a counterfactual latent stands in for what a swap leaves at such a cell.
    Values that only occur elsewhere, as a count of 0 in the demo phase (at B), find no match and are dropped.
    """
    if trials < 1:
        raise EmptyError(f"the set of natural trials of {task.name}", "ask for at least one trial")
    rng = random.Random(f"natural/{seed}")
    drawn = [task.sample(rng) for _ in range(trials)]
    cells = [(row, column) for row, tokens in enumerate(drawn) for column in task.swap_positions(tokens)]
    states = [task.replay(tokens) for tokens in drawn]
    variables = {
        name: np.array([getattr(states[row][column], name) for row, column in cells]) for name in task.program.names
    }
    rows, columns = zip(*cells, strict=True) if cells else ((), ())
    ids = torch.from_numpy(task.vocabulary.pad(drawn))
    return NaturalCells(f"{trials} trials of {task.name}", ids, Where(list(rows), list(columns)), variables)


def cells_of_recording(site: Recording) -> NaturalCells:
    """All cells of a recording, row by row.

    A position that must not be matched (padding, or one where no swap is allowed) has None or NaN for a variable.
    """
    rows, positions = site.activations.shape[:2]
    where = Where.from_mask(torch.ones(rows, positions, dtype=torch.bool))
    variables = {name: values.reshape(-1) for name, values in site.variables.items()}
    return NaturalCells(f"recording {site.name!r}", None, where, variables)


def match_values(pairs: Pairs, cells: NaturalCells, seed: Seed = 0) -> Matches:
    """For each target cell of the pairs one natural cell with the values expected there after the swap.

    Drawn uniformly and once, by seed alone; see `look_up` for the errors.
    Raises SettingError for pairs that do not say what is expected.
    """
    if pairs.expected is None:
        raise SettingError("expected of the pairs", None, "the target's variables after the swap, name -> values")
    return look_up(pairs.expected, cells, seed)


def look_up(wanted: Values, cells: NaturalCells, seed: Seed = 0) -> Matches:
    """For each of n wanted sets of values, name -> (n,), a cell drawn uniformly from those that have exactly these.

    The draw of entry i depends on the seed, on i and on the cells with its values, on nothing else. Raises
    UnknownNameError for a variable that the cells do not have, SettingError where text is compared with numbers,
    EmptyError where no entry finds a cell.
    """
    if not wanted:
        raise EmptyError("the set of wanted variables", "name at least one, for example count")
    own, asked = _codes(wanted, cells)
    order = np.argsort(own, kind="stable")
    first, last = (np.searchsorted(own[order], asked, side) for side in ("left", "right"))
    found = (last > first) & (asked >= 0)
    if len(asked) and not found.any():
        raise _nothing(wanted, cells)
    share = np.random.default_rng(seed).random(len(asked))
    among = np.minimum((share * (last - first)).astype(np.int64), np.maximum(last - first - 1, 0))
    number = np.where(found, order[np.minimum(first + among, len(order) - 1)], -1)
    return Matches(torch.from_numpy(number))


def _codes(wanted: Values, cells: NaturalCells) -> tuple[np.ndarray, np.ndarray]:
    """One number per cell and per wanted entry, equal where all values are; −1 where a value is unknown."""
    count, whole, unknown = len(cells), np.zeros(1, np.int64), np.zeros(1, bool)
    for name, values in wanted.items():
        if name not in cells.variables:
            raise UnknownNameError("variable", name, cells.variables, cells.name)
        own, own_unknown = _known(cells.variables[name])
        asked, asked_unknown = _known(values)
        if (own.dtype.kind == "U") != (asked.dtype.kind == "U"):
            kinds = ["text" if one.dtype.kind == "U" else "numbers" for one in (own, asked)]
            raise SettingError(f"variable {name!r} of {cells.name}", kinds[0], f"{kinds[1]}, as the pairs have it")
        different, codes = np.unique(np.concatenate([own, asked]), return_inverse=True)
        unknown = unknown | np.concatenate([own_unknown, asked_unknown])
        _, whole = np.unique(whole * len(different) + codes, return_inverse=True)
    whole = np.where(unknown, -1, whole)
    return whole[:count], whole[count:]


def _known(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values as text or numbers, with a mask of the unknown ones, which hold a filler."""
    unknown = np.zeros(len(values), bool)
    if values.dtype.kind == "O":
        unknown = np.array([value is None for value in values], bool)
        kept = [value for value in values if value is not None]
        filler = "" if any(isinstance(value, str) for value in kept) else 0
        values = np.array([filler if value is None else value for value in values])
    if values.dtype.kind == "f":
        unknown = unknown | np.isnan(values)
        values = np.where(unknown, 0, values)
    return values, unknown


def _nothing(wanted: Values, cells: NaturalCells) -> EmptyError:
    first = ", ".join(f"{name}={values[:1].tolist()[0]!r}" for name, values in wanted.items())
    number = len(next(iter(wanted.values())))
    found = f"none of its {len(cells)} cells has the values of any of the {number} wanted, such as {first}"
    return EmptyError(f"the set of counterfactual latents from {cells.name}", f"{found}, so give cells that do")


def look_up_cells(
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
            made[way] = _look_up_side(made[way], "source", task, cells, (seed, *way, 0))
        if target == model:
            made[way] = _drop_labels(_look_up_side(made[way], "target", task, cells, (seed, *way, 1)))
    return made


def _look_up_side(
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
    kept = _select_pairs(pairs, matches.index)
    found, there = _take_cells(cells.inputs, cells.where, matches.cell[matches.index])
    changed = {f"{side}_inputs": found, f"{side}_where": there, "redraws": pairs.redraws + matches.dropped}
    return replace(kept, **changed)


def _take_cells(inputs: Inputs | None, where: Where, index: Int[Tensor, " m"]) -> tuple[Inputs | None, Where]:
    """Some cells, one in each row of its own; those of a recording keep their rows."""
    rows, columns = where.rows[index], where.columns[index]
    if inputs is None:
        return None, Where(rows, columns)
    return model_inputs.select_rows(inputs, rows), Where.one_per_row(columns)


def _select_pairs(pairs: Pairs, index: Int[Tensor, " m"]) -> Pairs:
    """Some of the pairs, which swap one cell each."""
    source_inputs, source_where = _take_cells(pairs.source_inputs, pairs.source_where, index)
    target_inputs, target_where = _take_cells(pairs.target_inputs, pairs.target_where, index)
    after = pairs.expected and {name: values[index.cpu().numpy()] for name, values in pairs.expected.items()}
    judged = (pairs.labels[index], pairs.label_mask[index], pairs.deterministic_mask[index], pairs.source_key[index])
    return Pairs(source_inputs, source_where, target_inputs, target_where, *judged, pairs.redraws, after)


def _drop_labels(pairs: Pairs) -> Pairs:
    """Without labels: natural target cells do not continue as the pair's tokens do."""
    none = torch.zeros(len(pairs), 0, dtype=torch.bool)
    return replace(pairs, labels=none.long(), label_mask=none, deterministic_mask=none)
