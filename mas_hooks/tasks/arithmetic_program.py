"""The program behind the arithmetic task: a cumulative value and the operations left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast, final

from mas_hooks.tasks.causal_model import BEGIN, END, AbstractProgram, Variables

OPERATIONS, EQUALS, COMMA = "Op", "=", ","
OPERATORS = ("+", "-")
NO_VALUE = -1


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
        if token not in operators(state.cumu_val, self.max_value):
            return None
        return ArithmeticState(state.cumu_val, state.rem_ops, "operand", 1 if token == "+" else -1)

    def _read_operand(self, state: ArithmeticState, number: int) -> ArithmeticState | None:
        result = state.cumu_val + state.pending * number
        within = 0 <= result <= self.max_value
        return ArithmeticState(state.cumu_val, state.rem_ops, EQUALS, result) if within else None

    def swapped(self, state: ArithmeticState, variables: Variables) -> ArithmeticState:
        """The state with some variables overridden."""
        cumu_val = cast("int", variables.get("cumu_val", state.cumu_val))
        rem_ops = cast("int", variables.get("rem_ops", state.rem_ops))
        return ArithmeticState(cumu_val, rem_ops, state.reads, state.pending)

    def in_range(self, state: ArithmeticState) -> bool:
        """Whether training shows these values at a comma, where at least one operation is left."""
        return 0 <= state.cumu_val <= self.max_value and 1 <= state.rem_ops < self.max_operations


_AFTER_FIXED = {BEGIN: "length", OPERATIONS: "first", EQUALS: "result", COMMA: "operator", END: "nothing"}
"""Tokens that the grammar fixes, and what it reads after each."""


def operators(value: int, max_value: int) -> tuple[str, ...]:
    """The operators that a value allows: only inwards from a bound."""
    if value == 0:
        return ("+",)
    return ("-",) if value == max_value else OPERATORS


def _read_result(state: ArithmeticState, number: int) -> ArithmeticState | None:
    if state.reads != "result" or number != state.pending:
        return None
    left = state.rem_ops - 1
    return ArithmeticState(number, left, COMMA if left else END, 0)
