"""Small causal language models trained here on the corpus, with GELU or SoLU: from the user's cache, or trained now."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError, DivergedError, SettingError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import byte_pairs, pack_tokens, read_corpus
from mas_hooks.models.toys.toy_cache import cache_folder

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
    """A model of GPT-2's shape and how it is trained; equal settings are the same model."""

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
    def _fits(self) -> SmallModel:
        if self.width % self.heads:
            raise SettingError("SmallModel.heads", self.heads, f"a divisor of the width, {self.width}")
        return self

    @property
    def name(self) -> str:
        """A short name for tables: `solu-3l`, with the seed where it is not 0."""
        return f"{self.activation}-{self.layers}l" + (f"-{self.seed}" if self.seed else "")

    @property
    def key(self) -> str:
        """What the cache folder of this model is called: other texts, as of another Python, are another model."""
        told = json.dumps([self.model_dump(mode="json"), platform.python_version()]).encode()
        return f"{self.name}-{hashlib.sha256(told).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class PackedTexts:
    """What small models of one vocabulary and context read. name: of the corpus; rows of ids (n, context)."""

    name: str
    tokenizer: Any
    train: Int[Tensor, "train context"]
    valid: Int[Tensor, "valid context"]
    test: Int[Tensor, "test context"]


@dataclass(frozen=True, eq=False)
class SmallLanguageModel:
    """A trained model in eval mode. losses: nats a token on the first rows of each part of its texts, by its name."""

    module: nn.Module
    tokenizer: Any
    losses: dict[str, float]
    from_cache: bool


@lru_cache(maxsize=4)
def pack_texts(vocabulary: int, context: int) -> PackedTexts:
    """The corpus in rows of ids; the tokenizer is trained on its training part."""
    own = read_corpus()
    tokenizer = byte_pairs(own.train, vocabulary)
    parts = (pack_tokens(tokenizer, part, context) for part in (own.train, own.valid, own.test))
    return PackedTexts(own.name, tokenizer, *parts)


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


def load_small_lm(settings: SmallModel, cache: Path | None = None, *, progress: bool = True) -> SmallLanguageModel:
    """The model of these settings; trained now, on one device, if the cache does not hold it.

    Raises CheckpointError for a cache entry that is damaged or foreign, DivergedError for a loss that is no number.
    """
    folder = (cache or cache_folder()) / "small_models" / settings.key
    own, model = pack_texts(settings.vocabulary, settings.context), untrained_small_lm(settings)
    if checkpoints.checkpoint_exists(folder):
        return SmallLanguageModel(model, own.tokenizer, _load(folder, model, settings), from_cache=True)
    checkpoints.ensure_writable(folder.parent)
    _train(model, own.train, settings, progress=progress)
    losses = {name: float(token_losses(model, rows[:MEASURED]).mean()) for name, rows in _parts(own).items()}
    told = {"settings": settings.model_dump(mode="json"), "losses": losses}
    checkpoints.save_checkpoint(folder, KIND, told, dict(model.named_parameters()))
    return SmallLanguageModel(model, own.tokenizer, losses, from_cache=False)


def token_losses(model: nn.Module, rows: Int[Tensor, "n position"]) -> Float[Tensor, "n _next"]:
    """The cross-entropy of every next token, nats."""
    found = []
    with torch.no_grad():
        for part in rows.split(CHUNK):
            logits = model(input_ids=part).logits[:, :-1].float()
            found.append(functional.cross_entropy(logits.mT, part[:, 1:], reduction="none"))
    return torch.cat(found)


def _parts(own: PackedTexts) -> dict[str, Tensor]:
    return {"train": own.train, "valid": own.valid, "test": own.test}


def _train(model: nn.Module, rows: Tensor, settings: SmallModel, *, progress: bool) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    order = torch.Generator().manual_seed(settings.seed)
    model.train()
    with progress_bar(settings.steps, f"training {settings.name}", shown=progress) as shown:
        for step in range(settings.steps):
            part = rows[torch.randint(len(rows), (settings.batch,), generator=order)]
            logits = model(input_ids=part).logits[:, :-1]
            loss = functional.cross_entropy(logits.mT, part[:, 1:])
            if not torch.isfinite(loss):
                raise DivergedError(f"the loss of {settings.name}", step)
            optimizer.param_groups[0]["lr"] = _rate(settings, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            shown.update()
            if step % 20 == 0:
                shown.set_postfix_str(f"loss {float(loss.detach()):.3f}")
    model.eval()


def _rate(settings: SmallModel, step: int) -> float:
    warmup = max(1, settings.steps // 10)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = torch.tensor((step - warmup) / max(1, settings.steps - warmup))
    return settings.learning_rate * float((1 + torch.cos(torch.pi * done)) / 2)


def _load(folder: Path, model: nn.Module, settings: SmallModel) -> dict[str, float]:
    config, tensors = checkpoints.load_checkpoint(folder, KIND)
    if config["settings"] != settings.model_dump(mode="json"):
        raise CheckpointError(folder, "holds a model of other settings", "delete it, and it is trained again")
    own = dict(model.named_parameters())  # each tied weight once
    if _shapes(tensors.items()) != _shapes(own.items()):
        raise CheckpointError(folder, "holds other tensors than its settings ask for", "delete it to train it again")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    return config["losses"]


def _shapes(named: Any) -> dict[str, Sequence[int]]:
    return {name: tuple(tensor.shape) for name, tensor in named}
