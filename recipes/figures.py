"""Regenerate the figures of the Model Alignment Search paper on numeric tasks, beside what the paper says.

Writes one PNG a panel and `figures.md`, a table *ours | paper | agrees?*. Every toy is trained once and kept in the
cache; every fit runs once, however many panels show it. All fits begin at random orthonormal maps, as the paper's.
"""

from mas_hooks.studies.figures import FiguresSettings, draw_figures, run_figures

__all__ = ["Settings", "draw", "main"]


class Settings(FiguresSettings):
    """Settings of this run; flags override them.

    To change a default, write its field anew below this text, such as

        width: int = 64
        sizes: tuple[int, int, int] = (20_000, 2_000, 2_000)
    """


main = run_figures
draw = draw_figures
