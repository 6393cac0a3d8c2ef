"""The drawings by name, `mh.plot`: each takes records or plain data, and a title of one's own.

`iia_bars`, `iia_curves`, `direction_heatmap` and `layer_heatmaps` draw records; the others draw what their small data
classes hold. Each returns a matplotlib figure that no pyplot window owns; `figure.savefig("name.png")` writes it.

Example:
    >>> import mas_hooks as mh
    >>> line = mh.plot.RankLine("MAS", sizes=(1, 2, 4), values=(0.5, 0.8, 0.9), floor=0.1)
    >>> figure = mh.plot.rank_curves([line], title="Two dims are enough", subtitle="Worst direction.", unit="IIA")
    >>> type(figure).__name__
    'Figure'
"""

from mas_hooks.report.data.groups import Group, GroupBar, GroupPanel
from mas_hooks.report.figures.bars import iia_bars
from mas_hooks.report.figures.curves import iia_curves
from mas_hooks.report.figures.grouped import grouped_bars
from mas_hooks.report.figures.heatmap import direction_heatmap
from mas_hooks.report.figures.layer_heatmap import layer_heatmaps
from mas_hooks.report.figures.pair_groups import PairGroup, pair_groups, pair_panels
from mas_hooks.report.figures.ranks import RankLine, rank_curves
from mas_hooks.report.figures.value_curves import Curve, value_curves

__all__ = [
    "Curve",
    "Group",
    "GroupBar",
    "GroupPanel",
    "PairGroup",
    "RankLine",
    "direction_heatmap",
    "grouped_bars",
    "iia_bars",
    "iia_curves",
    "layer_heatmaps",
    "pair_groups",
    "pair_panels",
    "rank_curves",
    "value_curves",
]
