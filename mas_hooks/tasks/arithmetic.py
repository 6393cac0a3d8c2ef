"""Arithmetic: additions and subtractions with their running results (Grant 2025, §2.2)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from mas_hooks.errors import SettingError
from mas_hooks.tasks.arithmetic_program import (
    COMMA,
    EQUALS,
    OPERATIONS,
    OPERATORS,
    ArithmeticProgram,
    ArithmeticState,
    operators,
)
from mas_hooks.tasks.causal_model import BEGIN, END, NO_SWAPS, AbstractTask, Variables, run
from mas_hooks.tasks.vocabulary import PAD, Vocabulary

VARIABLES = {
    "full": ("cumu_val", "rem_ops"),
    "cumu_val": ("cumu_val",),
    "cumu_val_low": ("cumu_val",),
    "cumu_val_high": ("cumu_val",),
    "rem_ops": ("rem_ops",),
}


@final
@dataclass(frozen=True)
class ArithmeticTask(AbstractTask[ArithmeticState]):
    """`B N Op v (± x = v ,)… ± x = v E`; made by `arithmetic_task`, which checks the settings.

    N is uniform; so are the first value, the operator (a bound leaves one), and the operand among those that stay in
    range, 0 included. `cumu_val_low` and `cumu_val_high` are the cumulative values within and above the range of
    `rem_ops` at a comma.
    """

    program: ArithmeticProgram

    @property
    def fill(self) -> str:
        """E: there is no one response token here, and E says nothing of values or operations."""
        return END

    def sample(self, rng: random.Random, quantity: int | None = None, training: bool = False) -> tuple[str, ...]:
        """A whole trial of `quantity` operations (default: uniform); training trials are no different.

        Raises SettingError for a number of operations that this task does not have.
        """
        allowed = self.drawn_quantities(training)
        quantity = rng.choice(allowed) if quantity is None else quantity
        if quantity not in allowed:
            raise SettingError("quantity", quantity, f"1 to {allowed[-1]} operations")
        first = rng.randint(0, self.program.max_value)
        state = ArithmeticState(first, quantity, "operator", 0)
        return (BEGIN, str(quantity), OPERATIONS, str(first), *self.complete(state, self.choose(rng, state)))

    def drawn_quantities(self, training: bool = False) -> Sequence[int]:
        """The numbers of operations; there are no hold-outs here."""
        del training
        return range(1, self.program.max_operations + 1)

    def replay(self, tokens: Sequence[str], swaps: Mapping[int, Variables] = NO_SWAPS) -> tuple[ArithmeticState, ...]:
        """The state after each token, with variables overridden where `swaps` says so."""
        return run(self, tokens, swaps)

    def deterministic(self, tokens: Sequence[str], start: ArithmeticState | None = None) -> tuple[bool, ...]:
        """True for "=", the value after it, and the "," or E that follows."""
        before = EQUALS if start is not None and start.reads == "result" else ""
        fixed = (EQUALS, COMMA, END)
        return tuple(token in fixed or last == EQUALS for last, token in zip((before, *tokens), tokens, strict=False))

    def swap_positions(self, tokens: Sequence[str]) -> list[int]:
        """The positions of commas."""
        return [position for position, token in enumerate(tokens) if token == COMMA]

    def choose(self, rng: random.Random, state: ArithmeticState, own: Sequence[str] | None = None) -> tuple[str, ...]:
        """An operator and an operand for every operation left; how many is the program's, whatever `own` has."""
        del own
        value, most = state.cumu_val, self.program.max_value
        choices: list[str] = []
        for _ in range(state.rem_ops):
            allowed = operators(value, most)
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
        if operator not in operators(value, most) or not 0 <= result <= most:
            allowed = f"one of {operators(value, most)} and an operand that keep {value} within 0 to {most}"
            raise SettingError("a chosen operation", (operator, operand), allowed)
        return result


def arithmetic_task(max_operations: int = 10, max_value: int = 20) -> ArithmeticTask:
    """The arithmetic task. Raises SettingError for settings that leave no commas or no values."""
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
