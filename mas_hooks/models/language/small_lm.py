"""Small causal language models trained here on the corpus, with GELU or SoLU: from the user's cache, or trained now."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import byte_pairs, pack_tokens, read_corpus
from mas_hooks.models.model_cache import cache_folder, load_or_train
from mas_hooks.models.training_loop import Schedule, run_training

KIND = "mas_hooks.small_model"
CHUNK, MEASURED = 64, 512


class SoLU(nn.Module):
    """x · softmax(x) over the units, then a LayerNorm (Elhage et al. 2022, "Softmax Linear Units")."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return self.norm(x * x.softmax(-1))


class SmallModel(Settings):
    """A model of GPT-2's shape and how it is trained; equal settings are the same model.

    Raises:
        SettingError: The heads cannot share the width evenly.

    Example:
        >>> from mas_hooks.models.language import SmallModel
        >>> SmallModel(activation="solu", layers=2, seed=1).name
        'solu-2l-1'
    """

    activation: Literal["gelu", "solu"] = "gelu"
    """Of the MLPs; `solu` has its LayerNorm."""
    layers: int = Field(default=3, ge=1)
    """Blocks."""
    width: int = Field(default=64, ge=1)
    """Units of the residual stream."""
    heads: int = Field(default=4, ge=1)
    """Of the attention; they share the width."""
    context: int = Field(default=64, ge=2)
    """Tokens of a row."""
    vocabulary: int = 512
    """Tokens of the byte-level BPE."""
    steps: int = Field(default=1_500, ge=1)
    """Of AdamW."""
    batch: int = Field(default=16, ge=1)
    """Rows a step."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """The highest: it rises over the first 10% of the steps, then falls to 0 as a cosine."""
    seed: int = 0
    """Of first weights and order of rows; the texts stay the same."""

    @model_validator(mode="after")
    def _check_heads(self) -> SmallModel:
        if self.width % self.heads:
            raise SettingError("SmallModel.heads", self.heads, f"a divisor of the width, {self.width}")
        return self

    @property
    def name(self) -> str:
        """A short name for tables: `solu-3l`, with the seed where it is not 0."""
        return f"{self.activation}-{self.layers}l" + (f"-{self.seed}" if self.seed else "")

    @property
    def key(self) -> str:
        """The name of this model's folder in the cache.

        It holds the version of Python, whose documentation is the corpus.
        """
        described = json.dumps([self.model_dump(mode="json"), platform.python_version()]).encode()
        return f"{self.name}-{hashlib.sha256(described).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class PackedTexts:
    """What small models of one vocabulary and context read.

    Attributes:
        name: Of the corpus.
        tokenizer: Trained on the training part.
        train: Rows of ids, (n, context).
        valid: Likewise.
        test: Likewise.
    """

    name: str
    tokenizer: Any
    train: Int[Tensor, "train context"]
    valid: Int[Tensor, "valid context"]
    test: Int[Tensor, "test context"]


@dataclass(frozen=True, eq=False)
class SmallLanguageModel:
    """A trained model in eval mode.

    Attributes:
        module: The transformers model.
        tokenizer: That of its texts.
        losses: Nats a token on the first rows of `train`, `valid` and `test`.
        from_cache: Whether it was in the cache already.
    """

    module: nn.Module
    tokenizer: Any
    losses: dict[str, float]
    from_cache: bool


@lru_cache(maxsize=4)
def pack_texts(vocabulary: int, context: int) -> PackedTexts:
    """The corpus in rows of ids; the tokenizer is trained on its training part. Kept in this process.

    Example:
        >>> from mas_hooks.models.language import pack_texts
        >>> texts = pack_texts(vocabulary=300, context=16)
        >>> len(texts.tokenizer), texts.train.shape[1]
        (300, 16)
    """
    corpus = read_corpus()
    tokenizer = byte_pairs(corpus.train, vocabulary)
    parts = (pack_tokens(tokenizer, part, context) for part in (corpus.train, corpus.valid, corpus.test))
    return PackedTexts(corpus.name, tokenizer, *parts)


def untrained_small_lm(settings: SmallModel) -> nn.Module:
    """The model with its first weights, drawn by its seed; torch's own random state stays as it was."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=settings.vocabulary,
        n_positions=settings.context,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model: Any = GPT2LMHeadModel(config)
    if settings.activation == "solu":
        for block in model.transformer.h:
            block.mlp.act = SoLU(4 * settings.width)
    return model.eval()


def load_small_lm(
    settings: SmallModel, cache: Path | str | None = None, *, progress: bool = True
) -> SmallLanguageModel:
    """The model of these settings; trained now, on the CPU, if the cache does not hold it.

    Args:
        settings: The model and its training.
        cache: Where trained models are kept; default `cache_folder()`.
        progress: Whether training shows a bar.

    Returns:
        The model in eval mode, with its tokenizer and losses.

    Raises:
        CheckpointError: The entry in the cache is damaged or foreign.
        OutputFolderError: The cache cannot be written to.
        DivergedError: The loss of its training is not finite.

    Example:
        >>> from mas_hooks.models.language import SmallModel, load_small_lm
        >>> from tempfile import TemporaryDirectory
        >>> settings = SmallModel(layers=1, width=8, heads=2, context=16, vocabulary=300, steps=2, batch=2)
        >>> with TemporaryDirectory() as folder:
        ...     first, again = [load_small_lm(settings, folder, progress=False) for _ in range(2)]
        >>> first.from_cache, again.from_cache, sorted(again.losses)
        (False, True, ['test', 'train', 'valid'])
    """
    folder = (cache_folder() if cache is None else Path(cache)) / "small_models" / settings.key
    texts, model = pack_texts(settings.vocabulary, settings.context), untrained_small_lm(settings)

    def train() -> dict[str, Any]:
        _train_small_lm(model, texts.train, settings, progress=progress)
        parts = {"train": texts.train, "valid": texts.valid, "test": texts.test}
        return {"losses": {name: float(token_losses(model, rows[:MEASURED]).mean()) for name, rows in parts.items()}}

    results, from_cache = load_or_train(folder, KIND, settings.model_dump(mode="json"), model, train)
    return SmallLanguageModel(model, texts.tokenizer, results["losses"], from_cache)


def token_losses(model: nn.Module, rows: Int[Tensor, "n position"]) -> Float[Tensor, "n _next"]:
    """The cross-entropy of every next token, nats."""
    losses = []
    with torch.no_grad():
        for part in rows.split(CHUNK):
            logits = model(input_ids=part).logits[:, :-1].float()
            losses.append(functional.cross_entropy(logits.mT, part[:, 1:], reduction="none"))
    return torch.cat(losses)


def _train_small_lm(model: nn.Module, rows: Tensor, settings: SmallModel, *, progress: bool) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    order = torch.Generator().manual_seed(settings.seed)

    def next_loss() -> Tensor:
        batch = rows[torch.randint(len(rows), (settings.batch,), generator=order)]
        logits = model(input_ids=batch).logits[:, :-1]
        return functional.cross_entropy(logits.mT, batch[:, 1:])

    schedule = Schedule(settings.steps, lambda step: _rate_of(settings, step))
    run_training(model, optimizer, next_loss, schedule, settings.name, progress=progress)


def _rate_of(settings: SmallModel, step: int) -> float:
    """The learning rate of a step, counted from 0: a linear rise over the first 10%, then a cosine."""
    warmup = max(1, settings.steps // 10)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = torch.tensor((step - warmup) / max(1, settings.steps - warmup))
    return settings.learning_rate * float((1 + torch.cos(torch.pi * done)) / 2)
