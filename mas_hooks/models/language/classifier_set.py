"""Fine-tuned classifiers by name and folder, what they read, and whether they can be compared at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor

from mas_hooks.core.errors import CheckpointError, SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import PairRow, make_overlap_rows, make_shifted_rows, read_pairs
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.encoders import encode_pairs
from mas_hooks.models.language.load import find_model_folder

AFTER_A_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_post")


class ClassifierMember(Settings):
    """One model of a study: what tables call it, and its folder (or owner/model on the hub)."""

    name: str
    source: str


class PairTexts(Settings):
    """Pairs of sentences that all members read.

    data: a JSON lines file (text_a, text_b, label); None for the made-up task: its usual examples, or the `shifted`
    ones, where all words of the second sentence are in the first. count: at most so many. classes: for each class of
    the models' heads the label that it stands for; empty where they are the same.
    """

    data: str | None = None
    shifted: bool = False
    count: int = Field(default=512, ge=1)
    classes: tuple[int, ...] = ()
    seed: int = 0

    def rows(self) -> Sequence[PairRow]:
        """The examples. Raises DataSetError, EmptyError."""
        if self.data is not None:
            return read_pairs(self.data)[: self.count]
        even, seed = self.count + self.count % 2, 10_000 + self.seed  # drawn apart from what classifiers are trained on
        return (make_shifted_rows(even, seed) if self.shifted else make_overlap_rows(even, 0.0, seed))[: self.count]


def load_member(member: ClassifierMember, device: str) -> HookedModel:
    """A member, loaded once in a process. Raises CheckpointError for what is no classifier, or has no tokenizer."""
    return _load_member(member.name, member.source, device)


@lru_cache(maxsize=64)
def _load_member(name: str, source: str, device: str) -> HookedModel:
    made = wrap(find_model_folder(source), name=name)
    if made.tokenizer is None:
        raise CheckpointError(source, "holds no tokenizer", "save the tokenizer into the same folder")
    if not hasattr(made.module, "num_labels") or not type(made.module).__name__.endswith("SequenceClassification"):
        problem = f"holds a {type(made.module).__name__}"
        raise CheckpointError(source, problem, "give a model that was saved with a head of sequence classification")
    made.module.to(device)
    return made


def block_sites(model: HookedModel) -> list[str]:
    """The residual stream behind every block."""
    return [name for name in model.hook_points() if AFTER_A_BLOCK.fullmatch(name)]


def encode_examples(model: HookedModel, rows: Sequence[PairRow]) -> dict[str, Tensor]:
    """The examples as a member reads them."""
    return encode_pairs(model.tokenizer, rows)


def check_same_shape(models: Sequence[HookedModel]) -> None:
    """Raise SettingError unless all have the same blocks, widths and tokens, so that one can go on from another."""
    first = models[0]
    for model in models[1:]:
        for what, one, other in (
            ("number of blocks", block_sites(model), block_sites(first)),
            ("width", _width(model), _width(first)),
            ("tokenizer", model.tokenizer.get_vocab(), first.tokenizer.get_vocab()),
        ):
            if one != other:
                got = "another one" if what == "tokenizer" else len(one) if isinstance(one, list) else one
                raise SettingError(
                    f"the {what} of {model.name}", got, f"that of {first.name}: one goes on from the other"
                )


def check_labels(models: Sequence[HookedModel], texts: PairTexts) -> None:
    """Raise SettingError for labels that the head of a model cannot give."""
    labels = {row.label for row in texts.rows()}
    for model in models:
        size = int(model.module.num_labels)  # pyright: ignore[reportArgumentType]
        if texts.classes and len(texts.classes) != size:
            raise SettingError("classes", texts.classes, f"{size} labels, one for each class of {model.name}")
        known = sorted(set(texts.classes or range(size)))
        if unknown := sorted(labels - set(known)):
            told = f"among {known}, what the head of {model.name} says; `classes` tells which class is which label"
            raise SettingError(f"a label of {texts.data or 'the made-up task'}", unknown[0], told)


def count_right(logits: Tensor, rows: Sequence[PairRow], texts: PairTexts) -> int:
    """How many examples have the highest logit at a class that stands for their label."""
    said = logits.argmax(-1).cpu()
    if texts.classes:
        said = torch.tensor(texts.classes)[said]
    return int((said == torch.tensor([row.label for row in rows])).sum())


def _width(model: HookedModel) -> int:
    return model.at(block_sites(model)[0]).width
