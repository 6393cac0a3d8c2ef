"""What Brown et al. 2023 say of stitching SoLU and GELU models, beside what a run found. Written before any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mas_hooks.records import Record
from mas_hooks.report import Claim

RULES = (
    "Paper: Brown et al. 2023, §3 and Fig. 1 (3- and 4-layer models of 9.4 and 13 million weights on the Pile; no "
    "intervals given). A claim agrees when at every layer the difference of the penalties is above 0: its mean over "
    "test rows and seeds with the whole 95% interval (Student's t over test rows, each averaged over the seeds), and "
    "the mean of every single seed. Whether other models of the same kind would do the same is told by the interval "
    "over seeds, which stands beside it."
)


def claims(rows: Sequence[Record]) -> list[Claim]:
    """Three claims of the paper, each over all layers."""
    found = [row for row in rows if row.measure == "penalty_difference"]
    names = list(dict.fromkeys(str(row.source_model) for row in found))
    solu = [name for name in names if "solu" in name.lower()]
    gelu = [name for name in names if "gelu" in name.lower()]
    if len(solu) != 1 or len(gelu) != 1:
        why = f"{' and '.join(names)} are not told by name to be a SoLU and a GELU model"
        return [Claim("Fig. 1", "SoLU and GELU models", "", "SoLU → GELU above GELU → SoLU", None, why)]
    s, g = solu[0], gelu[0]
    into_gelu, into_solu = f"{s} → {g}", f"{g} → {s}"
    same = (f"{g} → {g}", f"{s} → {s}")
    cross = [(one, other) for one in (into_gelu, into_solu) for other in same]
    return [
        _claim(rows, "SoLU head on GELU tail costs more than the reverse", [(into_gelu, into_solu)], "at every layer"),
        _claim(rows, "both cost more than a model stitched to itself", cross, "at every layer"),
        _claim(rows, "SoLU stitches to itself better than GELU", [(same[0], same[1])], "SoLU → SoLU below GELU → GELU"),
    ]


def _claim(rows: Sequence[Record], what: str, differences: Sequence[tuple[str, str]], paper: str) -> Claim:
    """One claim: that each difference of two comparisons is positive."""
    told, against = [], []
    for one, other in differences:
        for row, sign in _differences(rows, one, other):
            site = f"block {str(row.target_site).split('.')[1]}"
            place = f"{one} minus {other}, {site}" if len(differences) > 1 else site
            told.append(f"{place}: {interval(row, sign)}{_over_seeds(rows, row, sign)}")
            if not _above(rows, row, sign):
                against.append(place)
    why = f"not at {'; '.join(against)}" if against else ""
    return Claim("Fig. 1", what, "; ".join(told), paper, not against, why)


def _differences(rows: Sequence[Record], one: str, other: str) -> list[tuple[Record, int]]:
    """The differences over all seeds, and −1 where the run took them the other way round."""
    whole = [row for row in rows if row.measure == "penalty_difference" and row.seeds is not None]
    found = [(row, 1) for row in whole if _names(row) == (one, other)]
    return found or [(row, -1) for row in whole if _names(row) == (other, one)]


def _names(row: Record) -> tuple[str, str]:
    return str(row.comparison), str(row.variable).removeprefix("minus ")


def _same_place(row: Record) -> Callable[[Record], bool]:
    return lambda other: _names(other) == _names(row) and other.target_site == row.target_site


def _above(rows: Sequence[Record], row: Record, sign: int) -> bool:
    ends = [sign * float(end or 0.0) for end in (row.value_low, row.value_high)]
    seeds = [one for one in rows if one.measure == "penalty_difference" and one.seed is not None]
    return min(ends) > 0 and all(sign * float(one.value or 0.0) > 0 for one in filter(_same_place(row), seeds))


def _over_seeds(rows: Sequence[Record], row: Record, sign: int) -> str:
    """The interval over seeds, where there are several."""
    over = [one for one in rows if one.measure == "penalty_difference_of_seeds" and (one.seeds or 0) > 1]
    return "".join(f", over {one.seeds} seeds {_ends(one, sign)}" for one in filter(_same_place(row), over))


def interval(row: Record, sign: int = 1) -> str:
    """The value with its interval."""
    return f"{_number(sign * float(row.value or 0.0))} {_ends(row, sign)}"


def _ends(row: Record, sign: int) -> str:
    low, high = sorted(sign * float(end or 0.0) for end in (row.value_low, row.value_high))
    return f"[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")
