"""Whether fine-tunes behave differently: how many of their responses are rude, by a word list or a classifier."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mas_hooks.core.errors import CheckpointError, EmptyError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.data.text import INSULTS
from mas_hooks.hooks import loading


def is_insulting(text: str, words: Sequence[str] = INSULTS) -> bool:
    """Whether a text has one of the words, as a whole word (or its plural) in any case."""
    return re.search(rf"\b(?:{'|'.join(map(re.escape, words))})s?\b", text, re.IGNORECASE) is not None


def insult_share(texts: Sequence[str], name: str, words: Sequence[str] = INSULTS) -> Record:
    """The share of texts with an insult of the list.

    A word list sees words, not meaning: it checks that two fine-tunes differ, and is no measure of toxicity.

    Args:
        texts: The responses.
        name: Of the model that wrote them.
        words: The insults.

    Returns:
        A Record of the model, `insult_share`.

    Raises:
        EmptyError: There are no texts or no words.

    Example:
        >>> from mas_hooks.models.language import insult_share
        >>> insult_share(["you fool", "good day"], "a").value
        0.5
    """
    if not words:
        raise EmptyError("the list of insults", "give one or more words")
    return _record_share([float(is_insulting(text, words)) for text in texts], name, "insult_share")


def classified_share(
    texts: Sequence[str], name: str, folder: Path | str, label: str = "toxic", *, batch: int = 32
) -> Record:
    """The mean probability of `label` over texts, by the sequence classifier saved in a local folder.

    A classifier of several labels at once (`problem_type` multi_label_classification) gives each by itself.

    Args:
        texts: The responses.
        name: Of the model that wrote them.
        folder: The saved classifier with its tokenizer.
        label: One of the classifier's labels.
        batch: Texts at once.

    Returns:
        A Record of the model, `classified_share`.

    Raises:
        EmptyError: There are no texts.
        CheckpointError: The folder holds no classifier or no tokenizer.
        UnknownNameError: The classifier has no such label.

    Example:
        >>> from mas_hooks.models.language import classified_share
        >>> from tempfile import TemporaryDirectory
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from mas_hooks.models.language.encoders import pair_tokenizer
        >>> tokenizer = pair_tokenizer()
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> labels = {"id2label": {0: "nontoxic", 1: "toxic"}, "label2id": {"nontoxic": 0, "toxic": 1}}
        >>> config = BertConfig(vocab_size=len(tokenizer), **labels, **sizes)
        >>> with TemporaryDirectory() as folder:
        ...     _ = BertForSequenceClassification(config).save_pretrained(folder)
        ...     _ = tokenizer.save_pretrained(folder)
        ...     record = classified_share(["judges praised actors"], "a", folder)
        >>> record.measure, 0 < record.value < 1
        ('classified_share', True)
    """
    model: Any = loading.load_folder(folder)
    tokenizer = loading.tokenizer_of(folder)
    if not type(model).__name__.endswith("ForSequenceClassification") or tokenizer is None:
        problem = f"holds a {type(model).__name__} {'with' if tokenizer else 'without'} a tokenizer"
        raise CheckpointError(folder, problem, "give a folder with a sequence classifier and its tokenizer")
    if label not in model.config.label2id:
        raise UnknownNameError("label", label, model.config.label2id, f"the classifier in {folder}")
    column, alone = model.config.label2id[label], model.config.problem_type == "multi_label_classification"
    probabilities: list[float] = []
    for start in range(0, len(texts), batch):
        part = list(texts[start : start + batch])
        inputs = tokenizer(part, return_tensors="pt", padding=True, truncation=True, max_length=_max_tokens(model))
        with torch.no_grad():
            logits = model(**{key: inputs[key] for key in ("input_ids", "attention_mask")}).logits.float()
        probabilities += (logits.sigmoid() if alone else logits.softmax(-1))[:, column].tolist()
    return _record_share(probabilities, name, "classified_share")


def _max_tokens(model: Any) -> int:
    return min(512, getattr(model.config, "max_position_embeddings", 512))


def _record_share(values: list[float], name: str, measure: str) -> Record:
    if not values:
        raise EmptyError(f"the list of responses of {name}", "generate some first")
    return Record(measure=measure, target_model=name, value=sum(values) / len(values), trials=len(values))
