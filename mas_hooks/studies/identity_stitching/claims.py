"""What the paper says of two groups of classifiers (004, §4 and App. B) and when a run agrees: rules set beforehand.

The first group is the one that holds out of distribution (the paper's top or generalizing models).
"""

from __future__ import annotations

import numpy as np

from mas_hooks.evaluation import Estimate
from mas_hooks.report import Claim
from mas_hooks.studies.identity_stitching.groups import Groups

EARLY, LATE = 0.25, 0.75
SMALL, LARGE = 0.02, 0.05


def identity_claims(groups: Groups) -> list[Claim]:
    """The table, in the order of the paper."""
    early = [layer for layer in range(groups.layers) if groups.depth(layer) <= EARLY] or [0]
    late = [layer for layer in range(groups.layers) if groups.depth(layer) > LATE]
    first_kind, second_kind = groups.kinds
    every = range(groups.layers)
    ways = [groups.ways("test", layer) for layer in every]
    penalties, cka = (
        [groups.groups_part("test", layer).effect for layer in every],
        [groups.alike(layer).effect for layer in every],
    )
    within = [costs[f"{kind} → {kind}"][0] for costs in ways for kind in groups.kinds]
    early_costs = [cost[0] for layer in early for cost in ways[layer].values()]
    misplaced = f"{groups.misplaced} of {len(groups.labels)} models misplaced"
    return [
        _group_claim(groups),
        _small_claim("early blocks: stitches cost nothing", early_costs, "fig. 2a", "almost no penalty"),
        _apart_claim(
            "late blocks: stitches between the groups cost more", penalties, late, "fig. 2a", "significant drop"
        ),
        _small_claim(
            "within the groups stitches cost nothing, wherever", within, "fig. 2a", "almost no penalty within"
        ),
        _latest_claim("penalties of the two kinds differ most in the last quarter", penalties, late, "fig. 2a"),
        _small_claim(
            "early blocks: CKA tells no groups", [cka[x].value for x in early], "fig. 2b", "insensitive to the groups"
        ),
        _apart_claim(
            "late blocks: CKA within above between the groups", cka, late, "fig. 2b", "significantly different"
        ),
        _latest_claim("CKA of the two kinds differs most in the last quarter", cka, late, "fig. 2b"),
        _shifted_claim(groups, first_kind, second_kind),
        Claim(
            "fig. 8",
            "distances make two clusters, the groups",
            misplaced,
            "two distinct clusters",
            groups.misplaced == 0,
            "rule: average linkage cut at two, none misplaced",
        ),
    ]


def _group_claim(groups: Groups) -> Claim:
    first, second = groups.kinds
    shifted = {name: groups.accuracy["shifted", name] for name in groups.labels}
    accuracies = {
        kind: [shifted[name] for name, label in groups.labels.items() if label == kind] for kind in groups.kinds
    }
    ours = "; ".join(f"{kind} {min(values):.2f} to {max(values):.2f}" for kind, values in accuracies.items())
    what, rule = (
        "accuracy out of distribution tells the groups apart",
        f"rule: the worst of {first} above the best of {second}",
    )
    return Claim(
        "groups", what, ours, "top and bottom 10 on HANS-LO", min(accuracies[first]) > max(accuracies[second]), rule
    )


def _small_claim(what: str, values: list[float], panel: str, paper: str) -> Claim:
    worst = max(values, key=abs)
    return Claim(panel, what, f"at most {worst:+.3f}", paper, abs(worst) <= SMALL, f"rule: no mean beyond {SMALL}")


def _apart_claim(what: str, effects: list[Estimate], late: list[int], panel: str, paper: str) -> Claim:
    best = max((effects[layer] for layer in late), key=lambda effect: effect.value)
    ends = "" if best.low is None else f" ({best.low:+.3f} to {best.high:+.3f})"
    agrees = best.value >= LARGE and (best.low is None or best.low > 0)
    rule = f"rule: {LARGE} or more behind some block beyond {LATE:.0%}, interval over models above 0"
    return Claim(panel, what, f"difference {best.value:+.3f}{ends}", paper, agrees, rule)


def _latest_claim(what: str, effects: list[Estimate], late: list[int], panel: str) -> Claim:
    values = [effect.value for effect in effects]
    top = int(np.argmax(values))
    differences = ", ".join(f"{value:+.3f}" for value in values)
    rule = "rule: the block of the largest one, which must be above 0, is in the last quarter"
    ours = f"behind block {top + 1} of {len(values)} ({differences})"
    return Claim(panel, what, ours, "concentrated in later layers",
                 top in late and values[top] > 0, rule)  # fmt: skip


def _shifted_claim(groups: Groups, first: str, second: str) -> Claim:
    last = groups.layers - 1
    means = {}
    for kind in (first, second):
        values = [
            value
            for (a, b), value in groups.stitched["shifted", last].items()
            if a != b and groups.labels[a] == groups.labels[b] == kind
        ]
        means[kind] = float(np.mean(values))
    ours = ", ".join(f"{kind}–{kind} {value:.2f}" for kind, value in means.items())
    rule = f"rule: accuracies of stitches behind the last block, apart by {LARGE} or more"
    return Claim("fig. 7", "out of distribution: stitches within the two groups differ", ours, "distinct behaviour",
                 means[first] - means[second] >= LARGE, rule)  # fmt: skip
