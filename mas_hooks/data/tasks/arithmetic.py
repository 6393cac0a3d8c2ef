"""The arithmetic task: sums and differences one after the other, and the program that keeps the value and what is left.

`arithmetic_task` makes it. `ArithmeticProgram` is its causal model: a cumulative value and the operations left, read
token by token; `ArithmeticTask` draws trials of its grammar.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast, final

from mas_hooks.core.errors import SettingError
from mas_hooks.data.tasks.base import BEGIN, END, NO_SWAPS, AbstractProgram, AbstractTask, Variables, run_program
from mas_hooks.data.tasks.vocabulary import PAD, Vocabulary

OPERATIONS, EQUALS, COMMA = "Op", "=", ","
OPERATORS = ("+", "-")
NO_VALUE = -1

VARIABLES = {
    "full": ("cumu_val", "rem_ops"),
    "cumu_val": ("cumu_val",),
    "cumu_val_low": ("cumu_val",),
    "cumu_val_high": ("cumu_val",),
    "rem_ops": ("rem_ops",),
}
"""What can be swapped by name, and the program's variables behind each name."""

_AFTER_FIXED = {BEGIN: "length", OPERATIONS: "first", EQUALS: "result", COMMA: "operator", END: "nothing"}
"""Tokens that the grammar fixes, and what it reads after each."""


@final
@dataclass(frozen=True, slots=True)
class ArithmeticState:
    """After a token: the cumulative value, the operations left, and what the grammar reads next.

    Both variables change when a result is read; before they are first read they are −1 and 0. `pending` is the
    operator's sign, then the result that must follow.
    """

    cumu_val: int
    rem_ops: int
    reads: str
    pending: int


def allowed_operators(value: int, max_value: int) -> tuple[str, ...]:
    """The operators that a value allows: only inwards from a bound."""
    if value == 0:
        return ("+",)
    return ("-",) if value == max_value else OPERATORS


@final
@dataclass(frozen=True)
class ArithmeticProgram(AbstractProgram[ArithmeticState]):
    """Adds and subtracts within 0 to `max_value`, for up to `max_operations` operations."""

    max_operations: int = 10
    max_value: int = 20

    start: ClassVar[ArithmeticState] = ArithmeticState(NO_VALUE, 0, BEGIN, 0)
    names: ClassVar[tuple[str, ...]] = ("cumu_val", "rem_ops")

    @property
    def trained_range(self) -> str:
        """The trained values of both variables at ",", in words."""
        return f"cumu_val 0 to {self.max_value} and rem_ops 1 to {self.max_operations - 1}"

    def step(self, state: ArithmeticState, token: str) -> ArithmeticState | None:
        """The state after one more token, or None where the grammar does not allow it."""
        value, left, reads = state.cumu_val, state.rem_ops, state.reads
        if reads in _AFTER_FIXED:
            return ArithmeticState(value, left, _AFTER_FIXED[reads], state.pending) if token == reads else None
        if reads == "operator":
            return self._read_operator(state, token)
        number = self._number(token)
        if number is None:
            return None
        if reads == "length":
            return ArithmeticState(value, number, OPERATIONS, 0) if 1 <= number <= self.max_operations else None
        if reads == "first":
            return ArithmeticState(number, left, "operator", 0)
        return self._read_operand(state, number) if reads == "operand" else _read_result(state, number)

    def _number(self, token: str) -> int | None:
        known = token.isdecimal() and str(int(token)) == token and int(token) <= self.max_value
        return int(token) if known else None

    def _read_operator(self, state: ArithmeticState, token: str) -> ArithmeticState | None:
        if token not in allowed_operators(state.cumu_val, self.max_value):
            return None
        return ArithmeticState(state.cumu_val, state.rem_ops, "operand", 1 if token == "+" else -1)

    def _read_operand(self, state: ArithmeticState, number: int) -> ArithmeticState | None:
        result = state.cumu_val + state.pending * number
        within = 0 <= result <= self.max_value
        return ArithmeticState(state.cumu_val, state.rem_ops, EQUALS, result) if within else None

    def swap_values(self, state: ArithmeticState, variables: Variables) -> ArithmeticState:
        """The state with some variables overridden."""
        cumu_val = cast("int", variables.get("cumu_val", state.cumu_val))
        rem_ops = cast("int", variables.get("rem_ops", state.rem_ops))
        return ArithmeticState(cumu_val, rem_ops, state.reads, state.pending)

    def in_range(self, state: ArithmeticState) -> bool:
        """Whether training shows these values at a comma, where at least one operation is left."""
        return 0 <= state.cumu_val <= self.max_value and 1 <= state.rem_ops < self.max_operations


def _read_result(state: ArithmeticState, number: int) -> ArithmeticState | None:
    if state.reads != "result" or number != state.pending:
        return None
    left = state.rem_ops - 1
    return ArithmeticState(number, left, COMMA if left else END, 0)


@final
@dataclass(frozen=True)
class ArithmeticTask(AbstractTask[ArithmeticState]):
    """`B N Op v (± x = v ,)… ± x = v E`; made by `arithmetic_task`, which checks the settings.

    N is uniform; so are the first value, the operator (a bound leaves one), and the operand among those that stay in
    range, 0 included. `cumu_val_low` and `cumu_val_high` are the cumulative values within and above the range of
    `rem_ops` at a comma.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import arithmetic_task
        >>> task = arithmetic_task(max_operations=3, max_value=5)
        >>> trial = ("B", "2", "Op", "3", "+", "1", "=", "4", ",", "-", "2", "=", "2", "E")
        >>> [(state.cumu_val, state.rem_ops) for state in task.replay(trial)][8]
        (4, 1)
        >>> task.swap_positions(trial)
        [8]
    """

    program: ArithmeticProgram

    @property
    def fill(self) -> str:
        """E: there is no one response token here, and E says nothing of values or operations."""
        return END

    def sample(self, rng: random.Random, quantity: int | None = None, training: bool = False) -> tuple[str, ...]:
        """A whole trial.

        Args:
            rng: draws it.
            quantity: how many operations, default uniform.
            training: makes no difference here.

        Returns:
            Its tokens.

        Raises:
            SettingError: this task does not have that number of operations.
        """
        allowed = self.draw_quantities(training)
        quantity = rng.choice(allowed) if quantity is None else quantity
        if quantity not in allowed:
            raise SettingError("quantity", quantity, f"1 to {allowed[-1]} operations")
        first = rng.randint(0, self.program.max_value)
        state = ArithmeticState(first, quantity, "operator", 0)
        return (BEGIN, str(quantity), OPERATIONS, str(first), *self.complete(state, self.choose(rng, state)))

    def draw_quantities(self, training: bool = False) -> Sequence[int]:
        """The numbers of operations; there are no hold-outs here."""
        del training
        return range(1, self.program.max_operations + 1)

    def replay(self, tokens: Sequence[str], swaps: Mapping[int, Variables] = NO_SWAPS) -> tuple[ArithmeticState, ...]:
        """The state after each token, with variables overridden where `swaps` says so."""
        return run_program(self, tokens, swaps)

    def deterministic(self, tokens: Sequence[str], start: ArithmeticState | None = None) -> tuple[bool, ...]:
        """True for "=", the value after it, and the "," or E that follows."""
        before = EQUALS if start is not None and start.reads == "result" else ""
        fixed = (EQUALS, COMMA, END)
        return tuple(token in fixed or last == EQUALS for last, token in zip((before, *tokens), tokens, strict=False))

    def swap_positions(self, tokens: Sequence[str]) -> list[int]:
        """The positions of commas."""
        return [position for position, token in enumerate(tokens) if token == COMMA]

    def choose(self, rng: random.Random, state: ArithmeticState, trial: Sequence[str] | None = None) -> tuple[str, ...]:
        """An operator and an operand for every operation left.

        Args:
            rng: draws them.
            state: after which they stand; it says how many operations are left.
            trial: makes no difference here.

        Returns:
            Operator, operand, operator, operand…, for `complete`.
        """
        del trial
        value, most = state.cumu_val, self.program.max_value
        choices: list[str] = []
        for _ in range(state.rem_ops):
            allowed = allowed_operators(value, most)
            operator = allowed[int(rng.random() * len(allowed))]
            operand = int(rng.random() * ((most - value if operator == "+" else value) + 1))
            value += operand if operator == "+" else -operand
            choices += (operator, str(operand))
        return tuple(choices)

    def complete(self, state: ArithmeticState, choices: Sequence[str]) -> tuple[str, ...]:
        """The operations left, written out with their results; `choices` is operator, operand, operator, operand…"""
        if state.reads != "operator" or len(choices) != 2 * state.rem_ops:
            allowed = f"operator and operand for each of {state.rem_ops} operations, where an operator comes next"
            raise SettingError("the choices", tuple(choices), allowed)
        tokens: list[str] = []
        value = state.cumu_val
        for operator, operand in zip(choices[::2], choices[1::2], strict=True):
            value = self._result(value, operator, operand)
            tokens += (operator, operand, EQUALS, str(value), COMMA)
        return (*tokens[:-1], END)

    def _result(self, value: int, operator: str, operand: str) -> int:
        most = self.program.max_value
        number = int(operand) if operand.isdecimal() and operand in self.vocabulary.ids else most + 1
        result = value + (number if operator == "+" else -number)
        if operator not in allowed_operators(value, most) or not 0 <= result <= most:
            allowed = f"one of {allowed_operators(value, most)} and an operand that keep {value} within 0 to {most}"
            raise SettingError("a chosen operation", (operator, operand), allowed)
        return result


def arithmetic_task(max_operations: int = 10, max_value: int = 20) -> ArithmeticTask:
    """The arithmetic task. Raises SettingError for settings that leave no commas or no values.

    Example:
        >>> from mas_hooks.data.tasks import arithmetic_task
        >>> sorted(arithmetic_task().variables)
        ['cumu_val', 'cumu_val_high', 'cumu_val_low', 'full', 'rem_ops']
    """
    if max_operations < 2:
        raise SettingError("max_operations", max_operations, '2 or more, so that there are "," to swap at')
    if max_value < max_operations:
        raise SettingError(
            "max_value", max_value, f"{max_operations} or more, so that the length of a trial is a value"
        )
    values = tuple(map(str, range(max_value + 1)))
    tokens = (PAD, BEGIN, OPERATIONS, *OPERATORS, EQUALS, COMMA, END, *values)
    program = ArithmeticProgram(max_operations, max_value)
    return ArithmeticTask("arithmetic", program, Vocabulary(tokens), VARIABLES, _quantities(max_operations, max_value))


def _quantities(max_operations: int, max_value: int) -> dict[str, range]:
    """The values at a comma, where at least one operation is done and one is left."""
    return {
        "cumu_val": range(max_value + 1),
        "cumu_val_low": range(1, max_operations),
        "cumu_val_high": range(max_operations, max_value + 1),
        "rem_ops": range(1, max_operations),
    }
