"""The recurrent models of the papers: embedding, one GRU or LSTM layer, a two-layer GELU head. Plain torch."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks.core.errors import SettingError

RecurrentCell = Literal["gru", "lstm"]


class RecurrentModel(nn.Module):
    """Next-token model over a small vocabulary (Grant 2025, App. A.1).

    A GELU network with 4·width hidden units reads the prediction from the updated h. Token 0 is padding.

    Args:
        vocabulary: Number of tokens.
        width: Units of the state. An LSTM has half of them in h and half in c, which together are its state.
        cell: The kind of recurrent layer.
        dropout: Between the hidden layer of the head and its output.

    Raises:
        SettingError: The width of an LSTM is odd.

    Example:
        >>> from mas_hooks.models.toys import RecurrentModel
        >>> import torch
        >>> model = RecurrentModel(vocabulary=7, width=8, cell="lstm")
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 7])
    """

    def __init__(self, vocabulary: int, width: int = 48, cell: RecurrentCell = "gru", dropout: float = 0.5) -> None:
        super().__init__()
        if cell == "lstm" and width % 2:
            raise SettingError("the width of an LSTM", width, "even: half of it is h, half is c")
        hidden = width if cell == "gru" else width // 2
        self.embedding = nn.Embedding(vocabulary, width)
        self.rnn = (nn.GRU if cell == "gru" else nn.LSTM)(width, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(hidden, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, vocabulary)
        )

    def forward(self, ids: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position vocabulary"]:
        """Logits of the next token at every position."""
        states, _ = self.rnn(self.embedding(ids))
        return self.head(states)
