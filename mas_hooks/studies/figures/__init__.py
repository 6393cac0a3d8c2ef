"""Regenerate the figures of the Model Alignment Search paper on numeric tasks, beside what the paper says.

Writes one PNG a panel and `figures.md`, a table *ours | paper | agrees?*. Every toy is trained once and kept in the
cache; every fit runs once, however many panels show it. All fits begin at random orthonormal maps, as the paper's.
"""

from mas_hooks.studies.figures.run import draw_figures, run_figures
from mas_hooks.studies.figures.settings import FiguresSettings

__all__ = ["FiguresSettings", "draw_figures", "run_figures"]
