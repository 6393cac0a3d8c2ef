"""What the papers say of each panel of the recipe `figures`, as rows of one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mas_hooks.report import Claim
from mas_hooks.studies.figures import rules

Row, high, above, below, figure = rules.ClaimRow, rules.high, rules.above, rules.below, rules.figure
Key = tuple[str, str, str, str]

GRU, MIXED, LAST = "GRU × GRU", "GRU × transformer", "transformer × transformer"
IN, HID = "embeddings", "hidden state"
PEEK = "chosen on no access (it peeks)"
ACROSS, WITHIN, STEP = "Multi-Object Count × Arithmetic", "Arithmetic × Arithmetic", "stepwise MAS Full"
NO_ACCESS = {name: (PEEK, name, "no access") for name in ("CLMAS", "latent stitching", "stitching", "UniMAS")}
REM, CUMU, LOW = ((ACROSS, group, "MAS") for group in ("Rem Ops", "Cumu Val", "Cumu Val, low"))


def _one(title: str, group: str, key: str) -> dict[str, tuple[str, str, str]]:
    return {"it": (title, group, key)}


def _two(keys: tuple[str, ...], title: str, group: str) -> dict[str, tuple[str, str, str]]:
    return {key: (title, group, key) for key in keys}


ROWS = [
    Row("a", f"{GRU}, Full", "high, bars near 1 (000, Fig. 2)", high, _one(GRU, HID, "MAS Full")),
    Row("a", f"{GRU}, Count", "high (000, §3.1)", high, _one(GRU, HID, "MAS Count")),
    *(
        Row("a", f"{it}, embeddings", "RSA is low where MAS transfers (001, Fig. 2)", above, _two(keys, it, IN))
        for it in (GRU, MIXED)
        for keys in [("MAS Last Value", "RSA")]
    ),
    Row(
        "a",
        f"{MIXED}, hidden state",
        "RSA and CKA over-estimate, MAS is low (001, Fig. 2b)",
        below,
        _two(("MAS Full", "RSA", "CKA"), MIXED, HID),
    ),
    *(
        Row("a", f"{LAST}, {place}, {key}", f"{said} (000, §3.1–3.2)", figure(said), _one(LAST, place, key))
        for place, key, said in (
            (HID, "MAS Full", 0.087),
            (IN, "MAS Last Value", 0.961),
            (HID, "RSA", 0.78),
            (HID, "CKA", 0.96),
        )
    ),
    Row(
        "b",
        "4 dims, Full",
        "suffice at an IIA comparable to DAS (001, Fig. 2d)",
        lambda mas, das: high(mas) and mas.mean >= das.mean - rules.NEAR,
        {"MAS": ("", "4", "MAS"), "DAS": ("", "4", "DAS")},
    ),
    Row("c", "no access", "CLMAS is best (001, Fig. 3a)", above, NO_ACCESS),
    Row(
        "c",
        "CLMAS, no access",
        "recovers much of MAS (000, §3.4): at least half of what is above the floor",
        rules.reaches_half,
        _one(*NO_ACCESS["CLMAS"]),
    ),
    *(
        Row(
            "c",
            f"{name}, no access",
            f"{said} (000, §3.4): less than half of what is above the floor",
            rules.reaches_less,
            _one(*NO_ACCESS[name]),
        )
        for name, said in (("UniMAS", "the lower bound"), ("latent stitching", "near the lower bound"))
    ),
    Row("c", "stitching, access", "not 100% (001, Fig. 3a)", lambda it: it.high < 1, _one(PEEK, "stitching", "access")),
    *(
        Row(
            "d",
            f"Multi-Object × {task}",
            "at the DAS bound (001, Fig. 3b)" if task == "Multi-Object" else "below the DAS bound (001, Fig. 3b)",
            (lambda it: it.high >= it.bound - rules.NEAR)
            if task == "Multi-Object"
            else (lambda it: it.high < it.bound),
            _one("", f"Multi-Object × {task}", "MAS Count"),
        )
        for task in ("Multi-Object", "Rounding", "Modulo", "Same-Object")
    ),
    *(
        Row(
            "e",
            f"{group}, linear map {way}",
            "high where MAS is not (000, Fig. 3)",
            lambda one_way, mas: high(one_way) and above(one_way, mas),
            _two((f"linear map {way}", "MAS"), "", group),
        )
        for group in ("Same × Same-Object", "Multi × Same-Object")
        for way in ("1→2", "2→1")
    ),
    Row(
        "e",
        "null share of what is read",
        "stitching may read what behaviour ignores, MAS may not (000, §3.3)",
        above,
        _two(("free stitch 1→2", "MAS"), "null", "0.01"),
    ),
    *(
        Row("f", f"{variable} within Arithmetic", "high (000, §3.6)", high, _one(WITHIN, variable, "MAS"))
        for variable in ("Cumu Val", "Rem Ops")
    ),
    Row("f", "Count × Rem Ops", "high (000, §3.6)", high, _one(*REM)),
    Row("f", "Count × …", "Rem Ops above Cumu Val (000, §3.6)", above, {"Rem Ops": REM, "Cumu Val": CUMU}),
    Row("f", "Count × …", "low Cumu Val above all (000, §3.6)", above, {"low": LOW, "all": CUMU}),
    Row("f", "Count × …", "Rem Ops above low Cumu Val (000, §3.6)", above, {"Rem Ops": REM, "low": LOW}),
    *(
        Row("g", f"Multi-Object GRU × {it}", "high (000, §3.5)", high, _one("", f"Multi-Object GRU × {it}", STEP))
        for it in ("GRU", "LSTM", "transformer")
    ),
    Row(
        "g",
        "Multi-Object above Same-Object",
        "it drops (000, §3.5)",
        above,
        {it: ("", f"Multi-Object GRU × {it}", STEP) for it in ("GRU", "Same-Object GRU")},
    ),
]


def figure_claims(values: Mapping[Key, Any]) -> list[Claim]:
    """Every claim whose values are there."""
    return [told for told in (_describe_value(row, values) for row in ROWS) if told is not None]


def _describe_value(row: Any, values: Mapping[Key, Any]) -> Claim | None:
    found: list[Any] = [values.get((row.panel, *key)) for key in row.wanted.values()]
    if None in found:
        return None
    if len(found) == 1:
        ends = {"floor": found[0].floor, "bound": found[0].bound}
        ours = [str(found[0]), *(f"{name} {value:.3f}" for name, value in ends.items() if value is not None)]
    else:
        ours = [f"{name} {value}" for name, value in zip(row.wanted, found, strict=True)]
    return Claim(row.panel, row.what, ", ".join(ours), row.paper, row.rule(*found))
