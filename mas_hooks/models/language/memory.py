"""How much memory a stage of a text study takes, estimated from the config of its model and the settings alone.

What autograd keeps of a token was counted, tensor by tensor, in Qwen2 models of several shapes (the tests count again);
other families with gated blocks come near it. A card's driver and idle memory of the allocator are left out.
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
    """The sizes of a model that its memory depends on.

    Attributes:
        parameters: All weights.
        matrices: Weights of its linear layers, the head too.
        width: Units of the residual stream.
        inner: Units of the network inside a block.
        keys: Width of the keys of all heads.
        layers: Blocks.
        vocabulary: Tokens.
        size: Bytes of a saved weight.

    Example:
        >>> from mas_hooks.models.language import ModelShape
        >>> from mas_hooks.models.language import BaseSettings, untrained_base
        >>> shape = ModelShape.of(untrained_base(BaseSettings(width=16, heads=2, layers=1, inner=24)).model)
        >>> shape.width, shape.inner, shape.keys, shape.size
        (16, 24, 8, 4)
    """

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
        """The shape of a causal language model, which may lie on the meta device."""
        config = module.config
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            matrices=sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear)),
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
    """The memory that a stage takes at its peak, in bytes, by purpose.

    Example:
        >>> from mas_hooks.models.language import GIB, MemoryNeed
        >>> need = MemoryNeed("responses", {"weights": 6 * GIB, "logits": 2 * GIB})
        >>> need.total // GIB, need.fits(16 * GIB), need.fits(8 * GIB)
        (8, True, False)
    """

    stage: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def fits(self, free: float) -> bool:
        """Whether it fits, with some room to spare, into `free` bytes."""
        return self.total <= ROOM * free


def finetuning_memory(shape: ModelShape, settings: FinetuneSettings, *, mixed: bool) -> MemoryNeed:
    """The memory of one fine-tuning.

    Args:
        shape: Of the model.
        settings: Of the fine-tuning.
        mixed: Whether it computes in bf16, as cards do, with float32 weights (or adapters).

    Returns:
        The memory by purpose.

    Example:
        >>> from mas_hooks.models.language import FinetuneSettings, ModelShape, finetuning_memory
        >>> shape = ModelShape(
        ...     parameters=10_000, matrices=9_000, width=16, inner=24, keys=8, layers=2, vocabulary=320, size=4
        ... )
        >>> finetuning_memory(shape, FinetuneSettings(), mixed=False).parts["AdamW"]
        80000
    """
    tokens = settings.device_batch * settings.tokens
    if settings.lora:
        learned = settings.lora_rank * shape.adapted
        weights = {"weights": shape.parameters * shape.size + 4 * learned}
        per_unit = KEPT["adapters"]
    else:
        learned = shape.parameters
        weights = {"weights": 4 * learned, **({"bf16 copies": 2 * shape.matrices} if mixed else {})}
        per_unit = KEPT["mixed" if mixed else "float32"]
    return MemoryNeed(
        "finetune",
        {
            **weights,
            "gradients": 4 * learned,
            "AdamW": 8 * learned,
            "activations": tokens * shape.layers * (per_unit[0] * shape.width + per_unit[1] * shape.inner),
            "logits": tokens * shape.vocabulary * LOSS,
        },
    )


def answering_memory(shape: ModelShape, settings: ResponseSettings) -> MemoryNeed:
    """The memory of one model that generates responses, in the dtype it was saved in.

    Example:
        >>> from mas_hooks.models.language import ModelShape, ResponseSettings, answering_memory
        >>> shape = ModelShape(
        ...     parameters=10_000, matrices=9_000, width=16, inner=24, keys=8, layers=2, vocabulary=320, size=4
        ... )
        >>> answering_memory(shape, ResponseSettings()).parts["weights"]
        40000
    """
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
    """The memory of one comparison at the input embeddings, the costliest site.

    Whole frozen models lie in memory, and gradients go through them down to the site.

    Args:
        shape: Of each model.
        models: How many share a space.
        rows: Patched rows whose graph lives at once.
        tokens: Of a row; half are swapped, half scored.
        texts: Sequences of each model.
        rank: Of the shared space.
        size: Bytes of a weight while the models are compared.
        copies: Untrained models beside them, for a control.

    Returns:
        The memory by purpose.

    Example:
        >>> from mas_hooks.models.language import ModelShape, aligning_memory
        >>> shape = ModelShape(
        ...     parameters=10_000, matrices=9_000, width=16, inner=24, keys=8, layers=2, vocabulary=320, size=4
        ... )
        >>> need = aligning_memory(shape, models=2, rows=8, tokens=64, texts=100, rank=4, size=4)
        >>> need.stage, need.parts["weights"]
        ('align, 2 models', 80000)
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
