"""Counterfactual latents: natural activations at cells where the variables are what a swap should have made of them.

`natural_cells` and `cells_of_recording` give cells with their variables; `match_values` draws one of them for each
target cell of pairs, for the latent loss; `look_up_cells` puts such cells into pairs, for a model that is a recording.

Example:
    >>> import mas_hooks as mh
    >>> train, _, _ = mh.task_pairs(["multi_object"], ["count"], sizes=(20, 1, 1))
    >>> cells = mh.latents.natural_cells(mh.task("multi_object"), trials=200)
    >>> matches = mh.latents.match_values(train[0, 0], cells)
    >>> (cells.variables["count"][matches.cell] == train[0, 0].expected["count"]).all()
    np.True_
"""

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

    Attributes:
        name: what errors call them.
        inputs: what the model reads; None where the cells are those of a recording.
        where: the c cells.
        variables: name -> (c,) values; None and NaN are unknown values, which match nothing.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> import mas_hooks as mh
        >>> where = mh.positions.every(torch.tensor([[4, 5]]))
        >>> cells = mh.latents.NaturalCells("mine", torch.tensor([[4, 5]]), where, {"count": np.array([1, 2])})
        >>> mh.latents.look_up({"count": np.array([2])}, cells).cell.tolist()
        [1]
    """

    name: str
    inputs: Inputs | None
    where: Where
    variables: Values

    def __len__(self) -> int:
        return len(self.where)

    def to_recording(self, vectors: Tensor | np.ndarray, name: str) -> Recording:
        """What was measured at these cells, vectors (c, width), as a recording: its row i is cell i.

        Raises ShapeError for another number of vectors.
        """
        if len(vectors) != len(self):
            raise ShapeError("what was measured", tuple(vectors.shape), f"one row for each of the {len(self)} cells")
        return recording(vectors, self.variables, name)


@dataclass(frozen=True, eq=False)
class Matches:
    """One natural cell for each of n wanted sets of values: cell (n,) is its number in the natural cells, −1 for none.

    For pairs, n runs over their target cells: pair i is entry i where every pair swaps one cell.

    Example:
        >>> import torch
        >>> from mas_hooks import latents
        >>> matches = latents.Matches(torch.tensor([7, -1, 2]))
        >>> matches.dropped, matches.index.tolist()
        (1, [0, 2])
    """

    cell: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def dropped(self) -> int:
        """How many entries have no natural cell."""
        return int((self.cell < 0).sum())

    @property
    def index(self) -> Int[Tensor, " m"]:
        """Which entries have one."""
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

    Args:
        task: from `mas_hooks.task`.
        trials: how many are drawn.
        seed: of the draws.

    Returns:
        The cells, with every variable of the task's program.

    Raises:
        EmptyError: no trial is asked for.

    Example:
        >>> import mas_hooks as mh
        >>> cells = mh.latents.natural_cells(mh.task("multi_object"), trials=50)
        >>> sorted(cells.variables), len(cells) == len(cells.variables["count"])
        (['count', 'last_value', 'phase'], True)
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

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> site = mh.recording(torch.randn(3, 2, 8), {"count": [[1, 2], [1, None], [0, 3]]}, "probe")
        >>> mh.latents.cells_of_recording(site).variables["count"].tolist()
        [1, 2, 1, None, 0, 3]
    """
    rows, positions = site.activations.shape[:2]
    where = Where.from_mask(torch.ones(rows, positions, dtype=torch.bool))
    variables = {name: values.reshape(-1) for name, values in site.variables.items()}
    return NaturalCells(f"recording {site.name!r}", None, where, variables)


def match_values(pairs: Pairs, cells: NaturalCells, seed: Seed = 0) -> Matches:
    """For each target cell of the pairs one natural cell with the values expected there after the swap.

    The cell is drawn uniformly and once, by seed alone.

    Args:
        pairs: with their `expected` values, as `task_pairs` makes them.
        cells: of the target's task.
        seed: of the draws.

    Returns:
        One natural cell, or none, for each target cell.

    Raises:
        SettingError: the pairs do not say what is expected, or text is compared with numbers.
        UnknownNameError: the cells lack a variable of the pairs.
        EmptyError: no target cell has a match.

    Example:
        >>> import mas_hooks as mh
        >>> train, _, _ = mh.task_pairs(["multi_object"], ["full"], sizes=(20, 1, 1))
        >>> matches = mh.latents.match_values(train[0, 0], mh.latents.natural_cells(mh.task("multi_object"), 500))
        >>> len(matches), matches.dropped
        (20, 0)
    """
    if pairs.expected is None:
        raise SettingError("expected of the pairs", None, "the target's variables after the swap, name -> values")
    return look_up(pairs.expected, cells, seed)


def look_up(wanted: Values, cells: NaturalCells, seed: Seed = 0) -> Matches:
    """For each of n wanted sets of values, name -> (n,), a cell drawn uniformly from those that have exactly these.

    The draw of entry i depends on the seed, on i and on the cells with its values, on nothing else.

    Args:
        wanted: name -> (n,) values.
        cells: with these variables.
        seed: of the draws.

    Returns:
        One natural cell, or none, for each entry.

    Raises:
        UnknownNameError: the cells lack a wanted variable.
        SettingError: text is compared with numbers.
        EmptyError: nothing is wanted, or no entry has a match.

    Example:
        >>> import numpy as np
        >>> import mas_hooks as mh
        >>> cells = mh.latents.natural_cells(mh.task("multi_object"), trials=200)
        >>> matches = mh.latents.look_up({"phase": np.array(["demo"]), "count": np.array([3])}, cells)
        >>> cells.variables["phase"][matches.cell].item(), cells.variables["count"][matches.cell].item()
        ('demo', 3)
    """
    if not wanted:
        raise EmptyError("the set of wanted variables", "name at least one, for example count")
    codes, asked = _code_values(wanted, cells)
    order = np.argsort(codes, kind="stable")
    first, last = (np.searchsorted(codes[order], asked, side) for side in ("left", "right"))
    matched = (last > first) & (asked >= 0)
    if len(asked) and not matched.any():
        raise _no_match(wanted, cells)
    share = np.random.default_rng(seed).random(len(asked))
    among = np.minimum((share * (last - first)).astype(np.int64), np.maximum(last - first - 1, 0))
    number = np.where(matched, order[np.minimum(first + among, len(order) - 1)], -1)
    return Matches(torch.from_numpy(number))


def _code_values(wanted: Values, cells: NaturalCells) -> tuple[np.ndarray, np.ndarray]:
    """One number per cell and per wanted entry, equal where all values are; −1 where a value is unknown."""
    count, whole, unknown = len(cells), np.zeros(1, np.int64), np.zeros(1, bool)
    for name, values in wanted.items():
        if name not in cells.variables:
            raise UnknownNameError("variable", name, cells.variables, cells.name)
        natural, unknown_natural = _fill_unknown(cells.variables[name])
        asked, unknown_asked = _fill_unknown(values)
        if (natural.dtype.kind == "U") != (asked.dtype.kind == "U"):
            kinds = ["text" if array.dtype.kind == "U" else "numbers" for array in (natural, asked)]
            what = f"the kind of variable {name!r} of {cells.name}"
            raise SettingError(what, kinds[0], f"{kinds[1]}, as the pairs have it")
        different, codes = np.unique(np.concatenate([natural, asked]), return_inverse=True)
        unknown = unknown | np.concatenate([unknown_natural, unknown_asked])
        _, whole = np.unique(whole * len(different) + codes, return_inverse=True)
    whole = np.where(unknown, -1, whole)
    return whole[:count], whole[count:]


def _fill_unknown(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _no_match(wanted: Values, cells: NaturalCells) -> EmptyError:
    first = ", ".join(f"{name}={values[:1].tolist()[0]!r}" for name, values in wanted.items())
    number = len(next(iter(wanted.values())))
    remedy = f"give cells with the values of any of the {number} that are wanted, such as {first}"
    return EmptyError(f"the set of counterfactual latents from the {len(cells)} cells of {cells.name}", remedy)


def look_up_cells(
    pairs: Mapping[tuple[int, int], Pairs], model: int, task: AbstractTask[Any], cells: NaturalCells, seed: int = 0
) -> dict[tuple[int, int], Pairs]:
    """Pairs of `task_pairs` whose cells in one model are natural cells with the same variables, drawn uniformly.

    A pair without a matching cell is left out and counted in `redraws`. Pairs into the model lose their labels, which
    become (n, 0): they serve the latent loss alone. The same seed gives the same cells, whether these are in a
    recording or in the model that was recorded.

    Args:
        pairs: of every direction, from `task_pairs`.
        model: its number in the directions.
        task: that model's; its "full" variables are compared.
        cells: natural cells of that model, or those of its recording.
        seed: of the draws.

    Returns:
        The pairs of every direction; those without the model are the same objects.

    Raises:
        UnsupportedError: the pairs are not tokens of a task.
        UnknownNameError, SettingError, EmptyError: the cells do not fit, see `look_up`.

    Example:
        >>> import mas_hooks as mh
        >>> task = mh.task("multi_object")
        >>> train, _, _ = mh.task_pairs([task, task], ["full", "full"], sizes=(20, 1, 1))
        >>> cells = mh.latents.natural_cells(task, trials=500)
        >>> looked_up = mh.latents.look_up_cells(train, 0, task, cells)
        >>> looked_up[1, 1] is train[1, 1], looked_up[1, 0].labels.shape[1]
        (True, 0)
    """
    directed = dict(pairs)
    for direction in pairs:
        if direction[0] == model:
            directed[direction] = _look_up_side(directed[direction], "source", task, cells, (seed, *direction, 0))
        if direction[1] == model:
            received = _look_up_side(directed[direction], "target", task, cells, (seed, *direction, 1))
            directed[direction] = _drop_labels(received)
    return directed


def _look_up_side(
    pairs: Pairs, side: Literal["source", "target"], task: AbstractTask[Any], cells: NaturalCells, seed: Sequence[int]
) -> Pairs:
    """The pairs that have a matching cell, with that cell on one side."""
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
    natural, there = _take_cells(cells.inputs, cells.where, matches.cell[matches.index])
    changed = {f"{side}_inputs": natural, f"{side}_where": there, "redraws": pairs.redraws + matches.dropped}
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
