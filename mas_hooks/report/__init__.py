"""Tables and figures from records alone: a run can be drawn again without its models."""

from mas_hooks.report.bars import iia_bars
from mas_hooks.report.curves import iia_curves
from mas_hooks.report.heatmap import direction_heatmap
from mas_hooks.report.page import draw
from mas_hooks.report.tables import markdown, table

__all__ = ["direction_heatmap", "draw", "iia_bars", "iia_curves", "markdown", "table"]
