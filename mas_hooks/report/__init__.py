"""Tables and figures from records alone: a run can be drawn again without its models."""

from mas_hooks.report.bars import iia_bars
from mas_hooks.report.claims import Claim, claims_table
from mas_hooks.report.curves import iia_curves
from mas_hooks.report.grouped import grouped_bars
from mas_hooks.report.groups import Bar, Group, Panel
from mas_hooks.report.heatmap import direction_heatmap
from mas_hooks.report.html import Section, html_page, save_html
from mas_hooks.report.layer_heatmap import layer_heatmaps
from mas_hooks.report.page import draw, save
from mas_hooks.report.pair_groups import PairGroup, pair_groups, pair_panels
from mas_hooks.report.ranks import Line, rank_curves
from mas_hooks.report.tables import markdown, table
from mas_hooks.report.value_curves import Curve, value_curves

__all__ = [
    "Bar",
    "Claim",
    "Curve",
    "Group",
    "Line",
    "PairGroup",
    "Panel",
    "Section",
    "claims_table",
    "direction_heatmap",
    "draw",
    "grouped_bars",
    "html_page",
    "iia_bars",
    "iia_curves",
    "layer_heatmaps",
    "markdown",
    "pair_groups",
    "pair_panels",
    "rank_curves",
    "save",
    "save_html",
    "table",
    "value_curves",
]
