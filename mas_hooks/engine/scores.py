"""How many trials and tokens of a patched batch come out as the pairs expect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from mas_hooks.engine.batch import LabelledLogits


@dataclass(frozen=True)
class Score:
    """How many trials and tokens of a direction came out as expected. Scores of batches add up.

    Example:
        >>> from mas_hooks.engine import Score
        >>> score = Score(right_trials=3, trials=4, right_tokens=9, tokens=12) + Score(1, 4, 3, 4)
        >>> score.iia, score.token_accuracy
        (0.5, 0.75)
    """

    right_trials: int
    trials: int
    right_tokens: int
    tokens: int

    @property
    def iia(self) -> float:
        """Interchange intervention accuracy: share of trials with every deterministic token right."""
        return self.right_trials / self.trials

    @property
    def token_accuracy(self) -> float:
        """Share of deterministic tokens that are right."""
        return self.right_tokens / self.tokens

    def __add__(self, other: Score) -> Score:
        return Score(
            self.right_trials + other.right_trials,
            self.trials + other.trials,
            self.right_tokens + other.right_tokens,
            self.tokens + other.tokens,
        )


def find_right_trials(labelled: LabelledLogits) -> Bool[Tensor, " n"]:
    """Find the trials whose argmax equals the label at every deterministic position."""
    wrong = (labelled.logits.argmax(-1) != labelled.labels) & labelled.deterministic
    return torch.zeros(labelled.pairs, device=wrong.device).index_add(0, labelled.row, wrong.float()) == 0


def score_trials(labelled: LabelledLogits) -> Score:
    """Count the trials and tokens that are right at the deterministic positions of a batch.

    Example:
        >>> import torch
        >>> from mas_hooks.engine import LabelledLogits, score_trials
        >>> yes = torch.tensor([True, True])
        >>> labelled = LabelledLogits(torch.eye(2), torch.tensor([0, 0]), torch.tensor([0, 1]), yes, yes, pairs=2)
        >>> score_trials(labelled).iia
        0.5
    """
    right = (labelled.logits.argmax(-1) == labelled.labels) & labelled.deterministic
    trials = find_right_trials(labelled)
    return Score(int(trials.sum()), labelled.pairs, int(right.sum()), int(labelled.deterministic.sum()))
