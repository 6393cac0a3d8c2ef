"""Every layer of one model with every layer of another as data: language models on texts, classifiers on pairs."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language import classifier_set
from mas_hooks.models.language.classifier_set import PairTexts
from mas_hooks.models.language.load import check_blocks, check_context, check_same_tokens
from mas_hooks.models.language.small_lm import SmallModel, load_small_lm
from mas_hooks.similarity import compare_layers
from mas_hooks.studies.work.stitching import StitchTexts, load_once
from mas_hooks.training.controls import reinitialise_models


class LayeredModel(Settings):
    """One side of a comparison: what tables call it, and what `language_model` or a classifier's loader takes.

    untrained: a copy with fresh random weights, drawn by seed, in place of the model.
    """

    name: str
    source: str | SmallModel
    untrained: bool = False
    seed: int = 0


class LayerComparison(Settings):
    """Two models and what both read: texts, or pairs of sentences for classifiers; `measure` as in `compare_layers`.

    batch_size: sequences of a minibatch.
    """

    a: LayeredModel
    b: LayeredModel
    texts: StitchTexts | None = None
    pairs: PairTexts | None = None
    measure: str = "cka"
    batch_size: int = Field(default=8, ge=1)
    device: str = "cpu"

    @model_validator(mode="after")
    def _one(self) -> LayerComparison:
        if (self.texts is None) == (self.pairs is None):
            raise SettingError("texts and pairs of a comparison", "none or both", "one of them")
        return self

    @property
    def control(self) -> str | None:
        """`untrained` where one of both is."""
        return "untrained" if self.a.untrained or self.b.untrained else None


def run_layer_comparison(work: Work[LayerComparison]) -> list[Record]:
    """One record a pair of layers; of language models on the test rows. Raises what `compare_layers` raises."""
    own = work.comparison
    a = load_side(own.a, own)
    b = a if own.a == own.b else load_side(own.b, own)
    check_same_tokens(a, b)
    found = compare_layers(
        a, b, _inputs(a, own), measure=own.measure, batch_size=own.batch_size, progress=work.progress
    ).records(control=own.control)
    return [replace(row, split="test", trials=None) for row in found]


def prepare_member(work: Work[LayeredModel]) -> list[Record]:
    """How many parameters a language model has and, of one that is trained here, its losses in nats a token."""
    own = work.comparison
    model = load_once(own.source, "cpu", progress=work.progress)
    numbers = {"parameters": float(sum(one.numel() for one in model.module.parameters()))}
    if isinstance(own.source, SmallModel):
        numbers |= {f"{part} loss": loss for part, loss in load_small_lm(own.source).losses.items()}
    return [Record(source_model=own.name, measure=name, value=value) for name, value in numbers.items()]


def load_side(one: LayeredModel, own: LayerComparison) -> HookedModel:
    """A model of a comparison, loaded once in a process, under its name. Raises SettingError where it does not fit."""
    if own.pairs is not None:
        model = classifier_set.load_member(
            classifier_set.ClassifierMember(name=one.name, source=str(one.source)), own.device
        )
    else:
        model = replace(load_once(one.source, own.device), name=one.name)
    check_blocks(model)
    if own.texts is not None:
        check_context(model, own.texts.context)
    if one.untrained:
        return wrap(reinitialise_models(model.module, one.seed), tokenizer=model.tokenizer, name=one.name)
    return model


def _inputs(model: HookedModel, own: LayerComparison) -> Inputs:
    if own.pairs is not None:
        return classifier_set.encode_examples(model, own.pairs.rows())
    return (own.texts or StitchTexts()).rows(model)[2]
