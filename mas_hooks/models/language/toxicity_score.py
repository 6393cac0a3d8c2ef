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
    """The share of texts with an insult of the list, as a Record of the model `name`. Raises EmptyError.

    A word list sees words, not meaning: it is a check that two fine-tunes differ, no measure of toxicity.
    """
    if not words:
        raise EmptyError("the list of insults", "give one or more words")
    return _share([float(is_insulting(text, words)) for text in texts], name, "insult_share")


def classified_share(
    texts: Sequence[str], name: str, folder: Path | str, label: str = "toxic", *, batch: int = 32
) -> Record:
    """The mean probability of `label` over texts, by the sequence classifier saved in a local folder.

    A classifier of several labels at once (`problem_type` multi_label_classification) gives each by itself. Raises
    EmptyError, CheckpointError for a folder without a classifier or tokenizer, UnknownNameError for another label.
    """
    model: Any = loading.load_folder(folder)
    tokenizer = loading.tokenizer_of(folder)
    if not type(model).__name__.endswith("ForSequenceClassification") or tokenizer is None:
        problem = f"holds a {type(model).__name__} {'with' if tokenizer else 'without'} a tokenizer"
        raise CheckpointError(folder, problem, "give a folder with a sequence classifier and its tokenizer")
    if label not in model.config.label2id:
        raise UnknownNameError("label", label, model.config.label2id, f"the classifier in {folder}")
    column, alone = model.config.label2id[label], model.config.problem_type == "multi_label_classification"
    found: list[float] = []
    for start in range(0, len(texts), batch):
        own = list(texts[start : start + batch])
        inputs = tokenizer(own, return_tensors="pt", padding=True, truncation=True, max_length=_longest(model))
        with torch.no_grad():
            logits = model(**{key: inputs[key] for key in ("input_ids", "attention_mask")}).logits.float()
        found += (logits.sigmoid() if alone else logits.softmax(-1))[:, column].tolist()
    return _share(found, name, "classified_share")


def _longest(model: Any) -> int:
    return min(512, getattr(model.config, "max_position_embeddings", 512))


def _share(values: list[float], name: str, measure: str) -> Record:
    if not values:
        raise EmptyError(f"the list of responses of {name}", "generate some first")
    return Record(measure=measure, target_model=name, value=sum(values) / len(values), trials=len(values))
