"""The panels of the recipe `figures`: which fits they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

from mas_hooks.alignment import methods
from mas_hooks.models.toys import ToySettings
from mas_hooks.studies.figures.fits import PAIRS, VARIABLES, Correlated, Fits, Place, Shown

MARKED: tuple[tuple[Place, str], ...] = (
    ("embeddings", "last_value"),
    ("hidden state", "full"),
    ("hidden state", "count"),
)
"""Where panel a looks for which variable."""
RULES = {"trained": "checkpoint chosen on the trained directions", "no_access": "chosen on no access (it peeks)"}


def architectures(fits: Fits) -> Iterator[Shown]:
    """(a) MAS between seeds and architectures, on Multi-Object."""
    for title, members in _pairs(fits):
        for place, variable in MARKED:
            fit = fits.of(methods.mas(fits.maps()), members, variable, place)
            bounds = fits.bound(members, variable, place)
            main = title == "GRU × GRU" and variable != "count"
            yield Shown("a", title, place, f"MAS {VARIABLES[variable]}", fit, bounds=bounds, headline=main)
        fit = fits.of(methods.mas(fits.maps(zscore=True)), members, "full")
        yield Shown("a", title, "hidden state", "MAS Full, z-scored (extra)", fit)


def correlated_toys(fits: Fits) -> Iterator[Correlated]:
    """(a) RSA and CKA of the same models, each run once at each place."""
    pairs = dict(_pairs(fits))
    toys = tuple({toy.key: toy for members in pairs.values() for toy in members}.values())
    titles = {(toys.index(a), toys.index(b)): title for title, (a, b) in pairs.items()}
    for place in get_args(Place):
        yield Correlated(place, toys, titles)


def _pairs(fits: Fits) -> Iterator[tuple[str, tuple[ToySettings, ToySettings]]]:
    for title, (first, second) in PAIRS.items():
        yield title, (fits.toy("multi_object", first), fits.toy("multi_object", second, 1))


def sizes(fits: Fits) -> Iterator[Shown]:
    """(b) Subspace size of DAS and MAS, rank of stitching: two Multi-Object GRUs, Full."""
    toys = [fits.toy("multi_object", number=number) for number in (0, 1)]
    for rank in fits.ranks:
        group = str(rank)
        widest = rank == max(fits.ranks)
        yield Shown("b", "", group, "MAS", fits.of(methods.mas(fits.maps(rank)), toys, "full"), headline=widest)
        yield Shown("b", "", group, "DAS", fits.of(methods.das(fits.maps(rank)), toys[:1], "full"))
        yield Shown("b", "", group, "stitching", fits.of(methods.stitch(rank=rank), toys, "full"))


def inaccessible(fits: Fits) -> Iterator[Shown]:
    """(c) Model 1 may only be recorded: both directions, by both rules of choosing a checkpoint."""
    toys = [fits.toy("multi_object", number=number) for number in (0, 1)]
    bound = fits.of(methods.mas(fits.maps()), toys, "full")
    plans = {
        "CLMAS": methods.clmas(0, fits.maps()),
        "UniMAS": methods.unimas(0, fits.maps()),
        "latent stitching": methods.latent_fit(0, centre=True),
        "stitching": methods.stitch(0, centre=True),
    }
    for rule, title in RULES.items():
        for group, plan in plans.items():
            fit = fits.of(plan.model_copy(update={"select_on": rule}), toys, "full")
            for key, way in (("no access", (0, 1)), ("access", (1, 0))):
                main = (rule, group, key) == ("trained", "CLMAS", "no access")
                yield Shown("c", title, group, key, fit, way, (bound,), headline=main)


def tasks(fits: Fits) -> Iterator[Shown]:
    """(d) The count of a Multi-Object GRU in GRUs of other tasks."""
    first = fits.toy("multi_object")
    others = {
        "Multi-Object": fits.toy("multi_object", number=1),
        "Rounding": fits.toy("rounding", number=1),
        "Modulo": fits.toy("modulo", number=1),
        "Same-Object": fits.toy("same_object", number=1),
    }
    for group, other in others.items():
        both = (first, other)
        fit = fits.of(methods.mas(fits.maps()), both, "count")
        bounds, main = fits.bound(both, "count"), group == "Multi-Object"
        yield Shown("d", "", f"Multi-Object × {group}", "MAS Count", fit, bounds=bounds, headline=main)
        extra = fits.of(methods.mas(fits.maps(init="procrustes")), both, "count")
        yield Shown("d", "", f"Multi-Object × {group}", "MAS Count, Procrustes start (extra)", extra, bounds=bounds)


def same_object(fits: Fits) -> Iterator[Shown]:
    """(e) The Count of Same-Object GRUs: both ways at once (MAS), or one way (linear map: orthogonal; free stitch)."""
    first, second = (fits.toy("same_object", number=number) for number in (0, 1))
    members = {"Same × Same-Object": (first, second), "Multi × Same-Object": (fits.toy("multi_object"), second)}
    for group, toys in members.items():
        bounds, mas = fits.bound(toys, "count"), fits.of(methods.mas(fits.maps()), toys, "count")
        yield Shown("e", "", group, "MAS", mas, bounds=bounds)
        for way in ((0, 1), (1, 0)):
            one_way = {
                "linear map": methods.linear_map(way[1], fits.maps()),
                "free stitch": methods.stitch(way[1]),
            }
            for name, plan in one_way.items():
                key, main = f"{name} {way[0] + 1}→{way[1] + 1}", group == "Same × Same-Object" and way == (0, 1)
                yield Shown("e", "", group, key, fits.of(plan, toys, "count"), way, headline=main)


def arithmetic(fits: Fits) -> Iterator[Shown]:
    """(f) The variables of Arithmetic within the task, and against the Count of Multi-Object."""
    both = tuple(fits.toy("arithmetic", number=number) for number in (0, 1))
    mixed = (fits.toy("multi_object"), both[1])
    within, across = "Arithmetic × Arithmetic", "Multi-Object Count × Arithmetic"
    wanted = [(within, both, (name, name)) for name in ("full", "cumu_val", "rem_ops")]
    wanted += [(across, mixed, ("count", name)) for name in ("rem_ops", "cumu_val", "cumu_val_low", "cumu_val_high")]
    for title, toys, names in wanted:
        fit, bounds = fits.of(methods.mas(fits.maps()), toys, names), fits.bound(toys, names)
        main = (title, names[1]) in ((within, "cumu_val"), (across, "rem_ops"))
        yield Shown("f", title, VARIABLES[names[1]], "MAS", fit, bounds=bounds, headline=main)


def stepwise_panel(fits: Fits) -> Iterator[Shown]:
    """(g) Every embedding up to a position swapped: Multi-Object GRUs against other models."""
    first = fits.toy("multi_object")
    others = {
        "GRU": fits.toy("multi_object", number=1),
        "LSTM": fits.toy("multi_object", "lstm", 1),
        "transformer": fits.toy("multi_object", "transformer", 1),
        "Same-Object GRU": fits.toy("same_object", number=1),
    }
    for group, other in others.items():
        fit = fits.of(methods.stepwise(fits.maps()), (first, other), "full", "embeddings")
        yield Shown("g", "", f"Multi-Object GRU × {group}", "stepwise MAS Full", fit, headline=group == "GRU")


PANELS: dict[str, Callable[[Fits], Iterator[Shown]]] = {
    "a": architectures,
    "b": sizes,
    "c": inaccessible,
    "d": tasks,
    "e": same_object,
    "f": arithmetic,
    "g": stepwise_panel,
}
