"""What Brown et al. 2023 say of stitching SoLU and GELU models, beside what a run found. Written before any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mas_hooks.core.records import Record
from mas_hooks.report import Claim

RULES = (
    "Paper: Brown et al. 2023, §3 and Fig. 1 (3- and 4-layer models of 9.4 and 13 million weights on the Pile; no "
    "intervals given). A claim agrees when at every layer the difference of the penalties is above 0: its mean over "
    "test rows and seeds with the whole 95% interval (Student's t over test rows, each averaged over the seeds), and "
    "the mean of every single seed. The interval over seeds, in the table of differences, says "
    "whether other models of the same kind would do the same."
)

OVER_SEEDS = "penalty_difference_of_seeds"


def penalty_claims(rows: Sequence[Record]) -> list[Claim]:
    """Three claims of the paper, each over all layers."""
    differences = [row for row in rows if row.measure == "penalty_difference"]
    names = list(dict.fromkeys(str(row.source_model) for row in differences))
    solu = [name for name in names if "solu" in name.lower()]
    gelu = [name for name in names if "gelu" in name.lower()]
    if len(solu) != 1 or len(gelu) != 1:
        why = f"{' and '.join(names)} do not say in their names which is a SoLU and which a GELU model"
        return [Claim("Fig. 1", "SoLU and GELU models", "", "SoLU → GELU above GELU → SoLU", None, why)]
    s, g = solu[0], gelu[0]
    into_gelu, into_solu = f"{s} → {g}", f"{g} → {s}"
    same = (f"{g} → {g}", f"{s} → {s}")
    cross = [(across, within) for across in (into_gelu, into_solu) for within in same]
    return [
        _penalty_claim(
            rows, "SoLU head on GELU tail costs more than the reverse", [(into_gelu, into_solu)], "at every layer"
        ),
        _penalty_claim(rows, "both cost more than a model stitched to itself", cross, "at every layer"),
        _penalty_claim(
            rows, "SoLU stitches to itself better than GELU", [(same[0], same[1])], "SoLU → SoLU below GELU → GELU"
        ),
    ]


def _penalty_claim(rows: Sequence[Record], what: str, pairs: Sequence[tuple[str, str]], paper: str) -> Claim:
    """One claim: that each difference of two comparisons is positive. Of many it shows the least."""
    differences = [difference for first, second in pairs for difference in _differences(rows, first, second)]
    places = [_name_place(row, sign, named=len(pairs) > 1) for row, sign in differences]
    intervals = [
        f"{place}: {format_interval(row, sign)}" for place, (row, sign) in zip(places, differences, strict=True)
    ]
    if len(pairs) > 1:
        least = min(
            range(len(differences)), key=lambda index: differences[index][1] * float(differences[index][0].value or 0.0)
        )
        intervals = [f"least of {len(differences)} differences: {intervals[least]}"]
    against = [place for place, difference in zip(places, differences, strict=True) if not _is_above(rows, *difference)]
    why = f"not in {len(against)} of {len(differences)}" if len(pairs) > 1 else f"not {', '.join(against)}"
    return Claim("Fig. 1", what, "; ".join(intervals), paper, not against, why if against else "")


def _name_place(row: Record, sign: int, *, named: bool) -> str:
    names = _comparison_names(row)[::sign]
    site = f"behind block {str(row.target_site).split('.')[1]}"
    return f"{names[0]} minus {names[1]} {site}" if named else site


def _differences(rows: Sequence[Record], first: str, second: str) -> list[tuple[Record, int]]:
    """The differences over all seeds, and −1 where the run took them the other way round."""
    whole = [row for row in rows if row.measure == "penalty_difference" and row.seeds is not None]
    matching = [(row, 1) for row in whole if _comparison_names(row) == (first, second)]
    return matching or [(row, -1) for row in whole if _comparison_names(row) == (second, first)]


def _comparison_names(row: Record) -> tuple[str, str]:
    return str(row.comparison), str(row.variable).removeprefix("minus ")


def same_place(row: Record) -> Callable[[Record], bool]:
    """Whether a record is of the same two comparisons behind the same block."""
    return lambda other: _comparison_names(other) == _comparison_names(row) and other.target_site == row.target_site


def _is_above(rows: Sequence[Record], row: Record, sign: int) -> bool:
    limits = [sign * float(end or 0.0) for end in (row.value_low, row.value_high)]
    seeds = [row_ for row_ in rows if row_.measure == "penalty_difference" and row_.seed is not None]
    return min(limits) > 0 and all(sign * float(row_.value or 0.0) > 0 for row_ in filter(same_place(row), seeds))


def format_interval(row: Record, sign: int = 1) -> str:
    """The value with its interval."""
    return f"{format_number(sign * float(row.value or 0.0))} {format_ends(row, sign)}"


def format_ends(row: Record, sign: int) -> str:
    """The interval."""
    low, high = sorted(sign * float(end or 0.0) for end in (row.value_low, row.value_high))
    return f"[{format_number(low)}, {format_number(high)}]"


def format_number(value: float) -> str:
    """Three digits, with a minus sign."""
    return f"{value:.3f}".replace("-", "−")
