"""The panels of the recipe `figures`: which fits they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mas_hooks as mh
from mas_hooks.studies.figures import fits

Fits, Shown, Correlated = fits.Fits, fits.Shown, fits.Correlated
VARIABLES = fits.VARIABLES
RULES = {"trained": "checkpoint chosen on the trained directions", "no_access": "chosen on no access (it peeks)"}


def architectures(own: Any) -> Iterator[Any]:
    """(a) MAS between seeds and architectures, on Multi-Object."""
    for title, members in _pairs(own):
        for place, variable in (("embeddings", "last_value"), ("hidden state", "full"), ("hidden state", "count")):
            fit = own.of(mh.methods.mas(own.maps()), members, variable, place)
            bounds = own.bound(members, variable, place)
            main = title == "GRU × GRU" and variable != "count"
            yield Shown("a", title, place, f"MAS {VARIABLES[variable]}", fit, bounds=bounds, headline=main)
        fit = own.of(mh.methods.mas(own.maps(zscore=True)), members, "full")
        yield Shown("a", title, "hidden state", "MAS Full, z-scored (extra)", fit)


def correlated_toys(own: Any) -> Iterator[Any]:
    """(a) RSA and CKA of the same models, each run once at each place."""
    found = dict(_pairs(own))
    toys = tuple({one.key: one for members in found.values() for one in members}.values())
    titles = {(toys.index(one), toys.index(other)): title for title, (one, other) in found.items()}
    for place in ("embeddings", "hidden state"):
        yield Correlated(place, toys, titles)


def _pairs(own: Any) -> Iterator[tuple[str, Any]]:
    for title, (first, second) in fits.PAIRS.items():
        yield title, (own.toy("multi_object", first), own.toy("multi_object", second, 1))


def sizes(own: Any) -> Iterator[Any]:
    """(b) Subspace size of DAS and MAS, rank of stitching: two Multi-Object GRUs, Full."""
    toys = [own.toy("multi_object", number=number) for number in (0, 1)]
    for rank in own.ranks:
        group = str(rank)
        widest = rank == max(own.ranks)
        yield Shown("b", "", group, "MAS", own.of(mh.methods.mas(own.maps(rank)), toys, "full"), headline=widest)
        yield Shown("b", "", group, "DAS", own.of(mh.methods.das(own.maps(rank)), toys[:1], "full"))
        yield Shown("b", "", group, "stitching", own.of(mh.methods.stitch(rank=rank), toys, "full"))


def inaccessible(own: Any) -> Iterator[Any]:
    """(c) Model 1 may only be recorded: both directions, by both rules of choosing a checkpoint."""
    toys = [own.toy("multi_object", number=number) for number in (0, 1)]
    bound = own.of(mh.methods.mas(own.maps()), toys, "full")
    methods = {
        "CLMAS": mh.methods.clmas(0, own.maps()),
        "UniMAS": mh.methods.unimas(0, own.maps()),
        "latent stitching": mh.methods.latent_fit(0, centre=True),
        "stitching": mh.methods.stitch(0, centre=True),
    }
    for rule, title in RULES.items():
        for group, plan in methods.items():
            fit = own.of(plan.model_copy(update={"select_on": rule}), toys, "full")
            for key, way in (("no access", (0, 1)), ("access", (1, 0))):
                main = (rule, group, key) == ("trained", "CLMAS", "no access")
                yield Shown("c", title, group, key, fit, way, (bound,), headline=main)


def tasks(own: Any) -> Iterator[Any]:
    """(d) The count of a Multi-Object GRU in GRUs of other tasks."""
    first = own.toy("multi_object")
    others = {
        "Multi-Object": own.toy("multi_object", number=1),
        "Rounding": own.toy("rounding", number=1),
        "Modulo": own.toy("modulo", number=1),
        "Same-Object": own.toy("same_object", number=1),
    }
    for group, other in others.items():
        both = (first, other)
        fit = own.of(mh.methods.mas(own.maps()), both, "count")
        bounds, main = own.bound(both, "count"), group == "Multi-Object"
        yield Shown("d", "", f"Multi-Object × {group}", "MAS Count", fit, bounds=bounds, headline=main)
        extra = own.of(mh.methods.mas(own.maps(init="procrustes")), both, "count")
        yield Shown("d", "", f"Multi-Object × {group}", "MAS Count, Procrustes start (extra)", extra, bounds=bounds)


def same_object(own: Any) -> Iterator[Any]:
    """(e) The Count of Same-Object GRUs: both ways at once (MAS), or one way (linear map: orthogonal; free stitch)."""
    first, second = (own.toy("same_object", number=number) for number in (0, 1))
    members = {"Same × Same-Object": (first, second), "Multi × Same-Object": (own.toy("multi_object"), second)}
    for group, toys in members.items():
        bounds, mas = own.bound(toys, "count"), own.of(mh.methods.mas(own.maps()), toys, "count")
        yield Shown("e", "", group, "MAS", mas, bounds=bounds)
        for way in ((0, 1), (1, 0)):
            one_way = {
                "linear map": mh.methods.linear_map(way[1], own.maps()),
                "free stitch": mh.methods.stitch(way[1]),
            }
            for name, plan in one_way.items():
                told, main = f"{name} {way[0] + 1}→{way[1] + 1}", group == "Same × Same-Object" and way == (0, 1)
                yield Shown("e", "", group, told, own.of(plan, toys, "count"), way, headline=main)


def arithmetic(own: Any) -> Iterator[Any]:
    """(f) The variables of Arithmetic within the task, and against the Count of Multi-Object."""
    both = tuple(own.toy("arithmetic", number=number) for number in (0, 1))
    mixed = (own.toy("multi_object"), both[1])
    within, across = "Arithmetic × Arithmetic", "Multi-Object Count × Arithmetic"
    wanted = [(within, both, (name, name)) for name in ("full", "cumu_val", "rem_ops")]
    wanted += [(across, mixed, ("count", name)) for name in ("rem_ops", "cumu_val", "cumu_val_low", "cumu_val_high")]
    for title, toys, names in wanted:
        fit, bounds = own.of(mh.methods.mas(own.maps()), toys, names), own.bound(toys, names)
        main = (title, names[1]) in ((within, "cumu_val"), (across, "rem_ops"))
        yield Shown("f", title, VARIABLES[names[1]], "MAS", fit, bounds=bounds, headline=main)


def stepwise_panel(own: Any) -> Iterator[Any]:
    """(g) Every embedding up to a position swapped: Multi-Object GRUs against other models."""
    first = own.toy("multi_object")
    others = {
        "GRU": own.toy("multi_object", number=1),
        "LSTM": own.toy("multi_object", "lstm", 1),
        "transformer": own.toy("multi_object", "transformer", 1),
        "Same-Object GRU": own.toy("same_object", number=1),
    }
    for group, other in others.items():
        fit = own.of(mh.methods.stepwise(own.maps()), (first, other), "full", "embeddings")
        yield Shown("g", "", f"Multi-Object GRU × {group}", "stepwise MAS Full", fit, headline=group == "GRU")


PANELS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "a": architectures,
    "b": sizes,
    "c": inaccessible,
    "d": tasks,
    "e": same_object,
    "f": arithmetic,
    "g": stepwise_panel,
}
