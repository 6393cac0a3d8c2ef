"""Stepwise counterfactuals: everything up to a position is swapped, and the target goes on as the source would."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks.base import AbstractTask, variable_values
from mas_hooks.data.tasks.counterfactual import (
    DEFAULTS,
    MOST_REDRAWS,
    Cell,
    Counterfactual,
    CounterfactualSettings,
    Party,
    draw_cell,
    out_of_range,
    pair_name,
)
from mas_hooks.data.tasks.numeric import TRIGGER, NumericTask

FULL = "full"


def draw_stepwise(
    source: Party, target: Party, rng: random.Random, settings: CounterfactualSettings = DEFAULTS
) -> Counterfactual:
    """A random pair of trials whose cells 0 to u are all swapped, and its counterfactual (Grant 2025, §2.4.3).

    u is a swap position of the source trial, and the position on both sides. The target reads its own trial up to u,
    filled up where that has ended, then what the source trial goes on with: the same tokens in the same task; in
    another numeric task its program's answer to the source's phase and count, after as many more demo tokens of its
    own. Both are drawn again (and counted) where that leaves the receiver's trained range.

    Args:
        source: the task that gives, with "full".
        target: the task that receives, with "full".
        rng: of the draws.
        settings: what stands past the end of a target trial that is shorter than the swap.

    Returns:
        Both cells, and the trial that the target's program then expects.

    Raises:
        SettingError: a variable is not "full", or the tasks cannot go on for each other.
        UnknownNameError: the target's vocabulary does not have the fill.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import Party, draw_stepwise, task
        >>> party = Party(task("single_object"), "full")
        >>> drawn = draw_stepwise(party, party, random.Random(0))
        >>> drawn.source_position == drawn.target_position, drawn.target_tokens[-1]
        (True, 'E')
    """
    _check_parties(source, target)
    fill = _find_fill(target.task, settings)
    for redraws in range(MOST_REDRAWS):
        given = draw_cell(source.task, rng)
        end = given.position + 1
        continued = _continue_source(source.task, target.task, given, rng)
        if continued is not None:
            added, state = continued
            kept = (*target.task.sample(rng), *(fill,) * end)[:end]
            return Counterfactual(
                source_tokens=given.tokens[:end],
                source_position=given.position,
                target_tokens=kept + added,
                target_position=given.position,
                deterministic=(False,) * end + target.task.deterministic(added, state),
                source_variables=variable_values(given.state, source.task.program.names),
                expected=variable_values(state, target.names),
                redraws=redraws,
            )
    raise out_of_range(source, target)


def _are_alike(source: AbstractTask[Any], target: AbstractTask[Any]) -> bool:
    """Whether one task's tokens are the other's, and mean the same."""
    return source.program == target.program and source.vocabulary == target.vocabulary


def _check_parties(source: Party, target: Party) -> None:
    numeric = isinstance(source.task, NumericTask) and isinstance(target.task, NumericTask)
    if {source.variable, target.variable} != {FULL} or not (numeric or _are_alike(source.task, target.task)):
        allowed = "'full' on both sides, of one task or of two numeric ones"
        raise SettingError("the pair of variables of a stepwise swap", pair_name(source, target), allowed)


def _find_fill(task: AbstractTask[Any], settings: CounterfactualSettings) -> str:
    fill = task.fill if settings.stepwise_fill is None else settings.stepwise_fill
    if fill not in task.vocabulary.ids:
        raise UnknownNameError("token (stepwise_fill)", fill, task.vocabulary.tokens, f"the vocabulary of {task.name}")
    return fill


def _continue_source(
    source: AbstractTask[Any], target: AbstractTask[Any], given: Cell, rng: random.Random
) -> tuple[tuple[str, ...], Any] | None:
    """What the target says from the source's cell on, and its state there; None where that is out of range."""
    rest = given.tokens[given.position + 1 :]
    if _are_alike(source, target) or not isinstance(target, NumericTask):
        return rest, given.state
    more = rest.index(TRIGGER) if TRIGGER in rest else 0
    state = target.program.swap_values(target.program.start, variable_values(given.state, target.variables[FULL]))
    if not target.program.in_range(replace(state, count=state.count + more)):
        return None
    return target.complete(state, rng.choices(target.program.demo, k=more)), state
