"""How much memory a stage of a text study takes, estimated from the config of its model and the settings alone.

What autograd keeps of a token was counted, tensor by tensor, in Qwen2 models of several shapes (the tests count again);
other families with gated blocks are near it. Left out: what a card's driver takes, and what the allocator leaves idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mas_hooks.models.language.finetune import FinetuneSettings
from mas_hooks.models.language.generate import ResponseSettings

GIB = 2**30
KEPT = {"mixed": (34, 8), "float32": (42, 17), "adapters": (30, 9)}
"""Bytes that training keeps of a token in a block, for each unit of its width and of its inner width."""
LOSS = 16
"""Bytes for each logit of a loss: the logits, in float32 too, their log-softmax, and the gradients of both."""
ROOM = 0.9
"""The share of what is free that a plan may take."""


@dataclass(frozen=True)
class ModelShape:
    """What of a model its memory depends on. matrices: weights of its linear layers, the head too. keys: width of the
    keys of all heads. size: bytes of a saved weight."""

    parameters: int
    matrices: int
    width: int
    inner: int
    keys: int
    layers: int
    vocabulary: int
    size: int

    @classmethod
    def of(cls, module: Any) -> ModelShape:
        """That of a causal language model, which may lie on the meta device."""
        config = module.config
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            parameters=sum(one.numel() for one in module.parameters()),
            matrices=sum(one.weight.numel() for one in module.modules() if isinstance(one, nn.Linear)),
            width=config.hidden_size,
            inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            keys=head * (getattr(config, "num_key_value_heads", None) or heads),
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            size=(getattr(config, "dtype", None) or torch.float32).itemsize,
        )

    @property
    def adapted(self) -> int:
        """Learned numbers of an adapter of rank 1 on every linear layer of the blocks."""
        attention = 2 * (self.width + self.width) + 2 * (self.width + self.keys)
        return self.layers * (attention + 3 * (self.width + self.inner))


@dataclass(frozen=True)
class MemoryNeed:
    """What a stage takes at its peak, in bytes, by what takes it."""

    stage: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def fits(self, free: float) -> bool:
        """Whether it does, with some room, where so many bytes are free."""
        return self.total <= ROOM * free


def finetuning_memory(shape: ModelShape, settings: FinetuneSettings, *, mixed: bool) -> MemoryNeed:
    """Of one fine-tuning. mixed: computed in bf16, as cards do, with float32 weights (or adapters)."""
    tokens = settings.device_batch * settings.tokens
    if settings.lora:
        learned = settings.lora_rank * shape.adapted
        weights = {"weights": shape.parameters * shape.size + 4 * learned}
        kept = KEPT["adapters"]
    else:
        learned = shape.parameters
        weights = {"weights": 4 * learned, **({"bf16 copies": 2 * shape.matrices} if mixed else {})}
        kept = KEPT["mixed" if mixed else "float32"]
    return MemoryNeed(
        "finetune",
        {
            **weights,
            "gradients": 4 * learned,
            "AdamW": 8 * learned,
            "activations": tokens * shape.layers * (kept[0] * shape.width + kept[1] * shape.inner),
            "logits": tokens * shape.vocabulary * LOSS,
        },
    )


def answering_memory(shape: ModelShape, settings: ResponseSettings) -> MemoryNeed:
    """Of one model that generates responses, in the dtype it was saved in."""
    tokens = settings.batch * settings.tokens
    return MemoryNeed(
        "responses",
        {
            "weights": shape.parameters * shape.size,
            "keys and values": 2 * tokens * shape.layers * shape.keys * shape.size,
            "logits": tokens * shape.vocabulary * shape.size,
        },
    )


def aligning_memory(
    shape: ModelShape, *, models: int, rows: int, tokens: int, texts: int, rank: int, size: int, copies: int = 0
) -> MemoryNeed:
    """Of one comparison at the input embeddings, the dearest site: whole frozen models, and gradients down to it.

    models: that share a space. rows: patched rows whose graph lives at once. tokens: of a row; half are swapped, half
    scored. texts: sequences of each model. size: bytes of a weight while the models are compared. copies: untrained
    ones beside them, for a control.
    """
    token = (8 + 2 * size) * shape.width + 3 * size * shape.inner + 2 * size * shape.keys
    cells = rows * tokens // 2
    return MemoryNeed(
        f"align, {models} models",
        {
            "weights": (models + copies) * shape.parameters * size,
            "stored activations": models * texts * tokens * shape.width * size,
            "activations": rows * tokens * shape.layers * token,
            "labelled logits": cells * shape.vocabulary * LOSS,
            "maps": models * 16 * shape.width * rank + 24 * cells * shape.width,
        },
    )
