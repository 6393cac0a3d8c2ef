"""A small base model for trying things out: trained on embedded texts of both kinds that no fine-tune is to see."""

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
    """A Qwen2 of random weights, with a tokenizer of its own, and how it is trained."""

    rows: int = Field(default=1_000, ge=2)
    """Embedded texts that it is trained on, all answers to their requests among them; fine-tunes see none of them."""
    vocabulary: int = Field(default=640, ge=300)
    """Tokens: all bytes, and their most frequent sequences in these texts."""
    width: int = Field(default=64, ge=2)
    """Of the embeddings and of every block."""
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
    def _fits(self) -> BaseSettings:
        """A number that fits no model or no set of rows is told before anything is trained."""
        if self.width % (2 * self.heads):
            raise SettingError("BaseSettings.width", self.width, f"a multiple of twice its {self.heads} heads")
        if self.rows % 2 or self.rows >= MOST:
            raise SettingError("BaseSettings.rows", self.rows, f"an even number below {MOST}, all that there are")
        return self


def texts_apart(settings: BaseSettings, seed: int = 0) -> tuple[list[TextRow], list[TextRow]]:
    """All embedded texts: those of the base, and those left for fine-tunes and their test. No request is in both."""
    rows = make_synthetic_rows(MOST, seed)
    own = set(list(dict.fromkeys(row.prompt for row in rows))[: settings.rows // 2])
    return [row for row in rows if row.prompt in own], [row for row in rows if row.prompt not in own]


@dataclass(frozen=True, eq=False)
class UntrainedBase:
    """What the base is made from: its texts, their tokenizer, and the model before it is trained."""

    texts: list[str]
    tokenizer: Any
    model: nn.Module


def untrained_base(settings: BaseSettings, seed: int = 0) -> UntrainedBase:
    """That of these settings. seed: of the texts; it is added to that of the training, which draws the weights."""
    texts = [row.text for row in texts_apart(settings, seed)[0]]
    tokenizer = make_tokenizer(texts, settings.vocabulary)
    return UntrainedBase(texts, tokenizer, _untrained_model(settings, tokenizer, seed + settings.training.seed))


def load_tiny_base(folder: Path | str, settings: BaseSettings, seed: int = 0, *, progress: bool = True) -> Path:
    """The folder of the trained base, for `wrap` and `finetune_model`; read if it is there, continued if it was interrupted.

    Raises what `finetune_model` raises.
    """
    own = untrained_base(settings, seed)
    training = settings.training.model_copy(update={"seed": seed + settings.training.seed})
    done = finetune_model(own.model, own.tokenizer, own.texts, folder, training, name="the base", progress=progress)
    return done.model


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level tokenizer of these texts (any other text can be read by it, too) that pads on the left."""
    made = byte_pairs(texts, vocabulary)
    made.bos_token, made.padding_side = made.eos_token, "left"
    return made


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
