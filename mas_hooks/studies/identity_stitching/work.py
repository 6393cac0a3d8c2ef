"""What the recipe `identity-stitching` has to run: its classifiers, the stitches of all pairs, and their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Options
from mas_hooks.models.language import (
    ClassifierMember,
    check_labels,
    check_same_shape,
    load_classifier,
    load_encoder,
    load_member,
)
from mas_hooks.studies.identity_stitching.settings import IdentityStitchingSettings
from mas_hooks.studies.stages import follow_work
from mas_hooks.studies.work.classifier_stitching import ClassifierStitches
from mas_hooks.studies.work.layer_comparison import LayerComparison, LayeredModel

CKA_BATCH = 64
"""Pairs of sentences of a minibatch: short ones, of a dozen tokens each."""


def prepare_classifiers(settings: IdentityStitchingSettings, options: Options) -> tuple[ClassifierMember, ...]:
    """Train or find the classifiers, and check that they share one shape and the labels of the examples."""
    folders = dict(zip(settings.labels, settings.models, strict=False))
    if not settings.models:
        for _, _, done, _ in follow_work(load_encoder, [settings.training.base], options, "the base"):
            say(f"{done} base")
        names = {str(classifier): name for name, classifier in settings.trained_here.items()}
        for model, folder, done, left in follow_work(
            load_classifier, list(settings.trained_here.values()), options, "classifiers"
        ):
            folders[names[str(model)]] = str(folder)
            say(f"{done} {names[str(model)]}{left}")
    members = tuple(ClassifierMember(name=name, source=folders[name]) for name in settings.labels)
    models = [load_member(member, options.device) for member in members]
    check_same_shape(models)
    for texts in settings.texts.values():
        check_labels(models, texts)
    return members


def plan_group_stitches(
    settings: IdentityStitchingSettings, members: tuple[ClassifierMember, ...], device: str
) -> dict[str, ClassifierStitches]:
    """Plan the stitches of every member into every member behind every block, some examples at a time.

    Args:
        settings: The examples, and how many of them go together.
        members: The classifiers.
        device: Where they run.

    Returns:
        The stitches of each part of each split, by name.
    """
    return {
        f"{split}-{begin}": ClassifierStitches(
            members=members,
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


def plan_grids(
    settings: IdentityStitchingSettings, members: Sequence[ClassifierMember], device: str
) -> dict[str, LayerComparison]:
    """Plan the comparison of the layers of every two members, on the examples in distribution.

    Args:
        settings: The examples.
        members: The classifiers.
        device: Where they run.

    Returns:
        The comparisons by name.
    """
    sides = [LayeredModel(name=member.name, source=member.source) for member in members]
    keys = {"pairs": settings.texts["test"], "batch_size": CKA_BATCH, "device": device}
    pairs = combinations(range(len(sides)), 2)
    return {f"cka-{i}-{j}": LayerComparison(a=sides[i], b=sides[j], **keys) for i, j in pairs}


def name_groups(row: Record, labels: Mapping[str, str]) -> Record:
    """A record of this recipe, with the group of source and target."""
    groups = [labels[str(name)] for name in (row.source_model, row.target_model)]
    return replace(row, recipe="identity-stitching", comparison=" → ".join(groups))
