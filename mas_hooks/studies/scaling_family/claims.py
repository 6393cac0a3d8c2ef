"""What the paper says of scaling families (004, §5 and App. B) and when a run agrees: rules written beforehand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from mas_hooks.report import Claim
from mas_hooks.similarity import OUTLIER_FACTOR, match_depths
from mas_hooks.studies.scaling_family import grids
from mas_hooks.studies.scaling_family.grids import FamilyGrids

FALL, MIDDLE, PAPERS_OUTLIER = -0.5, 0.5, "pythia-2.8b"


def family_claims(family: FamilyGrids) -> list[Claim]:
    """The table, in the order of the paper."""
    largest, pairs = family.members[-1], list(combinations(family.members, 2))
    return [
        _fall_claim(family, largest),
        _block_claim(family, largest),
        _early_claim(family, pairs),
        *_third_claims(family, pairs),
        _outlier_claim(family),
        _rising_claim(family),
    ]


def _fall_claim(family: FamilyGrids, largest: str) -> Claim:
    what, paper = f"{largest}: similarity falls with the distance of two layers", "gradually decreases"
    grid = family.grid(largest, largest)
    if len(grid) < 3:
        return Claim("fig. 3", what, "fewer than 3 layers", paper, None)
    apart = np.abs(np.subtract.outer(np.arange(len(grid)), np.arange(len(grid))))
    upper = np.triu_indices(len(grid), 1)
    fall = float(np.corrcoef(rankdata(apart[upper]), rankdata(grid[upper]))[0, 1])
    return Claim("fig. 3", what, f"Spearman {fall:+.2f}", paper, fall <= FALL, f"rule: {FALL} or below")


def _block_claim(family: FamilyGrids, largest: str) -> Claim:
    blocks, what, paper = family.find_blocks(largest), f"{largest}: early, middle and late blocks", "block structure"
    if blocks is None:
        return Claim("fig. 3", what, "fewer than 4 layers", paper, None)
    cuts = " and ".join(map(str, blocks.cuts))
    ours = f"cut before layers {cuts}: {blocks.within:.2f} within, {blocks.across:.2f} across"
    rule = f"rule: the difference {blocks.contrast:.2f} is above that of a mere fall with distance, {blocks.smooth:.2f}"
    return Claim("fig. 3", what, ours, paper, blocks.visible, rule)


def _early_claim(family: FamilyGrids, pairs: list[tuple[str, str]]) -> Claim:
    first, rest = [], []
    for pair in pairs:
        values = match_depths(family.grid(*pair))
        cut = max(1, len(values) // 3)
        first.append(float(values[:cut].mean()))
        rest.append(float(values[cut:].mean()))
    agrees = all(near > other for near, other in zip(first, rest, strict=True))
    ours = f"first third of the depth {np.mean(first):.2f}, the rest {np.mean(rest):.2f}"
    return Claim(
        "fig. 3",
        "between members: early layers are the most alike",
        ours,
        "high similarity at the beginning",
        agrees,
        "rule: the first third above the rest, for every two members",
    )


def _third_claims(family: FamilyGrids, pairs: list[tuple[str, str]]) -> list[Claim]:
    if min(len(family.grid(name, name)) for name in family.members) >= 3:
        return [_between_claim(family, pairs), _middle_claim(family, pairs)]
    what = "between members: blocks, and middle layers that are alike"
    return [Claim("figs. 3, 9", what, "a member has fewer than 3 layers", "both", None)]


def _between_claim(family: FamilyGrids, pairs: list[tuple[str, str]]) -> Claim:
    inside, across = [], []
    for pair in pairs:
        values = family.grid(*pair)
        high, wide = grids.find_thirds(values)
        same = high[:, None] == wide[None, :]
        inside.append(float(values[same].mean()))
        across.append(float(values[~same].mean()))
    agrees = all(near > other for near, other in zip(inside, across, strict=True))
    ours = f"same third of the depth {np.mean(inside):.2f}, different thirds {np.mean(across):.2f}"
    return Claim(
        "fig. 3",
        "between members: blocks too",
        ours,
        "block structure even between two models",
        agrees,
        "rule: same thirds above different ones, for every two members",
    )


def _middle_claim(family: FamilyGrids, pairs: list[tuple[str, str]]) -> Claim:
    far = family.find_farthest()
    kept = [pair for pair in pairs if not (far.flagged and far.name in pair)] or pairs
    value = float(np.mean([grids.average_middle(family.grid(*pair)) for pair in kept]))
    return Claim(
        "figs. 3, 9",
        "between members that are no outliers: middle layers are alike",
        f"{value:.2f}",
        "substantial similarity",
        value >= MIDDLE,
        f"rule: mean CKA of middle thirds {MIDDLE} or above",
    )


def _outlier_claim(family: FamilyGrids) -> Claim:
    outlier = family.find_farthest()
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(family.members, outlier.ratios, strict=True))
    ours = f"{outlier.name if outlier.flagged else 'nobody'} flagged ({ratios})"
    here = any(PAPERS_OUTLIER in name for name in family.members)
    agrees = (outlier.flagged and PAPERS_OUTLIER in outlier.name) if here else None
    why = f"rule: mean distance to the others over {OUTLIER_FACTOR} times that among them"
    return Claim(
        "figs. 3, 9",
        "one member breaks the trend",
        ours,
        PAPERS_OUTLIER,
        agrees,
        why if here else f"{PAPERS_OUTLIER} is not in this family; {why}",
    )


def _rising_claim(family: FamilyGrids) -> Claim:
    means = [grids.average_off_diagonal(family.grid(name, name)) for name in family.members]
    values = ", ".join(f"{name} {value:.2f}" for name, value in zip(family.members, means, strict=True))
    return Claim(
        "fig. 10",
        "similarity within a model rises with its size",
        values,
        "increases up to 1 billion",
        bool(np.all(np.diff(means) > 0)),
        "rule: from each size to the next (deeper ones have nearer layers)",
    )


def describe_control(family: FamilyGrids) -> str:
    """What the outlier rule says of the untrained copy, which it has to flag."""
    outlier = family.find_farthest(known=True)
    flagged = outlier.flagged and outlier.name == family.untrained
    verdict = "is flagged, as it must be" if flagged else "is NOT flagged: the rule misses a known outlier here"
    ratio = f"its ratio is {outlier.ratios[-1]:.2f}, and it {verdict} (rule: {OUTLIER_FACTOR})"
    return f"With {family.untrained} among the members, {ratio}."
