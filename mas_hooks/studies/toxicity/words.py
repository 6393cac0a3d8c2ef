"""The verdict of the recipe `toxicity` in plain words: what the numbers show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mas_hooks.evaluation import describe_group_test
from mas_hooks.studies.toxicity.results import Results

EMBEDDED = (
    "The texts of this run are made up from templates, and its base is a small model of a few minutes: the run shows "
    "that the machinery works, and says nothing about toxicity in language models."
)


def write_verdict(results: Results, settings: Mapping[str, Any]) -> list[str]:
    """The paragraphs: what was compared, the test that was named beforehand, and what to read it against."""
    paragraphs = [_compare_kinds(results)]
    test = results.test(results.chosen)
    if test is None:
        paragraphs.append("There are too few fine-tunes of a kind for a comparison of kinds: two of each are needed.")
    else:
        paragraphs.append(describe_group_test(test, results.chosen))
        paragraphs.append(_other_differences(results))
    if "embedded" in settings.get("data", ()):
        paragraphs.append(EMBEDDED)
    return paragraphs


def _compare_kinds(results: Results) -> str:
    kinds = list(results.labels.values())
    counts = " and ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return (
        f"{counts} fine-tunes of one base were compared two at a time: {results.rank} dims at {results.site} were "
        "swapped at every position up to a drawn one, and from there on the target read the source's own text and had "
        "to say what the source would. The score of a pair is that of its worst direction, "
        f"{results.chosen} as it was named beforehand."
    )


def _other_differences(results: Results) -> str:
    """The same difference by every other score: a difference that was there before any swap is none of the swap."""
    others = []
    for name in results.tables:
        test = None if name == results.chosen else results.test(name)
        if test is not None:
            others.append(f"{name} {round(test.effect.value, 3) + 0.0:+.3f}")  # no −0.000
    return (
        f"The same difference of means by what else was measured on the same pairs: {'; '.join(others)}. Where the "
        "difference is there without a swap, with random maps, or in what two models say when they read one whole "
        "text, it is one of behaviour and of the texts, and no evidence of shared internals."
    )
