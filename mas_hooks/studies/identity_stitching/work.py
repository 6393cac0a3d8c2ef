"""What the recipe `identity-stitching` has to run: its classifiers, the stitches of all pairs, and their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Options
from mas_hooks.models.language.classifier_set import Member, check_alike, check_labels, loaded
from mas_hooks.models.language.encoders import base, classifier
from mas_hooks.studies.stages import followed
from mas_hooks.studies.work.classifier_stitching import Stitches
from mas_hooks.studies.work.layer_comparison import LayerComparison, Layered

CKA_BATCH = 64
"""Pairs of sentences of a minibatch: short ones, of a dozen tokens each."""


def members(settings: Any, options: Options) -> tuple[Member, ...]:
    """The classifiers, trained if they are to be made here, of one make and with the labels of the examples."""
    folders = dict(zip(settings.labels, settings.models, strict=False))
    if not settings.models:
        for _, _, done, _ in followed(base, [settings.training.base], options, "the base"):
            say(f"{done} base")
        names = {str(one): name for name, one in settings.made.items()}
        for one, folder, done, left in followed(classifier, list(settings.made.values()), options, "classifiers"):
            folders[names[str(one)]] = str(folder)
            say(f"{done} {names[str(one)]}{left}")
    found = tuple(Member(name=name, source=folders[name]) for name in settings.labels)
    models = [loaded(one, options.device) for one in found]
    check_alike(models)
    for texts in settings.texts.values():
        check_labels(models, texts)
    return found


def stitches(settings: Any, own: tuple[Member, ...], device: str) -> dict[str, Stitches]:
    """Every member into every member behind every block, some examples of a split at a time."""
    return {
        f"{split}-{begin}": Stitches(
            members=own,
            texts=texts,
            begin=begin,
            end=begin + settings.piece,
            split=split,
            rows=settings.rows,
            device=device,
        )
        for split, texts in settings.texts.items()
        for begin in range(0, len(texts.rows()), settings.piece)
    }


def grids(settings: Any, own: Sequence[Member], device: str) -> dict[str, LayerComparison]:
    """The layers of every two members, on the usual examples."""
    sides = [Layered(name=one.name, source=one.source) for one in own]
    told = {"pairs": settings.texts["test"], "batch_size": CKA_BATCH, "device": device}
    pairs = combinations(range(len(sides)), 2)
    return {f"cka-{i}-{j}": LayerComparison(a=sides[i], b=sides[j], **told) for i, j in pairs}


def told(row: Record, labels: Mapping[str, str]) -> Record:
    """A record of this recipe, with the group of source and target."""
    groups = [labels[str(name)] for name in (row.source_model, row.target_model)]
    return replace(row, recipe="identity-stitching", comparison=" → ".join(groups))
