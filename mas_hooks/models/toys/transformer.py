"""The transformer of the papers: pre-norm blocks with rotary positions and GELU. Plain torch."""

from __future__ import annotations

from collections import OrderedDict

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.core.errors import SettingError

BASE = 10_000.0
"""Base of the wave lengths of rotary positions (Su et al., 2023)."""


def rotate_half(x: Float[Tensor, "*rest position unit"]) -> Float[Tensor, "*rest position unit"]:
    """Turn unit i and unit i + half of every vector by position · BASE^(−i / half) (Su et al., 2023, eq. 34).

    Scores of turned queries and keys depend on how far apart they stand, not on where.
    """
    half = x.shape[-1] // 2
    frequency = BASE ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class CausalAttention(nn.Module):
    """Mix the values of all positions up to each one; the next module projects the result back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)

    def forward(self, x: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position width"]:
        """The mixed values, heads side by side."""
        split = "batch position (part head unit) -> part batch head position unit"
        query, key, value = rearrange(self.query_key_value(x), split, part=3, head=self.heads)
        mixed = functional.scaled_dot_product_attention(rotate_half(query), rotate_half(key), value, is_causal=True)
        return rearrange(mixed, "batch head position unit -> batch position (head unit)")


class Residual(nn.Sequential):
    """Adds the output of its parts to the residual stream that they read. A Sequential, whose width `wrap` can find."""

    def forward(self, input: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position width"]:  # noqa: A002
        return input + super().forward(input)


def transformer_block(width: int, heads: int, dropout: float) -> nn.Sequential:
    """A pre-norm block: attention, then a GELU network with 4·width hidden units, each added to the stream.

    Args:
        width: Units of the residual stream.
        heads: Heads of the attention, which share the width.
        dropout: Behind the attention and behind the network.

    Returns:
        The block, (batch, position, width) in and out, with the parts `attention` and `mlp`.
    """
    attention: OrderedDict[str, nn.Module] = OrderedDict(
        norm=nn.LayerNorm(width),
        mix=CausalAttention(width, heads),
        output=nn.Linear(width, width),
        dropout=nn.Dropout(dropout),
    )
    network: OrderedDict[str, nn.Module] = OrderedDict(
        norm=nn.LayerNorm(width),
        hidden=nn.Linear(width, 4 * width),
        gelu=nn.GELU(),
        output=nn.Linear(4 * width, width),
        dropout=nn.Dropout(dropout),
    )
    return nn.Sequential(OrderedDict(attention=Residual(attention), mlp=Residual(network)))


class TransformerModel(nn.Module):
    """Next-token model over a small vocabulary (Grant 2025, §2.3).

    Attention is causal, so padding on the right changes nothing before it. Token 0 is padding.

    Args:
        vocabulary: Number of tokens.
        width: Units of the residual stream.
        layers: Number of blocks.
        heads: Of the attention of a block; each has an even share of the width.
        dropout: Behind the attention and the network of a block.

    Raises:
        SettingError: The width does not split into heads of an even width.

    Example:
        >>> from mas_hooks.models.toys import TransformerModel
        >>> import torch
        >>> model = TransformerModel(vocabulary=7, width=8)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 7])
    """

    def __init__(self, vocabulary: int, width: int = 48, layers: int = 2, heads: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        if width % (2 * heads):
            raise SettingError("the width of a transformer", width, f"a multiple of {2 * heads}: heads turn pairs")
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(transformer_block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position vocabulary"]:
        """Logits of the next token at every position."""
        stream = self.embedding(ids)
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream))
