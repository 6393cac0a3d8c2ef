"""What a task is: a grammar that draws trials, and a program whose variables can be swapped."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks.vocabulary import PAD, Vocabulary

Variables = Mapping[str, int | str]
"""Values of named variables after a token was read."""

StateT = TypeVar("StateT")

BEGIN, END = "B", "E"
NO_SWAPS: Mapping[int, Variables] = MappingProxyType({})


class AbstractProgram(ABC, Generic[StateT]):
    """A causal model: it reads one token at a time and keeps its variables in a state.

    `start` is the state before the first token, `names` are the variables of a state.

    Example:
        >>> from mas_hooks.data.tasks import AbstractProgram, task
        >>> program = task("single_object").program
        >>> isinstance(program, AbstractProgram), program.names
        (True, ('phase', 'count', 'last_value'))
        >>> program.step(program.start, "B").phase
        'demo'
    """

    start: ClassVar[Any]
    names: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def trained_range(self) -> str:
        """The values that training shows at a position that may be swapped, in words."""

    @abstractmethod
    def step(self, state: StateT, token: str) -> StateT | None:
        """The state after one more token, or None where the grammar does not allow it."""

    @abstractmethod
    def swap_values(self, state: StateT, variables: Variables) -> StateT:
        """The state with some variables overridden; what is then out of range is for `in_range` to see."""

    @abstractmethod
    def in_range(self, state: StateT) -> bool:
        """Whether this task's training shows these values at a position that may be swapped."""


@dataclass(frozen=True)
class AbstractTask(ABC, Generic[StateT]):
    """A task: whole trials at random, and what its program makes of them.

    `variables` lists what can be swapped by name, with the program's variables behind each name. `quantities` gives,
    for the names that are one number, the values it takes where swaps are allowed: any two of those may be exchanged.

    Example:
        >>> from mas_hooks.data.tasks import AbstractTask, task
        >>> counting = task("single_object")
        >>> isinstance(counting, AbstractTask), counting.variables["full"], counting.quantities
        (True, ('phase', 'count'), {'count': range(0, 21)})
    """

    name: str
    program: AbstractProgram[StateT]
    vocabulary: Vocabulary
    variables: Mapping[str, tuple[str, ...]] = field(compare=False, repr=False)
    quantities: Mapping[str, range] = field(compare=False, repr=False)

    @property
    @abstractmethod
    def fill(self) -> str:
        """The token that stands past the end of a trial where a stepwise swap reaches beyond it."""

    @abstractmethod
    def sample(self, rng: random.Random, quantity: int | None = None, training: bool = False) -> tuple[str, ...]:
        """A whole trial.

        Args:
            rng: draws it.
            quantity: its size, default uniform.
            training: whether void tokens and hold-outs are on.

        Returns:
            Its tokens.

        Raises:
            SettingError: the task has no such quantity.
        """

    @abstractmethod
    def draw_quantities(self, training: bool = False) -> Sequence[int]:
        """The sizes that `sample` draws from, all equally often."""

    @abstractmethod
    def replay(self, tokens: Sequence[str], swaps: Mapping[int, Variables] = NO_SWAPS) -> tuple[StateT, ...]:
        """The state after each token; `swaps[position]` overrides variables after that token was read.

        Raises SettingError at the first token that the grammar does not allow, and for a swap that is out of range.
        """

    @abstractmethod
    def deterministic(self, tokens: Sequence[str], start: StateT | None = None) -> tuple[bool, ...]:
        """One flag per token: True where the task fixes it. `tokens` is a trial, or what follows the state `start`."""

    @abstractmethod
    def swap_positions(self, tokens: Sequence[str]) -> list[int]:
        """The positions of a trial where a single-position intervention is allowed."""

    @abstractmethod
    def choose(self, rng: random.Random, state: StateT, trial: Sequence[str] | None = None) -> tuple[str, ...]:
        """The tokens that the task, not its program, supplies after a state.

        Args:
            rng: draws them.
            state: after which they stand.
            trial: the tokens of the one whose size to keep; None for any size.

        Returns:
            The free tokens, for `complete`.
        """

    @abstractmethod
    def complete(self, state: StateT, choices: Sequence[str]) -> tuple[str, ...]:
        """All tokens from `state` to E, given the free ones. Raises SettingError for choices that are not allowed."""


def variable_values(state: object, names: Iterable[str]) -> dict[str, int | str]:
    """The named variables of a state."""
    return {name: getattr(state, name) for name in names}


def run_program(
    task: AbstractTask[StateT], tokens: Sequence[str], swaps: Mapping[int, Variables]
) -> tuple[StateT, ...]:
    """The `replay` of every task: its program reads token by token, with its variables swapped on the way.

    Args:
        task: with its program.
        tokens: a trial, or its beginning.
        swaps: position -> variables that are overridden after the token there.

    Returns:
        The state after each token.

    Raises:
        SettingError: the grammar does not allow a token, or a swap is out of range.
        UnknownNameError: the program has no such variable.
    """
    _check_positions(task, tokens, swaps)
    program, state = task.program, task.program.start
    states: list[StateT] = []
    for position, token in enumerate(tokens):
        after = program.step(state, token)
        if after is None:
            raise _ungrammatical(task, state, position, token)
        state = _swap(task, after, swaps[position], position) if position in swaps else after
        states.append(state)
    return tuple(states)


def _swap(task: AbstractTask[StateT], state: StateT, variables: Variables, position: int) -> StateT:
    program = task.program
    for name in variables:
        if name not in program.names:
            raise UnknownNameError("program variable", name, program.names, f"task {task.name}")
    swapped = program.swap_values(state, variables)
    if not program.in_range(swapped):
        where = f"the swap at position {position} of this {task.name} trial"
        raise SettingError(where, dict(variables), f"within {program.trained_range} afterwards")
    return swapped


def _check_positions(task: AbstractTask[Any], tokens: Sequence[str], swaps: Mapping[int, Variables]) -> None:
    allowed = task.swap_positions(tokens) if swaps else []
    for position in swaps:
        if position not in allowed:
            raise SettingError(f"a swap position of this {task.name} trial", position, f"one of {allowed}")


def _ungrammatical(task: AbstractTask[StateT], state: StateT, position: int, token: str) -> SettingError:
    legal = [other for other in task.vocabulary.tokens if other != PAD and task.program.step(state, other) is not None]
    allowed = " or ".join(map(repr, legal)) if legal else f"absent, because {END!r} ended the trial"
    return SettingError(f"token {position} of this {task.name} trial", token, allowed)
