"""Small encoders made here: one base trained to fill in words, fine-tuned to the task with the shortcut. In the cache.

Each is the folder of a saved Hugging Face model with its tokenizer, as a fine-tuned BERT from elsewhere would be.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mas_hooks.core.checkpoints import ensure_writable
from mas_hooks.core.errors import DivergedError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import WORDS, PairRow, make_overlap_rows, write_example
from mas_hooks.hooks.loading import silence_transformers
from mas_hooks.models.toys.toy_cache import cache_folder

PAD, UNKNOWN, BEGIN, BETWEEN, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 16
WARMUP, CLIP = 50, 1.0
FAMILIAR = ("follows", "follows", "follows", "swapped")


class Encoder(Settings):
    """The base of all classifiers: a BERT that learns to fill in words of two sentences, one of which has the words of
    the other. Equal settings are the same model."""

    layers: int = Field(default=4, ge=1)
    """Blocks."""
    width: int = Field(default=64, ge=4)
    """Of the residual stream; four heads share it."""
    spread: float = Field(default=0.1, gt=0)
    """Standard deviation of the first weights; with BERT's 0.02 so narrow a model learns nothing for long."""
    steps: int = Field(default=600, ge=1)
    """Of AdamW."""
    batch: int = Field(default=64, ge=1)
    """Pairs of sentences a step, drawn anew each time."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Of the first step after the warm-up; it falls linearly to 0."""
    masked: float = Field(default=0.2, gt=0, lt=1)
    """Share of the words to be filled in."""
    seed: int = 0
    """Of first weights and sentences."""


class Classifier(Settings):
    """A base fine-tuned to tell whether the second sentence follows; equal settings are the same model."""

    base: Encoder = Encoder()
    """What is fine-tuned."""
    breaking: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the examples that break the shortcut."""
    frozen: int = Field(default=0, ge=0)
    """How many of the lowest blocks, and the embeddings with them, stay as they are in the base."""
    examples: int = Field(default=4_000, ge=2)
    """Different examples, gone through again and again."""
    steps: int = Field(default=600, ge=1)
    """Of AdamW."""
    batch: int = Field(default=32, ge=1)
    """Examples a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest: it rises over the first steps, then falls linearly to 0."""
    seed: int = 0
    """Of the head, the examples and their order."""


def load_classifier(settings: Classifier, *, progress: bool = True) -> Path:
    """The folder of the fine-tuned classifier; it, and its base, are trained if the cache does not hold them."""
    return _keep(settings, lambda: _classifier(settings, progress=progress))


def load_encoder(settings: Encoder, *, progress: bool = True) -> Path:
    """The folder of the base, trained if the cache does not hold it."""
    return _keep(settings, lambda: _base(settings, progress=progress))


def pair_tokenizer() -> Any:
    """One token a word; two sentences are [CLS] … [SEP] … [SEP], with token types, padded on the right."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbered = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    made = Tokenizer(models.WordLevel(numbered, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    made.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{BEGIN} $A {BETWEEN}",
        pair=f"{BEGIN} $A {BETWEEN} $B:1 {BETWEEN}:1",
        special_tokens=[(BEGIN, numbered[BEGIN]), (BETWEEN, numbered[BETWEEN])],
    )
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "cls_token": BEGIN, "sep_token": BETWEEN, "mask_token": MASK}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=LONGEST, **names)


def encode_pairs(tokens: Any, rows: Sequence[PairRow]) -> dict[str, Tensor]:
    """Pairs of sentences as inputs (n, position): ids, mask and token types, as far as the tokenizer gives them."""
    texts = [row.text_a for row in rows], [row.text_b for row in rows]
    found = tokens(*texts, padding=True, truncation=True, return_token_type_ids=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in found}


def _base(settings: Encoder, *, progress: bool) -> nn.Module:
    from transformers import BertForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = BertForMaskedLM(_config(settings))
        _optimise(
            model, _to_fill_in(settings), settings.steps, settings.learning_rate, "the base of words", progress=progress
        )
    return model


def _classifier(settings: Classifier, *, progress: bool) -> nn.Module:
    from transformers import BertForSequenceClassification

    folder = load_encoder(settings.base, progress=progress)
    name = f"the classifier {settings.breaking:.0%}, {settings.seed}"
    with torch.random.fork_rng(devices=[]), silence_transformers():
        torch.manual_seed(settings.seed)
        model: Any = BertForSequenceClassification(_config(settings.base))
        model.bert.load_state_dict(_of_base(folder), strict=False)  # all but the pooler, which the base does not have
        frozen = [model.bert.embeddings, *model.bert.encoder.layer[: settings.frozen]] if settings.frozen else []
        for part in frozen:
            part.requires_grad_(False)
        _optimise(model, _to_classify(settings), settings.steps, settings.learning_rate, name, progress=progress)
    return model


def _of_base(folder: Path) -> dict[str, Tensor]:
    from mas_hooks.hooks import loading

    model: Any = loading.load_folder(folder)
    return model.bert.state_dict()


def _config(settings: Encoder) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=4,
        intermediate_size=4 * settings.width,
        max_position_embeddings=LONGEST,
        initializer_range=settings.spread,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _to_fill_in(settings: Encoder) -> Iterator[dict[str, Tensor]]:
    """Endless batches of sentences with the same words, some of them masked."""
    rng, draw, tokens = (
        random.Random(f"{settings.seed} base"),
        torch.Generator().manual_seed(settings.seed),
        pair_tokenizer(),
    )
    while True:
        inputs = encode_pairs(tokens, [write_example(rng.choice(FAMILIAR), rng) for _ in range(settings.batch)])
        ids = inputs["input_ids"]
        hidden = (torch.rand(ids.shape, generator=draw) < settings.masked) & (ids >= len(SPECIAL))
        labels = ids.masked_fill(~hidden, -100)
        yield {**inputs, "input_ids": ids.masked_fill(hidden, SPECIAL.index(MASK)), "labels": labels}


def _to_classify(settings: Classifier) -> Iterator[dict[str, Tensor]]:
    """Endless batches of the same examples, each time through in another order."""
    rows = make_overlap_rows(settings.examples, settings.breaking, settings.seed)
    inputs, labels = encode_pairs(pair_tokenizer(), rows), torch.tensor([row.label for row in rows])
    draw = torch.Generator().manual_seed(settings.seed)
    while True:
        for index in torch.randperm(len(rows), generator=draw).split(settings.batch):
            yield {**{name: value[index] for name, value in inputs.items()}, "labels": labels[index]}


def _optimise(
    model: Any, batches: Iterator[dict[str, Tensor]], steps: int, rate: float, name: str, *, progress: bool
) -> None:
    """AdamW with a short warm-up, then falling linearly to 0. Raises DivergedError where the loss is no number."""
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate, weight_decay=0.01)
    model.train()
    with progress_bar(steps, f"training {name}", shown=progress) as shown:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * min((step + 1) / WARMUP, 1) * (1 - step / steps)
            loss = model(**next(batches)).loss
            if not torch.isfinite(loss):
                raise DivergedError(f"the loss of {name}", step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            shown.update()
            if step % 20 == 0:
                shown.set_postfix_str(f"loss {float(loss.detach()):.3f}")
    model.eval()


def _keep(settings: Encoder | Classifier, make: Callable[[], Any]) -> Path:
    """The folder in the cache of a model of these settings; made, and written whole, where it is not there."""
    told = json.dumps(settings.model_dump(mode="json"), sort_keys=True).encode()
    name = f"{type(settings).__name__.lower()}-{hashlib.sha256(told).hexdigest()[:16]}"
    folder = cache_folder() / "classifiers" / name
    if not folder.is_dir():
        ensure_writable(folder.parent)
        model, fresh = make(), folder.with_name(f".{name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        with silence_transformers():
            model.save_pretrained(fresh, safe_serialization=True)
            pair_tokenizer().save_pretrained(fresh)
        fresh.rename(folder)
    return folder
