"""What the paper says of scaling families (004, §5 and App. B) and when a run agrees: rules written beforehand."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mas_hooks.report import Claim
from mas_hooks.similarity import OUTLIER_FACTOR, match_depths
from mas_hooks.studies.scaling_family import grids

FALL, MIDDLE, PAPERS_OUTLIER = -0.5, 0.5, "pythia-2.8b"


def family_claims(own: Any) -> list[Claim]:
    """The table, in the order of the paper."""
    largest, pairs = own.members[-1], list(combinations(own.members, 2))
    return [
        _fall(own, largest),
        _block_claim(own, largest),
        _early(own, pairs),
        *_thirds(own, pairs),
        _outlier(own),
        _rising(own),
    ]


def _fall(own: Any, largest: str) -> Claim:
    what, paper = f"{largest}: similarity falls with the distance of two layers", "gradually decreases"
    grid = own.grid(largest, largest)
    if len(grid) < 3:
        return Claim("fig. 3", what, "fewer than 3 layers", paper, None)
    apart = np.abs(np.subtract.outer(np.arange(len(grid)), np.arange(len(grid))))
    upper = np.triu_indices(len(grid), 1)
    fall = float(np.corrcoef(rankdata(apart[upper]), rankdata(grid[upper]))[0, 1])
    return Claim("fig. 3", what, f"Spearman {fall:+.2f}", paper, fall <= FALL, f"rule: {FALL} or below")


def _block_claim(own: Any, largest: str) -> Claim:
    found, what, paper = own.blocks(largest), f"{largest}: early, middle and late blocks", "block structure"
    if found is None:
        return Claim("fig. 3", what, "fewer than 4 layers", paper, None)
    cuts = " and ".join(map(str, found.cuts))
    ours = f"cut before layers {cuts}: {found.within:.2f} within, {found.across:.2f} across"
    rule = f"rule: the difference {found.contrast:.2f} is above that of a mere fall with distance, {found.smooth:.2f}"
    return Claim("fig. 3", what, ours, paper, found.visible, rule)


def _early(own: Any, pairs: list[tuple[str, str]]) -> Claim:
    first, rest = [], []
    for pair in pairs:
        values = match_depths(own.grid(*pair))
        cut = max(1, len(values) // 3)
        first.append(float(values[:cut].mean()))
        rest.append(float(values[cut:].mean()))
    agrees = all(one > other for one, other in zip(first, rest, strict=True))
    ours = f"first third of the depth {np.mean(first):.2f}, the rest {np.mean(rest):.2f}"
    return Claim(
        "fig. 3",
        "between members: early layers are the most alike",
        ours,
        "high similarity at the beginning",
        agrees,
        "rule: the first third above the rest, for every two members",
    )


def _thirds(own: Any, pairs: list[tuple[str, str]]) -> list[Claim]:
    if min(len(own.grid(name, name)) for name in own.members) >= 3:
        return [_between(own, pairs), _middle(own, pairs)]
    what = "between members: blocks, and middle layers that are alike"
    return [Claim("figs. 3, 9", what, "a member has fewer than 3 layers", "both", None)]


def _between(own: Any, pairs: list[tuple[str, str]]) -> Claim:
    inside, across = [], []
    for pair in pairs:
        values = own.grid(*pair)
        high, wide = grids.thirds(values)
        same = high[:, None] == wide[None, :]
        inside.append(float(values[same].mean()))
        across.append(float(values[~same].mean()))
    agrees = all(one > other for one, other in zip(inside, across, strict=True))
    ours = f"same third of the depth {np.mean(inside):.2f}, different thirds {np.mean(across):.2f}"
    return Claim(
        "fig. 3",
        "between members: blocks too",
        ours,
        "block structure even between two models",
        agrees,
        "rule: same thirds above different ones, for every two members",
    )


def _middle(own: Any, pairs: list[tuple[str, str]]) -> Claim:
    far = own.far()
    kept = [pair for pair in pairs if not (far.flagged and far.name in pair)] or pairs
    value = float(np.mean([grids.middle(own.grid(*pair)) for pair in kept]))
    return Claim(
        "figs. 3, 9",
        "between members that are no outliers: middle layers are alike",
        f"{value:.2f}",
        "substantial similarity",
        value >= MIDDLE,
        f"rule: mean CKA of middle thirds {MIDDLE} or above",
    )


def _outlier(own: Any) -> Claim:
    found = own.far()
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(own.members, found.ratios, strict=True))
    ours = f"{found.name if found.flagged else 'nobody'} flagged ({told})"
    here = any(PAPERS_OUTLIER in name for name in own.members)
    agrees = (found.flagged and PAPERS_OUTLIER in found.name) if here else None
    why = f"rule: mean distance to the others over {OUTLIER_FACTOR} times that among them"
    return Claim(
        "figs. 3, 9",
        "one member breaks the trend",
        ours,
        PAPERS_OUTLIER,
        agrees,
        why if here else f"{PAPERS_OUTLIER} is not in this family; {why}",
    )


def _rising(own: Any) -> Claim:
    means = [grids.off_diagonal(own.grid(name, name)) for name in own.members]
    told = ", ".join(f"{name} {value:.2f}" for name, value in zip(own.members, means, strict=True))
    return Claim(
        "fig. 10",
        "similarity within a model rises with its size",
        told,
        "increases up to 1 billion",
        bool(np.all(np.diff(means) > 0)),
        "rule: from each size to the next (deeper ones have nearer layers)",
    )


def control_claim(own: Any) -> str:
    """What the outlier rule says of the untrained copy, which it has to flag."""
    found = own.far(known=True)
    flagged = found.flagged and found.name == own.untrained
    verdict = "is flagged, as it must be" if flagged else "is NOT flagged: the rule misses a known outlier here"
    ratio = f"its ratio is {found.ratios[-1]:.2f}, and it {verdict} (rule: {OUTLIER_FACTOR})"
    return f"With {own.untrained} among the members, {ratio}."
