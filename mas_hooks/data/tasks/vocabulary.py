"""The tokens of a task and their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError

PAD = "<pad>"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a task; an id is a place in `tokens`, and 0 is always padding.

    Raises SettingError unless the tokens start with "<pad>" and each occurs once.

    Example:
        >>> from mas_hooks.data.tasks import Vocabulary
        >>> vocabulary = Vocabulary(("<pad>", "B", "D", "E"))
        >>> vocabulary.pad([["B", "D", "E"], ["B", "E"]])
        array([[1, 2, 3],
               [1, 3, 0]])
        >>> vocabulary.decode([1, 3, 0])
        ('B', 'E')
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[:1] != (PAD,):
            raise SettingError("the first token of a vocabulary", self.tokens[:1], f"{PAD!r}, whose id is 0")
        if len(set(self.tokens)) != len(self.tokens):
            raise SettingError("the list of tokens", self.tokens, "one without repetitions")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token."""
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The ids of `tokens`. Raises UnknownNameError for a token that is not in here."""
        try:
            return [self.ids[token] for token in tokens]
        except KeyError as error:
            raise UnknownNameError("token", str(error.args[0]), self.tokens, "the vocabulary") from None

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The tokens of `ids`, padding left out. Raises SettingError for an id that is no token's."""
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < len(self.tokens):
                raise SettingError("a token id", number, f"0 to {len(self.tokens) - 1}")
        return tuple(self.tokens[number] for number in numbers if number != 0)

    def pad(self, sequences: Sequence[Sequence[str]]) -> np.ndarray:
        """Ids of many sequences, padded on the right: (n, longest) int64. Raises EmptyError without any."""
        if len(sequences) == 0:
            raise EmptyError("the list of sequences to pad", "give at least one sequence")
        lengths = np.array([len(sequence) for sequence in sequences])
        padded = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
        filled = np.arange(padded.shape[1]) < lengths[:, None]
        padded[filled] = self.encode(token for sequence in sequences for token in sequence)
        return padded
