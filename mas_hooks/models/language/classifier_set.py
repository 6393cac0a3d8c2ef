"""Fine-tuned classifiers by name and folder, what they read, and whether they can be compared at all."""

from __future__ import annotations

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
from mas_hooks.models.language.load import block_sites, find_model_folder


class ClassifierMember(Settings):
    """One model of a study: what tables call it, and its folder (or owner/model on the hub).

    Example:
        >>> from mas_hooks.models.language import ClassifierMember
        >>> ClassifierMember(name="free", source="models/free").name
        'free'
    """

    name: str
    source: str


class PairTexts(Settings):
    """Pairs of sentences that all members read.

    Attributes:
        data: A JSON lines file (text_a, text_b, label); None for the made-up task.
        shifted: Of the made-up task, take the examples where all words of the second sentence are in the first.
        count: Most examples.
        classes: The label of each class of the models' heads; empty where they are the same.
        seed: Of the made-up task.

    Example:
        >>> from mas_hooks.models.language import PairTexts
        >>> rows = PairTexts(count=4).rows()
        >>> len(rows), sorted(row.label for row in rows)
        (4, [0, 0, 1, 1])
    """

    data: str | None = None
    shifted: bool = False
    count: int = Field(default=512, ge=1)
    classes: tuple[int, ...] = ()
    seed: int = 0

    def rows(self) -> Sequence[PairRow]:
        """The examples. Raises DataSetError for a file that cannot be read, EmptyError for one without rows."""
        if self.data is not None:
            return read_pairs(self.data)[: self.count]
        even, seed = self.count + self.count % 2, 10_000 + self.seed  # drawn apart from what classifiers are trained on
        return (make_shifted_rows(even, seed) if self.shifted else make_overlap_rows(even, 0.0, seed))[: self.count]


def load_member(member: ClassifierMember, device: str) -> HookedModel:
    """A member, loaded once in a process. Raises CheckpointError where it is no classifier, or has no tokenizer.

    Example:
        >>> from mas_hooks.models.language import ClassifierMember, PairTexts, block_sites, encode_examples, load_member
        >>> from tempfile import TemporaryDirectory
        >>> from mas_hooks.models.language import Classifier, load_classifier
        >>> from mas_hooks.models.language.encoders import Encoder
        >>> settings = Classifier(base=Encoder(layers=1, width=8, steps=1, batch=2), examples=4, steps=1, batch=2)
        >>> with TemporaryDirectory() as cache:
        ...     folder = load_classifier(settings, cache, progress=False)
        ...     model = load_member(ClassifierMember(name="free", source=str(folder)), "cpu")
        >>> block_sites(model)
        ['blocks.0.hook_resid_post']
        >>> rows = PairTexts(count=2).rows()
        >>> sorted(encode_examples(model, rows))
        ['attention_mask', 'input_ids', 'token_type_ids']
    """
    return _load_member(member.name, member.source, device)


@lru_cache(maxsize=64)
def _load_member(name: str, source: str, device: str) -> HookedModel:
    model = wrap(find_model_folder(source), name=name)
    if model.tokenizer is None:
        raise CheckpointError(source, "holds no tokenizer", "save the tokenizer into the same folder")
    if not hasattr(model.module, "num_labels") or not type(model.module).__name__.endswith("SequenceClassification"):
        problem = f"holds a {type(model.module).__name__}"
        raise CheckpointError(source, problem, "give a model that was saved with a head of sequence classification")
    model.module.to(device)
    return model


def encode_examples(model: HookedModel, rows: Sequence[PairRow]) -> dict[str, Tensor]:
    """The examples as inputs of a member.

    Example:
        >>> from mas_hooks.models.language import PairTexts, encode_examples
        >>> from types import SimpleNamespace
        >>> from mas_hooks.models.language.encoders import pair_tokenizer
        >>> encode_examples(SimpleNamespace(tokenizer=pair_tokenizer()), PairTexts(count=2).rows())["input_ids"].ndim
        2
    """
    return encode_pairs(model.tokenizer, rows)


def check_same_shape(models: Sequence[HookedModel]) -> None:
    """Raise SettingError unless all have the same blocks, widths and tokens, so that one can go on from another.

    Example:
        >>> from mas_hooks.models.language import check_same_shape
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from mas_hooks.models.language.encoders import pair_tokenizer
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> modules = [BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)) for _ in range(2)]
        >>> check_same_shape([wrap(module.eval(), tokenizer=pair_tokenizer()) for module in modules])
    """
    first = models[0]
    for model in models[1:]:
        for what, size, needed in (
            ("number of blocks", len(block_sites(model)), len(block_sites(first))),
            ("width", _width_of(model), _width_of(first)),
        ):
            if size != needed:
                allowed = f"that of {first.name}, {needed}: one goes on from the other"
                raise SettingError(f"the {what} of {model.name}", size, allowed)
        if model.tokenizer.get_vocab() != first.tokenizer.get_vocab():
            problem = f"differs from that of {first.name}"
            raise SettingError.because(f"the tokenizer of {model.name}", problem, "give models that read the same ids")


def check_labels(models: Sequence[HookedModel], texts: PairTexts) -> None:
    """Raise SettingError for labels that the head of a model cannot give.

    Example:
        >>> from mas_hooks.models.language import PairTexts, check_labels
        >>> from types import SimpleNamespace
        >>> member = SimpleNamespace(name="free", module=SimpleNamespace(num_labels=2))
        >>> check_labels([member], PairTexts(count=4))
        >>> check_labels([member], PairTexts(count=4, classes=(0, 1, 2)))
        Traceback (most recent call last):
        ...
        mas_hooks.core.errors.SettingError: classes is (0, 1, 2), but must be 2 labels, one for each class of free.
    """
    labels = {row.label for row in texts.rows()}
    for model in models:
        size = int(model.module.num_labels)  # pyright: ignore[reportArgumentType]
        if texts.classes and len(texts.classes) != size:
            raise SettingError("classes", texts.classes, f"{size} labels, one for each class of {model.name}")
        known = sorted(set(texts.classes or range(size)))
        if unknown := sorted(labels - set(known)):
            allowed = f"among {known}, the labels of {model.name}; `classes` says which class is which label"
            raise SettingError(f"a label of {texts.data or 'the made-up task'}", unknown[0], allowed)


def count_right(logits: Tensor, rows: Sequence[PairRow], texts: PairTexts) -> int:
    """Count examples whose highest logit is at a class that stands for their label.

    Args:
        logits: (n, class).
        rows: The n examples.
        texts: Say which class is which label.

    Returns:
        How many of the n are right.

    Example:
        >>> import torch
        >>> from mas_hooks.models.language import PairTexts, count_right
        >>> texts = PairTexts(count=4)
        >>> rows = texts.rows()
        >>> count_right(torch.tensor([[0.0, 1.0]] * 4), rows, texts)
        2
    """
    classes = logits.argmax(-1).cpu()
    if texts.classes:
        classes = torch.tensor(texts.classes)[classes]
    return int((classes == torch.tensor([row.label for row in rows])).sum())


def _width_of(model: HookedModel) -> int:
    return model.at(block_sites(model)[0]).width
