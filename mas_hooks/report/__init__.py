"""Tables and figures from records alone: a run can be drawn again without its models."""

from mas_hooks.report.data.claims import Claim, claims_table
from mas_hooks.report.data.groups import Group, GroupBar, GroupPanel
from mas_hooks.report.data.sheets import Sheet, SheetLine
from mas_hooks.report.figures.bars import iia_bars
from mas_hooks.report.figures.curves import iia_curves
from mas_hooks.report.figures.grouped import grouped_bars
from mas_hooks.report.figures.heatmap import direction_heatmap
from mas_hooks.report.figures.layer_heatmap import layer_heatmaps
from mas_hooks.report.figures.pair_groups import PairGroup, pair_groups, pair_panels
from mas_hooks.report.figures.ranks import RankLine, rank_curves
from mas_hooks.report.figures.value_curves import Curve, value_curves
from mas_hooks.report.page.html import Section, html_page, save_html
from mas_hooks.report.page.run_page import draw_run, save_figures
from mas_hooks.report.page.tables import format_value, markdown_table, results_table

__all__ = [
    "Claim",
    "Curve",
    "Group",
    "GroupBar",
    "GroupPanel",
    "PairGroup",
    "RankLine",
    "Section",
    "Sheet",
    "SheetLine",
    "claims_table",
    "direction_heatmap",
    "draw_run",
    "format_value",
    "grouped_bars",
    "html_page",
    "iia_bars",
    "iia_curves",
    "layer_heatmaps",
    "markdown_table",
    "pair_groups",
    "pair_panels",
    "rank_curves",
    "results_table",
    "save_figures",
    "save_html",
    "value_curves",
]
