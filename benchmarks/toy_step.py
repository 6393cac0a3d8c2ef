"""Milliseconds of one MAS training step on toy GRUs, all four directions, next to a naive twin in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import mas_hooks as mh
from mas_hooks.alignment import Direction, PatchedDirections, complete_basis
from mas_hooks.core.settings import Settings as Base
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.tasks import task
from mas_hooks.engine import ActivationCache
from mas_hooks.models.toys import RecurrentModel
from mas_hooks.studies.measurements import Measurement, peak_mb
from mas_hooks.training import behaviour_losses

LEARNING_RATE = 3e-3
DIRECTIONS = [Direction(source, target) for target in range(2) for source in range(2)]


class Settings(Base):
    """What is measured."""

    widths: tuple[int, ...] = (48, 128)
    """Units of the two GRUs."""
    batches: tuple[int, ...] = (128, 512)
    """Pairs a direction and step."""
    rank: int = 16
    """Aligned dims."""
    repeats: int = 15
    """Timed steps of each variant; they take turns."""
    naive_repeats: int = 5
    """Timed steps of the naive twin, which is slow."""
    threads: int = 2
    """Torch threads."""
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """Two random-weight GRUs and one batch of pairs: every variant sees the same."""

    models: tuple[RecurrentModel, RecurrentModel]
    pairs: Pairs
    rank: int


def make(width: int, batch: int, settings: Settings) -> Bench:
    """Build the models in eval mode, frozen, and draw a batch of Full pairs.

    Args:
        width: Units of each GRU.
        batch: Pairs a direction.
        settings: The seed and the rank.

    Returns:
        What every variant of the step starts from.
    """
    torch.manual_seed(settings.seed)
    known = task("multi_object")
    models = [RecurrentModel(len(known.vocabulary.tokens), width).eval().requires_grad_(False) for _ in range(2)]
    train, _, _ = mh.task_pairs([known] * 2, ["full"] * 2, (batch, 1, 1), settings.seed)
    return Bench((models[0], models[1]), train[0, 0], settings.rank)


def ours(bench: Bench, path: str = "auto") -> Callable[[], float]:
    """A step of this package: cached activations, frames evaluated once, one pass per target from the state on."""
    sites = [mh.wrap(model, name=f"gru-{index}").at("state") for index, model in enumerate(bench.models)]
    alignment = mh.Alignment(sites, rank=bench.rank)
    swaps = PatchedDirections(alignment, bench.pairs, DIRECTIONS, ActivationCache(sites, alignment.models), path)
    optimizer = torch.optim.Adam(alignment.parameters(), lr=LEARNING_RATE)
    batch = dict.fromkeys(DIRECTIONS, torch.arange(len(bench.pairs)))

    def step() -> float:
        operator = alignment.swap_operator()
        losses = [
            behaviour_losses(labelled, [len(bench.pairs)] * len(ways), "trial")
            for ways, labelled in swaps.run(operator, batch)
        ]
        return _update(optimizer, torch.cat(losses).sum())

    return step


def naive(bench: Bench) -> Callable[[], float]:
    """A step as research code does it: a cell loop over whole sequences, for source and target of every direction
    anew, and a full rotation that is rebuilt at every use."""
    cells = [_cell(model) for model in bench.models]
    sites = [mh.wrap(model, name=f"gru-{index}").at("state") for index, model in enumerate(bench.models)]
    frames = [site_map.view().frame for site_map in mh.Alignment(sites, rank=bench.rank).site_maps]  # pyright: ignore
    maps = [_rotation(frame) for frame in frames]
    optimizer = torch.optim.Adam(
        [parameter for site_map in maps for parameter in site_map.parameters()], lr=LEARNING_RATE
    )

    def step() -> float:
        total = torch.zeros(())
        for source, target in DIRECTIONS:
            given = _states_at(bench.models[source], cells[source], bench.pairs)
            logits = _rerun(bench, (source, target), cells[target], maps, given)
            total = total + _loss(logits, bench.pairs)
        return _update(optimizer, total)

    return step


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _cell(model: RecurrentModel) -> nn.GRUCell:
    cell = nn.GRUCell(model.rnn.input_size, model.rnn.hidden_size).requires_grad_(False)
    for name, parameter in cell.named_parameters():
        parameter.copy_(getattr(model.rnn, f"{name}_l0"))
    return cell


def _rotation(frame: Tensor) -> nn.Module:
    width = len(frame)
    linear = parametrizations.orthogonal(nn.Linear(width, width, bias=False))
    linear.weight = complete_basis(frame.detach().double()).float().mT.contiguous()
    return linear


def _states_at(model: RecurrentModel, cell: nn.GRUCell, pairs: Pairs) -> Tensor:
    """The source states, by a loop over the whole sequence."""
    ids = pairs.source_inputs
    assert isinstance(ids, Tensor)
    state, states = torch.zeros(len(ids), cell.hidden_size), []
    for column in range(ids.shape[1]):
        state = cell(model.embedding(ids[:, column]), state)
        states.append(state)
    return pairs.source_where.gather(torch.stack(states, 1))


def _rerun(bench: Bench, way: tuple[int, int], cell: nn.GRUCell, maps: list[nn.Module], given: Tensor) -> Tensor:
    """Logits of the whole target sequences, each row swapped at its step."""
    model, ids, at = bench.models[way[1]], bench.pairs.target_inputs, bench.pairs.target_where.columns
    assert isinstance(ids, Tensor)
    mask = (torch.arange(cell.hidden_size) < bench.rank).float()
    state, logits = torch.zeros(len(ids), cell.hidden_size), []
    for column in range(ids.shape[1]):
        state = cell(model.embedding(ids[:, column]), state)
        rows = at == column
        if rows.any():
            kept = (1 - mask) * functional.linear(state[rows], _rebuild_matrix(maps[way[1]]))
            mixed = kept + mask * functional.linear(given[rows], _rebuild_matrix(maps[way[0]]))
            state = state.index_put((rows.nonzero()[:, 0],), mixed @ _rebuild_matrix(maps[way[1]]))
        logits.append(model.head(state))
    return torch.stack(logits, 1)


def _rebuild_matrix(rotation: nn.Module) -> Tensor:
    """Evaluate the matrix of a rotation again: one read or write of a map that nobody caches."""
    matrix = rotation.weight
    assert isinstance(matrix, Tensor)
    return matrix


def _loss(logits: Tensor, pairs: Pairs) -> Tensor:
    surprise = functional.cross_entropy(logits.flatten(0, 1), pairs.labels.flatten(), reduction="none")
    weight = pairs.label_mask.float()
    return ((surprise.view_as(weight) * weight).sum(1) / weight.sum(1)).mean()


def main(settings: Settings) -> list[Measurement]:
    """Time every variant at every width and batch. They take turns: a slow moment of the machine hits all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        return [
            row for width in settings.widths for batch in settings.batches for row in _measure(width, batch, settings)
        ]
    finally:
        torch.set_num_threads(threads)


def _measure(width: int, batch: int, settings: Settings) -> list[Measurement]:
    bench = make(width, batch, settings)
    steps = {"ours": ours(bench), "ours, whole forward": ours(bench, "reference"), "naive twin": naive(bench)}
    first = {name: step() for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(settings.repeats):
        for name, step in steps.items():
            if name != "naive twin" or turn < settings.naive_repeats:
                began = time.perf_counter()
                step()
                times[name].append(1e3 * (time.perf_counter() - began))
    median = {name: statistics.median(spent) for name, spent in times.items()}
    return [
        Measurement(
            bench="toy-step",
            variant=name,
            method="mas",
            device="cpu",
            dtype="float32",
            batch=batch,
            width=width,
            rank=settings.rank,
            models=2,
            ms_median=median[name],
            ms_min=min(times[name]),
            ms_max=max(times[name]),
            pairs_per_s=len(DIRECTIONS) * batch / median[name] * 1e3,
            peak_mb=peak_mb(step),
            ratio=median[name] / median["ours"],
            loss=first[name],
        )
        for name, step in steps.items()
    ]
