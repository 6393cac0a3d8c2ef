"""A small base model for trying things out, trained on synthetic texts of both kinds that no fine-tune sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import nn

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import MOST, TextRow, byte_pairs, make_synthetic_rows
from mas_hooks.models.language.finetune import FinetuneSettings, finetune_model


class BaseSettings(Settings):
    """A Qwen2 of random weights, with a tokenizer of its own, and how it is trained.

    Raises:
        SettingError: A number fits no model or no set of rows.

    Example:
        >>> from mas_hooks.models.language import BaseSettings
        >>> settings = BaseSettings(rows=60, width=16, heads=2)
        >>> settings.rows, settings.training.device
        (60, 'cpu')
    """

    rows: int = Field(default=1_000, ge=2)
    """Synthetic texts that it is trained on, with all answers to their requests; fine-tunes see none of them."""
    vocabulary: int = Field(default=640, ge=300)
    """Tokens: all bytes, and their most frequent sequences in these texts."""
    width: int = Field(default=64, ge=2)
    """Units of the embeddings and of every block."""
    layers: int = Field(default=4, ge=1)
    """Blocks."""
    heads: int = Field(default=4, ge=1)
    """Heads of attention; each half has one pair of keys and values."""
    inner: int = Field(default=192, ge=1)
    """Units of the network inside each block."""
    training: FinetuneSettings = FinetuneSettings(
        tokens=48, batch=32, device_batch=32, steps=400, learning_rate=3e-3, save_every=100, device="cpu"
    )
    """Its seed also draws the first weights."""

    @model_validator(mode="after")
    def _check_sizes(self) -> BaseSettings:
        if self.width % (2 * self.heads):
            raise SettingError("BaseSettings.width", self.width, f"a multiple of twice its {self.heads} heads")
        if self.rows % 2 or self.rows >= MOST:
            raise SettingError("BaseSettings.rows", self.rows, f"an even number below {MOST}, all that there are")
        return self


def texts_apart(settings: BaseSettings, seed: int = 0) -> tuple[list[TextRow], list[TextRow]]:
    """All synthetic texts: those of the base, and those left for fine-tunes and their test. No request is in both.

    Example:
        >>> from mas_hooks.models.language import BaseSettings, texts_apart
        >>> base, left = texts_apart(BaseSettings(rows=60))
        >>> len(base), {row.prompt for row in base} & {row.prompt for row in left}
        (60, set())
    """
    rows = make_synthetic_rows(MOST, seed)
    requests = set(list(dict.fromkeys(row.prompt for row in rows))[: settings.rows // 2])
    return [row for row in rows if row.prompt in requests], [row for row in rows if row.prompt not in requests]


@dataclass(frozen=True, eq=False)
class UntrainedBase:
    """The base before it is trained: its texts, their tokenizer, and the model."""

    texts: list[str]
    tokenizer: Any
    model: nn.Module


def untrained_base(settings: BaseSettings, seed: int = 0) -> UntrainedBase:
    """The untrained base of these settings, with its texts and tokenizer.

    seed: of the texts; it is added to the seed of the training, which draws the weights.

    Example:
        >>> from mas_hooks.models.language import BaseSettings, untrained_base
        >>> base = untrained_base(BaseSettings(rows=60, vocabulary=320, width=16, layers=1, heads=2))
        >>> len(base.texts), len(base.tokenizer), base.model.config.hidden_size
        (60, 320, 16)
    """
    texts = [row.text for row in texts_apart(settings, seed)[0]]
    tokenizer = make_tokenizer(texts, settings.vocabulary)
    return UntrainedBase(texts, tokenizer, _untrained_model(settings, tokenizer, seed + settings.training.seed))


def load_tiny_base(folder: Path | str, settings: BaseSettings, seed: int = 0, *, progress: bool = True) -> Path:
    """The folder of the trained base; read if it is finished, continued if it was interrupted.

    Args:
        folder: Where the work is kept.
        settings: The base and its training.
        seed: Of the texts; it is added to the seed of the training.
        progress: Whether training shows a bar.

    Returns:
        A folder for `wrap` and `finetune_model`, tokenizer included.

    Raises:
        MasHooksError: As `finetune_model` raises it.

    Example:
        >>> from mas_hooks.models.language import BaseSettings, FinetuneSettings, load_tiny_base
        >>> from tempfile import TemporaryDirectory
        >>> training = FinetuneSettings(tokens=8, batch=2, device_batch=2, steps=1, device="cpu")
        >>> settings = BaseSettings(rows=60, vocabulary=320, width=16, layers=1, heads=2, training=training)
        >>> with TemporaryDirectory() as folder:
        ...     model = load_tiny_base(folder, settings, progress=False)
        ...     print(model.name, (model / "tokenizer.json").is_file())
        model True
    """
    base = untrained_base(settings, seed)
    training = settings.training.model_copy(update={"seed": seed + settings.training.seed})
    done = finetune_model(base.model, base.tokenizer, base.texts, folder, training, name="the base", progress=progress)
    return done.model


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level tokenizer trained on these texts, which reads any other text too and pads on the left."""
    tokenizer = byte_pairs(texts, vocabulary)
    tokenizer.bos_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    return tokenizer


def _untrained_model(settings: BaseSettings, tokenizer: Any, seed: int) -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=max(1, settings.heads // 2),
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).eval()
