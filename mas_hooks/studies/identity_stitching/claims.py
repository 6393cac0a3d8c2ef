"""What the paper says of two groups of classifiers (004, §4 and App. B) and when a run agrees: rules set beforehand.

The first group is the one that holds out of distribution (the paper's top or generalizing models).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mas_hooks.evaluation import Estimate
from mas_hooks.report import Claim

EARLY, LATE = 0.25, 0.75
SMALL, LARGE = 0.02, 0.05


def identity_claims(own: Any) -> list[Claim]:
    """The table, in the order of the paper."""
    early = [layer for layer in range(own.layers) if own.depth(layer) <= EARLY] or [0]
    late = [layer for layer in range(own.layers) if own.depth(layer) > LATE]
    one, other = own.kinds
    every = range(own.layers)
    ways = [own.ways("test", layer) for layer in every]
    penalties, cka = (
        [own.groups_part("test", layer).effect for layer in every],
        [own.alike(layer).effect for layer in every],
    )
    within = [found[f"{kind} → {kind}"][0] for found in ways for kind in own.kinds]
    first = [one[0] for layer in early for one in ways[layer].values()]
    told = f"{own.misplaced} of {len(own.labels)} models misplaced"
    return [
        _build_claim(own),
        _small("early blocks: stitches cost nothing", first, "fig. 2a", "almost no penalty"),
        _apart("late blocks: stitches between the groups cost more", penalties, late, "fig. 2a", "significant drop"),
        _small("within the groups stitches cost nothing, wherever", within, "fig. 2a", "almost no penalty within"),
        _most("penalties of the two kinds differ most in the last quarter", penalties, late, "fig. 2a"),
        _small(
            "early blocks: CKA tells no groups", [cka[x].value for x in early], "fig. 2b", "insensitive to the groups"
        ),
        _apart("late blocks: CKA within above between the groups", cka, late, "fig. 2b", "significantly different"),
        _most("CKA of the two kinds differs most in the last quarter", cka, late, "fig. 2b"),
        _shifted_claim(own, one, other),
        Claim(
            "fig. 8",
            "distances make two clusters, the groups",
            told,
            "two distinct clusters",
            own.misplaced == 0,
            "rule: average linkage cut at two, none misplaced",
        ),
    ]


def _build_claim(own: Any) -> Claim:
    one, other = own.kinds
    shifted = {name: own.accuracy["shifted", name] for name in own.labels}
    found = {kind: [shifted[name] for name, label in own.labels.items() if label == kind] for kind in own.kinds}
    ours = "; ".join(f"{kind} {min(values):.2f} to {max(values):.2f}" for kind, values in found.items())
    what, rule = (
        "accuracy out of distribution tells the groups apart",
        f"rule: the worst of {one} above the best of {other}",
    )
    return Claim("groups", what, ours, "top and bottom 10 on HANS-LO", min(found[one]) > max(found[other]), rule)


def _small(what: str, values: list[float], panel: str, paper: str) -> Claim:
    worst = max(values, key=abs)
    return Claim(panel, what, f"at most {worst:+.3f}", paper, abs(worst) <= SMALL, f"rule: no mean beyond {SMALL}")


def _apart(what: str, effects: list[Estimate], late: list[int], panel: str, paper: str) -> Claim:
    best = max((effects[layer] for layer in late), key=lambda one: one.value)
    ends = "" if best.low is None else f" ({best.low:+.3f} to {best.high:+.3f})"
    agrees = best.value >= LARGE and (best.low is None or best.low > 0)
    rule = f"rule: {LARGE} or more behind some block beyond {LATE:.0%}, interval over models above 0"
    return Claim(panel, what, f"difference {best.value:+.3f}{ends}", paper, agrees, rule)


def _most(what: str, effects: list[Estimate], late: list[int], panel: str) -> Claim:
    values = [one.value for one in effects]
    top = int(np.argmax(values))
    told = ", ".join(f"{value:+.3f}" for value in values)
    rule = "rule: the block of the largest one, which must be above 0, is in the last quarter"
    return Claim(panel, what, f"behind block {top + 1} of {len(values)} ({told})", "concentrated in later layers",
                 top in late and values[top] > 0, rule)  # fmt: skip


def _shifted_claim(own: Any, one: str, other: str) -> Claim:
    last = own.layers - 1
    found = {}
    for kind in (one, other):
        values = [
            value
            for (a, b), value in own.stitched["shifted", last].items()
            if a != b and own.labels[a] == own.labels[b] == kind
        ]
        found[kind] = float(np.mean(values))
    ours = ", ".join(f"{kind}–{kind} {value:.2f}" for kind, value in found.items())
    rule = f"rule: accuracies of stitches behind the last block, apart by {LARGE} or more"
    return Claim("fig. 7", "out of distribution: stitches within the two groups differ", ours, "distinct behaviour",
                 found[one] - found[other] >= LARGE, rule)  # fmt: skip
