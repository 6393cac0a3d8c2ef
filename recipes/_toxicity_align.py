"""The stage `align` of the recipe `toxicity`: which comparisons of the fine-tunes are fitted, and how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mas_hooks.fit_loop import FitSettings
from mas_hooks.maps.spec import Init
from mas_hooks.model_groups import Statistic
from mas_hooks.run_folder import RunFolder
from mas_hooks.settings import Settings
from mas_hooks.shipped import Options


class AlignSettings(Settings):
    """How the fine-tunes are aligned (defaults: the paper's). Sites and ranks: the first ones are the headline's."""

    sites: tuple[str, ...] = Field(default=("embed",), min_length=1)
    """Where: the first for every pair of models, further ones as --sweep says."""
    rank: int | None = Field(default=None, ge=1)
    """Shared dims of the headline; None is half the width of the site."""
    ranks: tuple[int, ...] = ()
    """Further sizes of the subspace, fitted at the first site as --sweep says."""
    sweep: Literal["one", "every"] = "every"
    """Further sites and ranks for every pair of models, or for one of each kind."""
    init: Init = "random"
    """Where the maps begin; random is the paper's."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs of a direction."""
    margin: int = Field(default=10, ge=0)
    """Positions at either end of a sequence that are never the last one swapped."""
    fit: FitSettings = FitSettings(batch_size=256, learning_rate=2e-3, epochs=76)
    """Of the maps: 76 epochs of 39 steps are at most 2,964 steps."""
    controls: Literal["none", "random", "one", "every"] = "one"
    """Random maps beside every fit, and untrained copies and shuffled labels beside one pair of each kind or every."""
    shared_space: bool = True
    """Also all models in one shared space: one fit, beside those of the pairs."""
    statistic: Statistic = "first"
    """What the permutation tests: toxic–toxic minus toxic–nontoxic (first), nontoxic–nontoxic (second), or both."""
    seed: int = 0
    """Of pairs, maps and batches."""


TINY = AlignSettings(
    ranks=(4, 16),
    sweep="one",
    sizes=(2_000, 200, 500),
    fit=FitSettings(batch_size=32, learning_rate=1e-2, epochs=4, validate_every=60),
)
"""What a small embedded base needs."""


def run(settings: AlignSettings, members: Sequence[Any], run: RunFolder, options: Options) -> list[str]:
    """Fit what the run has not finished yet; the names of the stages in their order. members: toxic first."""
    raise NotImplementedError


def alignment_folders(run_dir: Path) -> Path:
    """Where the fitted alignments of a run lie."""
    return run_dir / "alignment"
