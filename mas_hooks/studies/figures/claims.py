"""What the papers say of each panel of the recipe `figures`, as rows of one table."""

from __future__ import annotations

from collections.abc import Mapping

from mas_hooks.report import Claim
from mas_hooks.studies.figures import rules
from mas_hooks.studies.figures.results import Key, Value
from mas_hooks.studies.figures.rules import ClaimRow, is_above, is_below, is_high, match_figure

GRU, MIXED, LAST = "GRU × GRU", "GRU × transformer", "transformer × transformer"
IN, HID = "embeddings", "hidden state"
PEEK = "chosen on no access (it peeks)"
ACROSS, WITHIN, STEP = "Multi-Object Count × Arithmetic", "Arithmetic × Arithmetic", "stepwise MAS Full"
NO_ACCESS = {name: (PEEK, name, "no access") for name in ("CLMAS", "latent stitching", "stitching", "UniMAS")}
REM, CUMU, LOW = ((ACROSS, group, "MAS") for group in ("Rem Ops", "Cumu Val", "Cumu Val, low"))


def _at_one_key(title: str, group: str, key: str) -> dict[str, tuple[str, str, str]]:
    return {"value": (title, group, key)}


def _at_keys(keys: tuple[str, ...], title: str, group: str) -> dict[str, tuple[str, str, str]]:
    return {key: (title, group, key) for key in keys}


ROWS = [
    ClaimRow("a", f"{GRU}, Full", "high, bars near 1 (000, Fig. 2)", is_high, _at_one_key(GRU, HID, "MAS Full")),
    ClaimRow("a", f"{GRU}, Count", "high (000, §3.1)", is_high, _at_one_key(GRU, HID, "MAS Count")),
    *(
        ClaimRow(
            "a",
            f"{name}, embeddings",
            "RSA is low where MAS transfers (001, Fig. 2)",
            is_above,
            _at_keys(keys, name, IN),
        )
        for name in (GRU, MIXED)
        for keys in [("MAS Last Value", "RSA")]
    ),
    ClaimRow(
        "a",
        f"{MIXED}, hidden state",
        "RSA and CKA over-estimate, MAS is low (001, Fig. 2b)",
        is_below,
        _at_keys(("MAS Full", "RSA", "CKA"), MIXED, HID),
    ),
    *(
        ClaimRow(
            "a",
            f"{LAST}, {place}, {key}",
            f"{paper} (000, §3.1–3.2)",
            match_figure(paper),
            _at_one_key(LAST, place, key),
        )
        for place, key, paper in (
            (HID, "MAS Full", 0.087),
            (IN, "MAS Last Value", 0.961),
            (HID, "RSA", 0.78),
            (HID, "CKA", 0.96),
        )
    ),
    ClaimRow(
        "b",
        "4 dims, Full",
        "suffice at an IIA comparable to DAS (001, Fig. 2d)",
        lambda mas, das: is_high(mas) and mas.mean >= das.mean - rules.NEAR,
        {"MAS": ("", "4", "MAS"), "DAS": ("", "4", "DAS")},
    ),
    ClaimRow("c", "no access", "CLMAS is best (001, Fig. 3a)", is_above, NO_ACCESS),
    ClaimRow(
        "c",
        "CLMAS, no access",
        "recovers much of MAS (000, §3.4): at least half of what is above the floor",
        rules.reaches_half,
        _at_one_key(*NO_ACCESS["CLMAS"]),
    ),
    *(
        ClaimRow(
            "c",
            f"{name}, no access",
            f"{paper} (000, §3.4): less than half of what is above the floor",
            rules.reaches_less,
            _at_one_key(*NO_ACCESS[name]),
        )
        for name, paper in (("UniMAS", "the lower bound"), ("latent stitching", "near the lower bound"))
    ),
    ClaimRow(
        "c",
        "stitching, access",
        "not 100% (001, Fig. 3a)",
        lambda name: name.high < 1,
        _at_one_key(PEEK, "stitching", "access"),
    ),
    *(
        ClaimRow(
            "d",
            f"Multi-Object × {task}",
            "at the DAS bound (001, Fig. 3b)" if task == "Multi-Object" else "below the DAS bound (001, Fig. 3b)",
            (lambda name: name.high >= name.bound - rules.NEAR)
            if task == "Multi-Object"
            else (lambda name: name.high < name.bound),
            _at_one_key("", f"Multi-Object × {task}", "MAS Count"),
        )
        for task in ("Multi-Object", "Rounding", "Modulo", "Same-Object")
    ),
    *(
        ClaimRow(
            "e",
            f"{group}, linear map {way}",
            "high where MAS is not (000, Fig. 3)",
            lambda one_way, mas: is_high(one_way) and is_above(one_way, mas),
            _at_keys((f"linear map {way}", "MAS"), "", group),
        )
        for group in ("Same × Same-Object", "Multi × Same-Object")
        for way in ("1→2", "2→1")
    ),
    ClaimRow(
        "e",
        "null share of what is read",
        "stitching may read what behaviour ignores, MAS may not (000, §3.3)",
        is_above,
        _at_keys(("free stitch 1→2", "MAS"), "null", "0.01"),
    ),
    *(
        ClaimRow(
            "f", f"{variable} within Arithmetic", "high (000, §3.6)", is_high, _at_one_key(WITHIN, variable, "MAS")
        )
        for variable in ("Cumu Val", "Rem Ops")
    ),
    ClaimRow("f", "Count × Rem Ops", "high (000, §3.6)", is_high, _at_one_key(*REM)),
    ClaimRow("f", "Count × …", "Rem Ops above Cumu Val (000, §3.6)", is_above, {"Rem Ops": REM, "Cumu Val": CUMU}),
    ClaimRow("f", "Count × …", "low Cumu Val above all (000, §3.6)", is_above, {"low": LOW, "all": CUMU}),
    ClaimRow("f", "Count × …", "Rem Ops above low Cumu Val (000, §3.6)", is_above, {"Rem Ops": REM, "low": LOW}),
    *(
        ClaimRow(
            "g",
            f"Multi-Object GRU × {name}",
            "high (000, §3.5)",
            is_high,
            _at_one_key("", f"Multi-Object GRU × {name}", STEP),
        )
        for name in ("GRU", "LSTM", "transformer")
    ),
    ClaimRow(
        "g",
        "Multi-Object above Same-Object",
        "it drops (000, §3.5)",
        is_above,
        {name: ("", f"Multi-Object GRU × {name}", STEP) for name in ("GRU", "Same-Object GRU")},
    ),
]


def figure_claims(values: Mapping[Key, Value]) -> list[Claim]:
    """Every claim whose values are there."""
    return [claim for claim in (_describe_value(row, values) for row in ROWS) if claim is not None]


def _describe_value(row: ClaimRow, values: Mapping[Key, Value]) -> Claim | None:
    compared = [value for key in row.wanted.values() if (value := values.get((row.panel, *key))) is not None]
    if len(compared) < len(row.wanted):
        return None
    if len(compared) == 1:
        ends = {"floor": compared[0].floor, "bound": compared[0].bound}
        ours = [str(compared[0]), *(f"{name} {value:.3f}" for name, value in ends.items() if value is not None)]
    else:
        ours = [f"{name} {value}" for name, value in zip(row.wanted, compared, strict=True)]
    return Claim(row.panel, row.what, ", ".join(ours), row.paper, row.rule(*compared))
