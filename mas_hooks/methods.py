"""Every method as a Plan in a few lines: which maps, and which directions are trained."""

from __future__ import annotations

from mas_hooks.maps import MapSpec
from mas_hooks.plan import Plan


def das(maps: MapSpec | None = None) -> Plan:
    """Distributed Alignment Search: the map of one model, trained on swaps within it (Geiger et al. 2023)."""
    return Plan(method="das", models="one", maps=maps)


def mas(maps: MapSpec | None = None) -> Plan:
    """Model Alignment Search: one map per model, trained on every ordered pair, i→i included (Grant 2025, eq. 6)."""
    return Plan(method="mas", maps=maps)


def unimas(accessible: int = 0, maps: MapSpec | None = None) -> Plan:
    """MAS trained only on swaps into the accessible model (Grant 2025, eq. 7)."""
    return Plan(method="unimas", into="accessible", accessible=accessible, maps=maps)
