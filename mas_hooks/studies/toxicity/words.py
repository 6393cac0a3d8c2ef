"""The verdict of the recipe `toxicity` in plain words: what the numbers show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mas_hooks.evaluation import describe_group_test

EMBEDDED = (
    "The texts of this run are made up from templates, and its base is a small model of a few minutes: the run shows "
    "that the machinery works, and says nothing about toxicity in language models."
)


def verdict(found: Any, settings: Mapping[str, Any]) -> list[str]:
    """The paragraphs: what was compared, the test that was named beforehand, and what to read it against."""
    made = [_compare_kinds(found)]
    test = found.test(found.chosen)
    if test is None:
        made.append("There are too few fine-tunes of a kind for a comparison of kinds: two of each are needed.")
    else:
        made.append(describe_group_test(test, found.chosen))
        made.append(_beside(found))
    if "embedded" in settings.get("data", ()):
        made.append(EMBEDDED)
    return made


def _compare_kinds(found: Any) -> str:
    kinds = list(found.labels.values())
    counts = " and ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return (
        f"{counts} fine-tunes of one base were compared two at a time: {found.rank} dims at {found.site} were swapped "
        "at every position up to a drawn one, and from there on the target read the source's own text and had to say "
        "what the source would. The score of a pair is that of its worst direction, "
        f"{found.chosen} as it was named beforehand."
    )


def _beside(found: Any) -> str:
    """The same difference by every other score: a difference that was there before any swap is none of the swap."""
    told = []
    for name in found.tables:
        test = None if name == found.chosen else found.test(name)
        if test is not None:
            told.append(f"{name} {round(test.effect.value, 3) + 0.0:+.3f}")  # no −0.000
    return (
        f"The same difference of means by what else was measured on the same pairs: {'; '.join(told)}. Where the "
        "difference is there without a swap, with random maps, or in what two models say when they read one whole "
        "text, it is one of behaviour and of the texts, and no evidence of shared internals."
    )
