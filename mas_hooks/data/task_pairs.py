"""The pairs that the built-in tasks write themselves, for every direction between models."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks.core.errors import EmptyError, SettingError
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.tasks import (
    AbstractTask,
    Counterfactual,
    CounterfactualSettings,
    Party,
    draw_counterfactual,
    draw_stepwise,
)
from mas_hooks.data.tasks import task as make_task
from mas_hooks.data.tasks.base import variable_values
from mas_hooks.data.tasks.counterfactual import DEFAULTS

LabelScope = Literal["continuation", "deterministic"]
Write: TypeAlias = Callable[[Party, Party, random.Random, int], Pairs]


def task_pairs(
    tasks: Sequence[AbstractTask | str],
    variables: Sequence[str],
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000),
    seed: int = 0,
    label_scope: LabelScope = "continuation",
    settings: CounterfactualSettings = DEFAULTS,
    *,
    stepwise: bool = False,
) -> tuple[dict[tuple[int, int], Pairs], dict[tuple[int, int], Pairs], dict[tuple[int, int], Pairs]]:
    """Training, validation and test pairs for every direction between models; one task and variable per model.

    Directions whose task and variable agree on both sides share one set of pairs, and so its activations.

    Args:
        tasks: from `mas_hooks.task`, or their names.
        variables: names in `task.variables`, such as "full" (everything the task's program keeps) or "count".
        sizes: pairs of a direction in each set.
        seed: of all draws.
        label_scope: `continuation` scores every token from the swap on, `deterministic` only those the task fixes.
        settings: how counterfactual continuations are drawn.
        stepwise: swap all positions up to the drawn one, not that one alone (`methods.stepwise`); "full" only.

    Returns:
        Three sets, each {(source, target): Pairs}.

    Raises:
        SettingError: the variables are not one per task, two of them cannot stand for each other, or a setting does not
            exist.
        EmptyError: a set of no pairs is asked for.
        UnknownNameError: there is no such task or variable.

    Example:
        >>> import mas_hooks as mh
        >>> train, valid, test = mh.task_pairs(["multi_object", "arithmetic"], ["count", "rem_ops"], sizes=(20, 5, 5))
        >>> sorted(train), train[0, 1]
        ([(0, 0), (0, 1), (1, 0), (1, 1)], Pairs(20 pairs, 20 swapped cells))
    """
    if len(tasks) != len(variables):
        raise SettingError("the number of variables", len(variables), f"one per task, {len(tasks)}")
    if label_scope not in get_args(LabelScope):
        raise SettingError("label_scope", label_scope, " or ".join(map(repr, get_args(LabelScope))))
    if min(sizes) < 1:
        raise EmptyError(f"one of the sets of pairs (sizes {sizes})", "ask for at least one pair in each")
    known = [make_task(given) if isinstance(given, str) else given for given in tasks]
    parties = [Party(each, variable) for each, variable in zip(known, variables, strict=True)]

    def write(giver: Party, receiver: Party, rng: random.Random, size: int) -> Pairs:
        draw = draw_stepwise if stepwise else draw_counterfactual
        draws = [draw(giver, receiver, rng, settings) for _ in range(size)]
        return _to_tensors(giver, receiver, draws, label_scope, stepwise)

    splits = [_make_direction(parties, f"{seed}/{split}", size, write) for split, size in enumerate(sizes)]
    return splits[0], splits[1], splits[2]


def _make_direction(parties: Sequence[Party], seed: str, size: int, write: Write) -> dict[tuple[int, int], Pairs]:
    """One split: every direction's pairs, made once for parties that are the same."""
    shared: dict[tuple[Party, Party], Pairs] = {}
    directed: dict[tuple[int, int], Pairs] = {}
    for source, giver in enumerate(parties):
        for target, receiver in enumerate(parties):
            if (giver, receiver) not in shared:
                shared[giver, receiver] = write(giver, receiver, random.Random(f"{seed}/{source}/{target}"), size)
            directed[source, target] = shared[giver, receiver]
    return directed


def _to_tensors(
    giver: Party, receiver: Party, draws: Sequence[Counterfactual], label_scope: LabelScope, stepwise: bool
) -> Pairs:
    """Left-aligned ids; the label of a position is the token after it."""
    source = torch.from_numpy(giver.task.vocabulary.pad([drawn.source_tokens for drawn in draws]))
    whole = torch.from_numpy(receiver.task.vocabulary.pad([drawn.target_tokens for drawn in draws]))
    lengths = torch.tensor([len(drawn.target_tokens) for drawn in draws])
    swaps = torch.tensor([drawn.target_position for drawn in draws])
    positions = torch.arange(whole.shape[1] - 1)
    continuation = (positions >= swaps[:, None]) & (positions < lengths[:, None] - 1)
    fixed = torch.zeros(whole.shape, dtype=torch.bool)
    for row, drawn in enumerate(draws):
        fixed[row, : len(drawn.deterministic)] = torch.tensor(drawn.deterministic)
    deterministic = fixed[:, 1:] & continuation
    given = torch.tensor([drawn.source_position for drawn in draws])
    return Pairs(
        source,
        _cells_up_to(given) if stepwise else Where.one_per_row(given),
        whole[:, :-1].contiguous(),
        _cells_up_to(swaps) if stepwise else Where.one_per_row(swaps),
        whole[:, 1:].contiguous(),
        continuation if label_scope == "continuation" else deterministic,
        deterministic,
        torch.tensor(_source_keys(giver, draws, stepwise)),
        sum(drawn.redraws for drawn in draws),
        None if stepwise else _expected_values(draws),
    )


def _cells_up_to(last: Int[Tensor, " n"]) -> Where:
    """All cells of row i from 0 to last[i], row by row."""
    return Where.from_mask(torch.arange(int(last.max()) + 1) <= last[:, None])


def _expected_values(draws: Sequence[Counterfactual]) -> dict[str, np.ndarray]:
    return {name: np.array([drawn.expected[name] for drawn in draws]) for name in draws[0].expected}


def _source_keys(giver: Party, draws: Sequence[Counterfactual], stepwise: bool) -> list[int]:
    """A number for the values at every source cell, the same in every set of pairs."""
    if stepwise:
        held = (
            variable_values(state, giver.names) for drawn in draws for state in giver.task.replay(drawn.source_tokens)
        )
    else:
        held = (drawn.source_variables for drawn in draws)
    return [zlib.crc32(repr(tuple(values[name] for name in giver.names)).encode()) for values in held]
