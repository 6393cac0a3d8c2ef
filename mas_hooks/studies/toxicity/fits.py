"""The fits of the recipe `toxicity` as data: every pair of fine-tunes, each with itself, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from torch import nn

from mas_hooks.alignment import MapSpec
from mas_hooks.core.errors import RankError, SettingError
from mas_hooks.hooks import load_skeleton, wrap
from mas_hooks.models.language import TextSettings
from mas_hooks.studies.toxicity.settings import AlignSettings
from mas_hooks.studies.work.text_comparison import TextComparison

TOGETHER = "together"
"""What the one fit of all models is called."""


def plan_text_fits(settings: AlignSettings, texts: TextSettings, labels: Sequence[str]) -> dict[str, TextComparison]:
    """Plan every fit: one pair of each kind, all together (the longest), and then the others.

    Args:
        settings: Sites, ranks, controls and the training of the maps.
        texts: The fine-tunes and the sizes of their sets of pairs.
        labels: The kind of each fine-tune.

    Returns:
        The fits by name, in the order they run.

    Raises:
        RankError: A rank is larger than the width of the first site.
    """
    widths = {site: _site_width(texts.models[0].model, site) for site in settings.sites}
    headline = settings.rank or widths[settings.sites[0]] // 2
    for rank in (headline, *settings.ranks):
        if rank > widths[settings.sites[0]]:
            raise RankError(rank, widths[settings.sites[0]], f"the site {settings.sites[0]} of the fine-tunes")
    kinds = {tuple(sorted((labels[a], labels[b]))): (a, b) for a, b in reversed(member_pairs(len(labels)))}
    shown = set(kinds.values()) if settings.sweep == "one" else set(member_pairs(len(labels)))

    def fit(site: str, rank: int, chosen: tuple[int, ...], refits: bool = False) -> TextComparison:
        random = ("random_maps",) if settings.controls != "none" else ()
        every = settings.controls == "every" or (settings.controls == "one" and refits)
        return TextComparison(
            texts=texts,
            chosen=chosen,
            site=site,
            maps=MapSpec(rank=rank, init=settings.init),
            fit=settings.fit.model_copy(update={"seed": texts.seed + settings.fit.seed}),
            controls=(*random, "untrained", "shuffled_labels") if every else random,
            seed=texts.seed,
        )

    def every() -> Iterator[TextComparison]:
        first = settings.sites[0]
        for pair in sorted(member_pairs(len(labels)), key=lambda pair: pair not in kinds.values()):
            yield fit(first, headline, pair, refits=pair in kinds.values())
        for number in range(len(labels)):
            yield fit(first, headline, (number,))
        for pair in sorted(shown):
            yield from (fit(first, rank, pair) for rank in settings.ranks if rank != headline)
            yield from (fit(site, settings.rank or widths[site] // 2, pair) for site in settings.sites[1:])

    planned = list(every())
    if settings.shared_space and len(labels) > 2:
        planned.insert(len(kinds), fit(settings.sites[0], headline, tuple(range(len(labels)))))
    return {comparison_name(comparison): comparison for comparison in planned}


def check_fits(settings: AlignSettings, module: nn.Module) -> None:
    """Check sites and ranks before anything is trained.

    Raises:
        UnknownNameError: Models of this shape lack a site.
        SettingError: A rank is larger than the width of its site.
    """
    model = wrap(module.eval(), name="the base")
    widths = [model.at(site).width for site in settings.sites]
    named = [("align.rank", settings.rank or 1, width) for width in widths]
    named += [("align.ranks", rank, widths[0]) for rank in settings.ranks]
    for name, rank, width in named:
        if rank > width:
            raise SettingError(name, rank, f"1 to {width}, the width of its site")


def member_pairs(count: int) -> list[tuple[int, int]]:
    """Every two models."""
    return list(combinations(range(count), 2))


def comparison_name(fit: TextComparison) -> str:
    """What a fit is called in folders."""
    if len(fit.chosen) > 2:
        return TOGETHER
    names = [fit.texts.models[number].name for number in fit.chosen]
    return f"{fit.site}-k{fit.maps.rank}-{'_'.join(names)}"


def _site_width(folder: Path, site: str) -> int:
    """How wide a site is, from the config alone."""
    return wrap(load_skeleton(folder).eval()).at(site).width
