"""Identity stitching of all ordered pairs of classifiers behind every block, some examples at a time, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from mas_hooks.core.errors import NotFiniteError
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.core.sites import Where
from mas_hooks.hooks import Edit, HookedModel, read_sites
from mas_hooks.models.language import (
    ClassifierMember,
    PairTexts,
    block_sites,
    check_same_shape,
    count_right,
    encode_examples,
    load_member,
)

ALONE, STITCHED = "accuracy", "stitched_accuracy"


class ClassifierStitches(Settings):
    """Some examples of some texts. On them every member goes on from the vectors of every member, itself included.

    begin, end: which examples. rows: the most sequences of one forward. split: what the rows call the texts.
    """

    members: tuple[ClassifierMember, ...]
    texts: PairTexts
    begin: int = Field(ge=0)
    end: int = Field(ge=1)
    split: str = "test"
    rows: int = Field(default=1_024, ge=1)
    device: str = "cpu"


def run_classifier_stitching(work: Work[ClassifierStitches]) -> list[Record]:
    """The share of these examples that each member, and each stitch, has right.

    Every member's activations are collected once, for these examples only. Raises SettingError, NotFiniteError.
    """
    comparison = work.comparison
    models = [load_member(member, comparison.device) for member in comparison.members]
    check_same_shape(models)
    examples = comparison.texts.rows()[comparison.begin : comparison.end]
    inputs = encode_examples(models[0], examples)
    where = Where.from_mask(inputs["attention_mask"].bool())
    vectors = [_read_vectors(model, inputs, where) for model in models]
    rows = []
    for model in models:
        with torch.no_grad():
            count = count_right(model.forward(inputs), examples, comparison.texts)
        rows.append(_record(comparison, ALONE, (model.name, model.name), None, count, len(examples)))
        for site in block_sites(model):
            sources = {source.name: by_site[site] for source, by_site in zip(models, vectors, strict=True)}
            for name, logits in stitch_classifiers(model, site, inputs, where, sources, comparison.rows):
                count = count_right(logits, examples, comparison.texts)
                rows.append(_record(comparison, STITCHED, (name, model.name), site, count, len(examples)))
    return rows


def stitch_classifiers(
    model: HookedModel,
    site: str,
    inputs: Mapping[str, Tensor],
    where: Where,
    sources: Mapping[str, Tensor],
    most: int = 1_024,
) -> Iterator[tuple[str, Tensor]]:
    """Run a model on from the vectors of other models behind a block.

    Args:
        model: The model whose blocks behind the site run.
        site: The name of the residual stream behind the block.
        inputs: The examples, as the model takes them.
        where: The cells that are replaced.
        sources: The vectors of those cells, (cells, width), by the name of the model they come from.
        most: Rows of one forward at most; several sources go through it together.

    Returns:
        Pairs of a source's name and the logits (batch, classes).
    """
    batch, place = len(inputs["input_ids"]), model.at(site)
    together = max(1, most // batch)
    names = list(sources)
    for chosen in (names[at : at + together] for at in range(0, len(names), together)):
        repeated = {name: value.repeat(len(chosen), *[1] * (value.ndim - 1)) for name, value in inputs.items()}
        cells = Where.cat([Where(where.rows + number * batch, where.columns) for number in range(len(chosen))])
        edit = Edit(place, _replace, cells, torch.cat([sources[name] for name in chosen]))
        with torch.no_grad():
            logits = model.run_with_hooks(repeated, edit)
        yield from zip(chosen, logits.split(batch), strict=True)


def combine_parts(parts: Iterable[Sequence[Record]]) -> list[Record]:
    """The rows of all examples from those of some each: shares weighted by their numbers."""
    sums: dict[tuple[str | None, ...], tuple[Record, int, int]] = {}
    for row in (row for part in parts for row in part):
        key = (row.split, row.measure, row.source_model, row.target_model, row.layer_a)
        before = sums.get(key, (row, 0, 0))
        trials = row.trials or 0
        sums[key] = (row, before[1] + round((row.value or 0.0) * trials), before[2] + trials)
    return [Record(**{**vars(row), "value": count / n, "trials": n}) for row, count, n in sums.values()]


def _replace(_: Tensor, vectors: Tensor) -> Tensor:
    return vectors


def _read_vectors(model: HookedModel, inputs: Mapping[str, Tensor], where: Where) -> dict[str, Tensor]:
    """The vectors of the real tokens behind every block. Raises NotFiniteError."""
    names = block_sites(model)
    activations = read_sites(model, [model.at(name) for name in names], inputs, where)
    for name, vectors in zip(names, activations, strict=True):
        if bad := int((~torch.isfinite(vectors)).sum()):
            raise NotFiniteError(f"{model.name}:{name}", bad)
    return dict(zip(names, activations, strict=True))


def _record(
    comparison: ClassifierStitches, measure: str, ends: tuple[str, str], site: str | None, count: int, trials: int
) -> Record:
    return Record(
        split=comparison.split,
        measure=measure,
        source_model=ends[0],
        target_model=ends[1],
        layer_a=site,
        layer_b=site,
        value=count / trials,
        trials=trials,
    )
