"""Every layer of one model with every layer of another as data: language models on texts, classifiers on pairs."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.hooks import HookedModel, wrap
from mas_hooks.models.language import (
    PairTexts,
    SmallModel,
    check_blocks,
    check_context,
    check_same_tokens,
    classifier_set,
    load_small_lm,
)
from mas_hooks.similarity import compare_layers
from mas_hooks.studies.work.stitching import StitchTexts, load_once
from mas_hooks.training import reinitialise_models


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
    def _check_inputs(self) -> LayerComparison:
        if (self.texts is None) == (self.pairs is None):
            problem = "has neither texts nor pairs" if self.texts is None else "has both texts and pairs"
            raise SettingError.because("the comparison of layers", problem, "give one of the two")
        return self

    @property
    def control(self) -> str | None:
        """`untrained` where one of the two sides is untrained."""
        return "untrained" if self.a.untrained or self.b.untrained else None


def run_layer_comparison(work: Work[LayerComparison]) -> list[Record]:
    """One record a pair of layers; of language models on the test rows. Raises what `compare_layers` raises."""
    comparison = work.comparison
    a = load_side(comparison.a, comparison)
    b = a if comparison.a == comparison.b else load_side(comparison.b, comparison)
    check_same_tokens(a, b)
    grid = compare_layers(
        a,
        b,
        _inputs(a, comparison),
        measure=comparison.measure,
        batch_size=comparison.batch_size,
        progress=work.progress,
    )
    return [replace(row, split="test", trials=None) for row in grid.records(control=comparison.control)]


def prepare_member(work: Work[LayeredModel]) -> list[Record]:
    """How many parameters a language model has and, of one that is trained here, its losses in nats a token."""
    member = work.comparison
    model = load_once(member.source, "cpu", progress=work.progress)
    numbers = {"parameters": float(sum(parameter.numel() for parameter in model.module.parameters()))}
    if isinstance(member.source, SmallModel):
        numbers |= {f"{part} loss": loss for part, loss in load_small_lm(member.source).losses.items()}
    return [Record(source_model=member.name, measure=name, value=value) for name, value in numbers.items()]


def load_side(side: LayeredModel, comparison: LayerComparison) -> HookedModel:
    """A model of a comparison, loaded once in a process, under its name. Raises SettingError where it does not fit."""
    if comparison.pairs is not None:
        model = classifier_set.load_member(
            classifier_set.ClassifierMember(name=side.name, source=str(side.source)), comparison.device
        )
    else:
        model = replace(load_once(side.source, comparison.device), name=side.name)
    check_blocks(model)
    if comparison.texts is not None:
        check_context(model, comparison.texts.context)
    if side.untrained:
        return wrap(reinitialise_models(model.module, side.seed), tokenizer=model.tokenizer, name=side.name)
    return model


def _inputs(model: HookedModel, comparison: LayerComparison) -> Inputs:
    if comparison.pairs is not None:
        return classifier_set.encode_examples(model, comparison.pairs.rows())
    return (comparison.texts or StitchTexts()).rows(model)[2]
