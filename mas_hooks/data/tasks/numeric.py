"""The numeric equivalence tasks: `B D^n T R^m E`, and the program behind all of them: count up, answer, count down.

`VARIANTS` is their table, `numeric_task` makes one. `NumericProgram` is the causal model: phase and count, read token
by token; `NumericTask` draws trials of the grammar.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast, final

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks.base import BEGIN, END, NO_SWAPS, AbstractProgram, AbstractTask, Variables, run_program
from mas_hooks.data.tasks.vocabulary import PAD, Vocabulary

TRIGGER, VOID = "T", "V"
DEMO, RESPONSE = "demo", "response"
_BEFORE, _AFTER = "start", "end"

VARIABLES = {"full": ("phase", "count"), "count": ("count",), "last_value": ("last_value",)}
"""What can be swapped by name, and the program's variables behind each name."""

MOST_MORE = 3
"""A continuation of the demo phase takes up to this many more demo tokens (Grant 2025, App. A.2)."""


def _same(count: int) -> int:
    return count


def _modulo_4(count: int) -> int:
    return count % 4


def _nearest_3(count: int) -> int:
    return (count + 1) // 3 * 3


@dataclass(frozen=True)
class Variant:
    """A row of the table: demo tokens, response token, m as a function of n.

    `reapplies`: a count swapped into the response phase goes through that function as well.
    """

    demo: tuple[str, ...]
    response: str = "R"
    answer: Callable[[int], int] = _same
    reapplies: bool = False


_THREE = ("Da", "Db", "Dc")
VARIANTS = {
    "multi_object": Variant(_THREE),
    "single_object": Variant(("D",)),
    "same_object": Variant(("C",), response="C"),
    "modulo": Variant(_THREE, answer=_modulo_4, reapplies=True),
    "rounding": Variant(_THREE, answer=_nearest_3),
}
"""The tasks by name: rows of one table."""


@final
@dataclass(frozen=True, slots=True)
class NumericState:
    """After a token: the phase (demo or response; start and end outside a trial), the count, and the token's own value.

    `last_value` is what the token did to the count: +1 for a demo token, −1 for a response token, else 0.
    """

    phase: str
    count: int
    last_value: int


@final
@dataclass(frozen=True)
class NumericProgram(AbstractProgram[NumericState]):
    """Counts demo tokens, turns the count n into `answers[n]` at T, and counts response tokens down to E.

    `reapplies`: a count swapped into the response phase goes through `answers` as well (Modulo).
    """

    demo: tuple[str, ...]
    response: str
    answers: tuple[int, ...]
    reapplies: bool = False

    start: ClassVar[NumericState] = NumericState(_BEFORE, 0, 0)
    names: ClassVar[tuple[str, ...]] = ("phase", "count", "last_value")

    @property
    def trained_range(self) -> str:
        """The trained counts of both phases, in words."""
        return f"count 0 to {len(self.answers) - 1} in the demo and 0 to {max(self.answers)} in the response phase"

    def step(self, state: NumericState, token: str) -> NumericState | None:
        """The state after one more token, or None where the grammar does not allow it."""
        if state.phase == DEMO:
            return self._demo_step(state.count, token)
        if state.phase == RESPONSE:
            return self._response_step(state.count, token)
        return NumericState(DEMO, 0, 0) if state.phase == _BEFORE and token == BEGIN else None

    def _demo_step(self, count: int, token: str) -> NumericState | None:
        if token in self.demo:
            return NumericState(DEMO, count + 1, 1) if count + 1 < len(self.answers) else None
        if token == VOID:
            return NumericState(DEMO, count, 0)
        # `B T` never occurs: an empty demo phase is no trial.
        return NumericState(RESPONSE, self.answers[count], 0) if token == TRIGGER and count > 0 else None

    def _response_step(self, count: int, token: str) -> NumericState | None:
        if count > 0:
            return NumericState(RESPONSE, count - 1, -1) if token == self.response else None
        return NumericState(_AFTER, 0, 0) if token == END else None

    def swap_values(self, state: NumericState, variables: Variables) -> NumericState:
        """The state with some variables overridden; a new last value moves the count by the difference.

        Raises SettingError for a phase or a last value that does not exist.
        """
        phase = cast("str", variables.get("phase", state.phase))
        last_value = cast("int", variables.get("last_value", state.last_value))
        if phase not in (DEMO, RESPONSE):
            raise SettingError("phase", phase, f"{DEMO!r} or {RESPONSE!r}")
        if "last_value" in variables and last_value not in (1, -1):
            raise SettingError("last_value", last_value, "1 or -1")
        count = cast("int", variables.get("count", state.count + last_value - state.last_value))
        if self.reapplies and phase == RESPONSE and "count" in variables and 0 <= count < len(self.answers):
            count = self.answers[count]
        return NumericState(phase, count, last_value)

    def in_range(self, state: NumericState) -> bool:
        """Whether the count is one that training shows in this phase."""
        most = len(self.answers) - 1 if state.phase == DEMO else max(self.answers)
        return 0 <= state.count <= most


@final
@dataclass(frozen=True)
class NumericTask(AbstractTask[NumericState]):
    """`B D^n T R^m E`, n uniform; made by `numeric_task`, which checks the settings.

    In training only, V stands before every demo token and before T with `void_probability`, again and again, and no
    quantity in `hold_outs` is drawn. Every numeric vocabulary holds V, so training and evaluation share one.

    Example:
        >>> from mas_hooks.data.tasks import numeric_task
        >>> task = numeric_task("single_object", max_quantity=3)
        >>> trial = ("B", "D", "D", "T", "R", "R", "E")
        >>> [(state.phase, state.count) for state in task.replay(trial)][2:5]
        [('demo', 2), ('response', 2), ('response', 1)]
        >>> task.deterministic(trial)
        (False, False, False, False, True, True, True)
    """

    program: NumericProgram
    void_probability: float = 0.0
    hold_outs: frozenset[int] = frozenset()

    @property
    def fill(self) -> str:
        """The response token (Grant 2025, §2.4.3)."""
        return self.program.response

    def sample(self, rng: random.Random, quantity: int | None = None, training: bool = False) -> tuple[str, ...]:
        """A whole trial.

        Args:
            rng: draws it.
            quantity: how many demo tokens, default uniform.
            training: whether void tokens and hold-outs are on.

        Returns:
            Its tokens.

        Raises:
            SettingError: this task does not have that quantity, or holds it out of training.
        """
        allowed = self.draw_quantities(training)
        quantity = rng.choice(allowed) if quantity is None else quantity
        if quantity not in allowed:
            raise SettingError("quantity", quantity, f"one of {', '.join(map(str, allowed))}")
        demo = (*rng.choices(self.program.demo, k=quantity), TRIGGER)
        if training and self.void_probability:
            demo = _with_voids(demo, rng, self.void_probability)
        return (BEGIN, *demo, *self._answer(quantity))

    def draw_quantities(self, training: bool = False) -> Sequence[int]:
        """The quantities that `sample` draws from."""
        every = range(1, len(self.program.answers))
        return [n for n in every if n not in self.hold_outs] if training and self.hold_outs else every

    def replay(self, tokens: Sequence[str], swaps: Mapping[int, Variables] = NO_SWAPS) -> tuple[NumericState, ...]:
        """The state after each token, with variables overridden where `swaps` says so."""
        return run_program(self, tokens, swaps)

    def deterministic(self, tokens: Sequence[str], start: NumericState | None = None) -> tuple[bool, ...]:
        """True for every response token and the E that follows: all that is read in the response phase."""
        if start is not None and start.phase == RESPONSE:
            return (True,) * len(tokens)
        trigger = tokens.index(TRIGGER) if TRIGGER in tokens else len(tokens) - 1
        return (False,) * (trigger + 1) + (True,) * (len(tokens) - trigger - 1)

    def swap_positions(self, tokens: Sequence[str]) -> list[int]:
        """The positions of demo and response tokens; never B, T, E or V."""
        allowed = {*self.program.demo, self.program.response}
        return [position for position, token in enumerate(tokens) if token in allowed]

    def choose(self, rng: random.Random, state: NumericState, trial: Sequence[str] | None = None) -> tuple[str, ...]:
        """More demo tokens, in the demo phase only.

        Args:
            rng: draws them.
            state: after which they stand.
            trial: the tokens of the one whose quantity to reach; None for uniformly many within the trained range.

        Returns:
            The tokens, for `complete`.
        """
        if state.phase != DEMO:
            return ()
        fewest = 1 if state.count == 0 else 0
        if trial is None:
            room = len(self.program.answers) - 1 - state.count
            more = rng.randint(fewest, min(MOST_MORE, room))
        else:
            shown = sum(token in self.program.demo for token in trial[: trial.index(TRIGGER)])
            more = max(fewest, shown - state.count)
        return tuple(rng.choices(self.program.demo, k=more))

    def complete(self, state: NumericState, choices: Sequence[str]) -> tuple[str, ...]:
        """`choices` as further demo tokens, T, then the answer; the rest of the answer in the response phase."""
        if state.phase == RESPONSE:
            if choices:
                raise SettingError("the choices in the response phase", tuple(choices), "empty")
            return (*(self.program.response,) * state.count, END)
        total = state.count + len(choices)
        if not 0 < total < len(self.program.answers) or any(token not in self.program.demo for token in choices):
            allowed = f"tokens of {self.program.demo} that make the count 1 to {len(self.program.answers) - 1}"
            raise SettingError(f"the choices after a count of {state.count}", tuple(choices), allowed)
        return (*choices, TRIGGER, *self._answer(total))

    def _answer(self, count: int) -> tuple[str, ...]:
        return (*(self.program.response,) * self.program.answers[count], END)


def _with_voids(tokens: Iterable[str], rng: random.Random, probability: float) -> tuple[str, ...]:
    spread: list[str] = []
    for token in tokens:
        while rng.random() < probability:
            spread.append(VOID)
        spread.append(token)
    return tuple(spread)


def numeric_task(
    name: str, void_probability: float = 0.0, hold_outs: Iterable[int] = (), max_quantity: int = 20
) -> NumericTask:
    """The variant `name` with quantities 1 to `max_quantity`.

    Args:
        name: of a row of `VARIANTS`.
        void_probability: of a V before each demo token and T, in training only.
        hold_outs: quantities that training does not draw.
        max_quantity: the largest quantity.

    Returns:
        The task.

    Raises:
        UnknownNameError: there is no such variant.
        SettingError: the settings leave nothing to draw.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import numeric_task
        >>> numeric_task("single_object").sample(random.Random(0), quantity=2)
        ('B', 'D', 'D', 'T', 'R', 'R', 'E')
    """
    if name not in VARIANTS:
        raise UnknownNameError("variant", name, VARIANTS, "numeric equivalence")
    if not 0 <= void_probability < 1:
        raise SettingError("void_probability", void_probability, "at least 0 and below 1")
    if max_quantity < 1:
        raise SettingError("max_quantity", max_quantity, "1 or more")
    excluded = frozenset(hold_outs)
    if not excluded < frozenset(range(1, max_quantity + 1)):
        raise SettingError("hold_outs", sorted(excluded), f"some, but not all, of 1 to {max_quantity}")
    row = VARIANTS[name]
    answers = tuple(row.answer(count) for count in range(max_quantity + 1))
    tokens = dict.fromkeys((PAD, BEGIN, *row.demo, TRIGGER, row.response, VOID, END))  # Same-Object: C once
    program = NumericProgram(row.demo, row.response, answers, row.reapplies)
    # Where swaps are allowed, counts go from 0 (after the last response token) to the most demo tokens.
    quantities = {"count": range(max_quantity + 1)}
    return NumericTask(name, program, Vocabulary(tuple(tokens)), VARIABLES, quantities, void_probability, excluded)
