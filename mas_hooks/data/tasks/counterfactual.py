"""Counterfactual trials: what a target's program says after a source's variables were put into it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.data.tasks.base import AbstractTask, StateT, Variables, variable_values

DemoContinuation = Literal["uniform", "to_quantity"]
MOST_REDRAWS = 10_000


@dataclass(frozen=True)
class Party:
    """One side of a swap: a task and the name of the variable that it gives or takes.

    Raises UnknownNameError for a variable that the task does not have.

    Example:
        >>> from mas_hooks.data.tasks import Party, task
        >>> Party(task("multi_object"), "full").names
        ('phase', 'count')
    """

    task: AbstractTask[Any]
    variable: str

    def __post_init__(self) -> None:
        if self.variable not in self.task.variables:
            raise UnknownNameError("variable", self.variable, self.task.variables, f"task {self.task.name}")

    @property
    def names(self) -> tuple[str, ...]:
        """The program's variables behind the name."""
        return self.task.variables[self.variable]


@dataclass(frozen=True)
class CounterfactualSettings:
    """How continuations are drawn.

    demo_continuation: after a swap that lands in the demo phase, take 0 to 3 more demo tokens (`uniform`) or run to
    the target trial's own quantity (`to_quantity`, the authors' code). Stepwise swaps go on as the source trial does.
    stepwise_fill: what stands past the end of a target trial that is shorter than a stepwise swap; None is the
    task's own `fill`: the response token, or E in arithmetic.

    Example:
        >>> from mas_hooks.data.tasks import CounterfactualSettings
        >>> CounterfactualSettings(demo_continuation="to_quantity").stepwise_fill is None
        True
    """

    demo_continuation: DemoContinuation = "uniform"
    stepwise_fill: str | None = None

    def __post_init__(self) -> None:
        allowed = get_args(DemoContinuation)
        if self.demo_continuation not in allowed:
            raise SettingError("demo_continuation", self.demo_continuation, " or ".join(map(repr, allowed)))


DEFAULTS = CounterfactualSettings()


@dataclass(frozen=True)
class Counterfactual:
    """A source cell, a target cell, and the trial that the target's program now expects.

    `source_tokens` ends at the source position; `target_tokens` is whole: the target's tokens up to its position,
    then the continuation. `deterministic` is True only after the target position. `expected` are the target's
    variables right after the swap: phase and count (numeric) or both values (arithmetic), whichever of them was
    swapped; `last_value` alone where that was swapped, for it belongs to the token and not to a state.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import Party, draw_counterfactual, task
        >>> party = Party(task("single_object"), "count")
        >>> drawn = draw_counterfactual(party, party, random.Random(0))
        >>> drawn.expected["count"] == drawn.source_variables["count"], drawn.target_tokens[-1]
        (True, 'E')
    """

    source_tokens: tuple[str, ...]
    source_position: int
    target_tokens: tuple[str, ...]
    target_position: int
    deterministic: tuple[bool, ...]
    source_variables: Variables
    expected: Variables
    redraws: int


class Cell(NamedTuple):
    """A position of a trial, and the program's state after the token there."""

    tokens: tuple[str, ...]
    position: int
    state: Any


def draw_counterfactual(
    source: Party, target: Party, rng: random.Random, settings: CounterfactualSettings = DEFAULTS
) -> Counterfactual:
    """A random pair of trials and positions, and its counterfactual.

    Both cells are drawn again (and counted) until the swapped values lie in the receiver's trained range.

    Args:
        source: the task and the variable that is given.
        target: the task and the variable that receives it.
        rng: of the draws.
        settings: how the continuation is drawn.

    Returns:
        Both cells, and the trial that the target's program then expects.

    Raises:
        SettingError: the two variables cannot stand for each other, or share no value.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import Party, draw_counterfactual, task
        >>> source, target = Party(task("multi_object"), "count"), Party(task("arithmetic"), "rem_ops")
        >>> drawn = draw_counterfactual(source, target, random.Random(0))
        >>> drawn.expected["rem_ops"] == drawn.source_variables["count"]
        True
    """
    shared = _shared_values(source, target)
    for redraws in range(MOST_REDRAWS):
        given = draw_cell(source.task, rng)
        passed = [getattr(given.state, name) for name in source.names]
        if shared is not None and passed[0] not in shared:
            continue  # the target cell is independent of the source cell, so it need not be drawn
        taken = draw_cell(target.task, rng)
        state = target.task.program.swap_values(taken.state, dict(zip(target.names, passed, strict=True)))
        if target.task.program.in_range(state):
            trial = taken.tokens if settings.demo_continuation == "to_quantity" else None
            added = target.task.complete(state, target.task.choose(rng, state, trial))
            return _write_tokens(source, target, (given, taken._replace(state=state)), added, redraws)
    raise out_of_range(source, target)


def continue_trial(
    task: AbstractTask[Any], prefix: Sequence[str], variables: Variables, choices: Sequence[str] = ()
) -> tuple[str, ...]:
    """What follows `prefix` once `variables` are put in at its last token, for given free tokens.

    Args:
        task: whose program goes on.
        prefix: the target's tokens up to the swap.
        variables: name -> value after the last of them.
        choices: further demo tokens (numeric, demo phase), or operator and operand of each operation left (arithmetic).

    Returns:
        The tokens after the prefix, up to E.

    Raises:
        EmptyError: there is no prefix.
        SettingError: the grammar does not allow a token or a choice, or a value is out of range.

    Example:
        >>> from mas_hooks.data.tasks import continue_trial, task
        >>> continue_trial(task("single_object"), ("B", "D", "D"), {"phase": "response", "count": 3})
        ('R', 'R', 'R', 'E')
    """
    if not prefix:
        raise EmptyError("the prefix", "give the target's tokens up to the swap")
    state = task.replay(prefix, {len(prefix) - 1: variables})[-1]
    return task.complete(state, choices)


def draw_cell(task: AbstractTask[StateT], rng: random.Random) -> Cell:
    """A uniform allowed position of a trial that has one."""
    positions: list[int] = []
    tokens: tuple[str, ...] = ()
    while not positions:
        tokens = task.sample(rng)
        positions = task.swap_positions(tokens)
    position = rng.choice(positions)
    return Cell(tokens, position, task.replay(tokens[: position + 1])[-1])


def _write_tokens(
    source: Party, target: Party, cells: tuple[Cell, Cell], added: tuple[str, ...], redraws: int
) -> Counterfactual:
    given, taken = cells
    kept = taken.tokens[: taken.position + 1]
    return Counterfactual(
        source_tokens=given.tokens[: given.position + 1],
        source_position=given.position,
        target_tokens=kept + added,
        target_position=taken.position,
        deterministic=(False,) * len(kept) + target.task.deterministic(added, taken.state),
        source_variables=variable_values(given.state, source.task.program.names),
        expected=variable_values(taken.state, _expected_names(target)),
        redraws=redraws,
    )


def _expected_names(target: Party) -> tuple[str, ...]:
    full = target.task.variables["full"]
    return full if set(target.names) <= set(full) else target.names


def _shared_values(source: Party, target: Party) -> range | None:
    """The values that two quantities share; None for other variables, which must be the same on both sides."""
    given, taken = source.task.quantities.get(source.variable), target.task.quantities.get(target.variable)
    if given is not None and taken is not None:
        shared = range(max(given.start, taken.start), min(given.stop, taken.stop))
        if not shared:
            raise SettingError(pair_name(source, target), f"{_span(given)} → {_span(taken)}", "able to share a value")
        return shared
    if source.names != target.names:
        numbers = sorted({*source.task.quantities, *target.task.quantities})
        raise SettingError("the pair of variables", pair_name(source, target), f"the same twice, or two of {numbers}")
    return None


def out_of_range(source: Party, target: Party) -> SettingError:
    """For parties that never drew values that both know."""
    tried = f"out of range {MOST_REDRAWS} times in a row"
    return SettingError(pair_name(source, target), tried, "able to share a value")


def pair_name(source: Party, target: Party) -> str:
    """Two parties in an error."""
    return f"{source.task.name} {source.variable} → {target.task.name} {target.variable}"


def _span(numbers: range) -> str:
    return f"{numbers.start} to {numbers.stop - 1}"
