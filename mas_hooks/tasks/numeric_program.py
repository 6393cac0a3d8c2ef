"""The program behind every numeric equivalence task: count up, answer, count down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast, final

from mas_hooks.errors import SettingError
from mas_hooks.tasks.causal_model import BEGIN, END, AbstractProgram, Variables

TRIGGER, VOID = "T", "V"
DEMO, RESPONSE = "demo", "response"
_BEFORE, _AFTER = "start", "end"


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

    def swapped(self, state: NumericState, variables: Variables) -> NumericState:
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
