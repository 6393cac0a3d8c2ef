"""Small encoders made here: a base that learns to fill in words, and classifiers fine-tuned from it.

The cache keeps each as the folder of a saved Hugging Face model with its tokenizer, like a fine-tuned BERT from
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mas_hooks.core.files import ensure_writable
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import WORDS, PairRow, make_overlap_rows, write_example
from mas_hooks.hooks import loading
from mas_hooks.models.model_cache import cache_folder, save_model_folder
from mas_hooks.models.training_loop import Schedule, run_training

PAD, UNKNOWN, BEGIN, BETWEEN, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 16
WARMUP, CLIP = 50, 1.0
FAMILIAR = ("follows", "follows", "follows", "swapped")


class Encoder(Settings):
    """The base of all classifiers; equal settings are the same model.

    A BERT that learns to fill in words of two sentences, the second of which has the words of the first.

    Example:
        >>> Encoder(layers=2).layers
        2
    """

    layers: int = Field(default=4, ge=1)
    """Blocks."""
    width: int = Field(default=64, ge=4)
    """Units of the residual stream; four heads share it."""
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
    """A base fine-tuned to say whether the second sentence follows; equal settings are the same model.

    Example:
        >>> from mas_hooks.models.language import Classifier
        >>> from mas_hooks.models.language.encoders import Encoder
        >>> settings = Classifier(base=Encoder(layers=2), breaking=0.1)
        >>> settings.base.layers, settings.breaking
        (2, 0.1)
    """

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


def load_classifier(settings: Classifier, cache: Path | str | None = None, *, progress: bool = True) -> Path:
    """The folder of the fine-tuned classifier; it, and its base, are trained now if the cache does not hold them.

    Args:
        settings: The classifier, its base and their training.
        cache: Where trained models are kept; default `cache_folder()`.
        progress: Whether training shows a bar.

    Returns:
        A folder for `wrap`, tokenizer included.

    Raises:
        OutputFolderError: The cache cannot be written to.
        DivergedError: The loss of the training is not finite.

    Example:
        >>> from mas_hooks.models.language import Classifier, load_classifier
        >>> from mas_hooks.models.language.encoders import Encoder
        >>> from tempfile import TemporaryDirectory
        >>> import mas_hooks as mh
        >>> base = Encoder(layers=1, width=8, steps=1, batch=2)
        >>> settings = Classifier(base=base, examples=4, steps=1, batch=2)
        >>> with TemporaryDirectory() as cache:
        ...     model = mh.wrap(load_classifier(settings, cache, progress=False))
        >>> model.module.num_labels
        2
    """
    return _keep_folder(settings, cache, lambda: _train_classifier(settings, cache, progress=progress))


def load_encoder(settings: Encoder, cache: Path | str | None = None, *, progress: bool = True) -> Path:
    """The folder of the base; trained now if the cache does not hold it.

    Args:
        settings: The base and its training.
        cache: Where trained models are kept; default `cache_folder()`.
        progress: Whether training shows a bar.

    Returns:
        A folder for `wrap`, tokenizer included.

    Raises:
        OutputFolderError: The cache cannot be written to.
        DivergedError: The loss of the training is not finite.

    Example:
        >>> from mas_hooks.models.language import load_encoder
        >>> from mas_hooks.models.language.encoders import Encoder
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as cache:
        ...     folder = load_encoder(Encoder(layers=1, width=8, steps=1, batch=2), cache, progress=False)
        ...     print(folder.parent.name, (folder / "tokenizer.json").is_file())
        classifiers True
    """
    return _keep_folder(settings, cache, lambda: _train_encoder(settings, progress=progress))


def pair_tokenizer() -> Any:
    """One token a word; two sentences are [CLS] … [SEP] … [SEP], with token types, padded on the right."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbered = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(numbered, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    words.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{BEGIN} $A {BETWEEN}",
        pair=f"{BEGIN} $A {BETWEEN} $B:1 {BETWEEN}:1",
        special_tokens=[(BEGIN, numbered[BEGIN]), (BETWEEN, numbered[BETWEEN])],
    )
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "cls_token": BEGIN, "sep_token": BETWEEN, "mask_token": MASK}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=LONGEST, **names)


def encode_pairs(tokenizer: Any, rows: Sequence[PairRow]) -> dict[str, Tensor]:
    """Pairs of sentences as inputs (n, position): ids, mask and token types, as far as the tokenizer gives them."""
    texts = [row.text_a for row in rows], [row.text_b for row in rows]
    inputs = tokenizer(*texts, padding=True, truncation=True, return_token_type_ids=True, return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}


def _train_encoder(settings: Encoder, *, progress: bool) -> nn.Module:
    from transformers import BertForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = BertForMaskedLM(_config_of(settings))
        _train_on_pairs(model, _masked_batches(settings), settings, "the base of words", progress=progress)
    return model


def _train_classifier(settings: Classifier, cache: Path | str | None, *, progress: bool) -> nn.Module:
    from transformers import BertForSequenceClassification

    folder = load_encoder(settings.base, cache, progress=progress)
    name = f"the classifier {settings.breaking:.0%}, {settings.seed}"
    with torch.random.fork_rng(devices=[]), loading.silence_transformers():
        torch.manual_seed(settings.seed)
        model: Any = BertForSequenceClassification(_config_of(settings.base))
        base: Any = loading.load_folder(folder)
        model.bert.load_state_dict(base.bert.state_dict(), strict=False)  # all but the pooler, which the base lacks
        frozen = [model.bert.embeddings, *model.bert.encoder.layer[: settings.frozen]] if settings.frozen else []
        for part in frozen:
            part.requires_grad_(False)
        _train_on_pairs(model, _labelled_batches(settings), settings, name, progress=progress)
    return model


def _config_of(settings: Encoder) -> Any:
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


def _masked_batches(settings: Encoder) -> Iterator[dict[str, Tensor]]:
    """Endless batches of sentences with the same words, some of them masked."""
    rng, draw = random.Random(f"{settings.seed} base"), torch.Generator().manual_seed(settings.seed)
    tokenizer = pair_tokenizer()
    while True:
        inputs = encode_pairs(tokenizer, [write_example(rng.choice(FAMILIAR), rng) for _ in range(settings.batch)])
        ids = inputs["input_ids"]
        hidden = (torch.rand(ids.shape, generator=draw) < settings.masked) & (ids >= len(SPECIAL))
        labels = ids.masked_fill(~hidden, -100)
        yield {**inputs, "input_ids": ids.masked_fill(hidden, SPECIAL.index(MASK)), "labels": labels}


def _labelled_batches(settings: Classifier) -> Iterator[dict[str, Tensor]]:
    """Endless batches of the same examples, each time through in another order."""
    rows = make_overlap_rows(settings.examples, settings.breaking, settings.seed)
    inputs, labels = encode_pairs(pair_tokenizer(), rows), torch.tensor([row.label for row in rows])
    draw = torch.Generator().manual_seed(settings.seed)
    while True:
        for index in torch.randperm(len(rows), generator=draw).split(settings.batch):
            yield {**{name: value[index] for name, value in inputs.items()}, "labels": labels[index]}


def _train_on_pairs(
    model: Any, batches: Iterator[dict[str, Tensor]], settings: Encoder | Classifier, name: str, *, progress: bool
) -> None:
    """AdamW on all weights that are not frozen, with a short warm-up, then falling linearly to 0."""

    def rate(step: int) -> float:
        return settings.learning_rate * min((step + 1) / WARMUP, 1) * (1 - step / settings.steps)

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=0.01)
    schedule = Schedule(settings.steps, rate, CLIP)
    run_training(model, optimizer, lambda: model(**next(batches)).loss, schedule, name, progress=progress)


def _keep_folder(settings: Encoder | Classifier, cache: Path | str | None, train: Callable[[], nn.Module]) -> Path:
    """The folder in the cache of a model of these settings; trained, and written whole, where it is not there."""
    described = json.dumps(settings.model_dump(mode="json"), sort_keys=True).encode()
    name = f"{type(settings).__name__.lower()}-{hashlib.sha256(described).hexdigest()[:16]}"
    folder = (cache_folder() if cache is None else Path(cache)) / "classifiers" / name
    if not folder.is_dir():
        ensure_writable(folder.parent)
        model = train()
        with loading.silence_transformers():
            save_model_folder(folder, model, pair_tokenizer())
    return folder
