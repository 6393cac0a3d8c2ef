"""The stage `align` of the recipe `toxicity`: which comparisons of the fine-tunes are fitted, and how."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mas_hooks.alignment import Init
from mas_hooks.core import records
from mas_hooks.core.checkpoints import ensure_writable
from mas_hooks.core.errors import SettingError
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RECORDS, RunFolder
from mas_hooks.core.settings import Options, Settings
from mas_hooks.evaluation import Statistic
from mas_hooks.models.language import TextModel, TextSettings
from mas_hooks.models.toys import cache_folder
from mas_hooks.studies.stages import alignment_folder, run_comparisons
from mas_hooks.studies.toxicity import fits
from mas_hooks.studies.work import text_comparison
from mas_hooks.studies.work.correlations import correlate_texts
from mas_hooks.training import FitSettings


class AlignSettings(Settings):
    """How the fine-tunes are aligned (defaults: the paper's). Sites and ranks: the first ones are the headline's."""

    sites: tuple[str, ...] = Field(default=("embed",), min_length=1)
    """Where: the first for every pair of models, further ones as --align.sweep says."""
    rank: int | None = Field(default=None, ge=1)
    """Shared dims of the headline; None is half the width of the site."""
    ranks: tuple[int, ...] = ()
    """Further sizes of the subspace, fitted at the first site as --align.sweep says."""
    sweep: Literal["one", "every"] = "every"
    """Further sites and ranks for every pair of models, or for one of each kind."""
    init: Init = "random"
    """Where the maps begin; random is the paper's."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs of a direction."""
    margin: int = Field(default=10, ge=0)
    """Positions at either end of a sequence that are never the last one swapped."""
    fit: FitSettings = FitSettings(batch_size=256, learning_rate=2e-3, steps=3_000, select_by="loss")
    """Of the maps. The batch is that of each direction, so a step of two models has four of them;
    --align.fit.micro-batch makes it of smaller passes. The loss chooses the checkpoint, as a text of many tokens is
    seldom wholly right."""
    controls: Literal["none", "random", "one", "every"] = "one"
    """Random maps beside every fit, and untrained copies and shuffled labels beside one pair of each kind or every."""
    shared_space: bool = True
    """Also all models in one shared space: one fit, beside those of the pairs."""
    resamples: int = Field(default=10, ge=1)
    """Draws of 1,000 positions over which CKA and RSA are averaged."""
    score: Literal["iia", "token_accuracy"] = "iia"
    """What the verdict is on: whole trials, or tokens. The other one is shown beside it."""
    statistic: Statistic = "first"
    """What the permutation tests: toxic–toxic minus toxic–nontoxic (first), nontoxic–nontoxic (second), or both."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the models: auto is bfloat16 on a GPU, and their own elsewhere."""
    seed: int = 0
    """Of pairs, maps and batches."""

    @model_validator(mode="after")
    def _fits(self) -> AlignSettings:
        for name, given in (("sites", self.sites), ("ranks", self.ranks)):
            if len(set(given)) < len(given):
                raise SettingError(f"align.{name}", given, "each once")
        if min(self.ranks, default=1) < 1:
            raise SettingError("align.ranks", self.ranks, "1 dim or more each")
        return self


TINY = AlignSettings(
    sites=("embed", "blocks.1.hook_resid_post"),
    ranks=(4, 16),
    sweep="one",
    sizes=(2_000, 100, 400),
    fit=FitSettings(batch_size=8, learning_rate=1e-2, steps=240, validate_every=60, select_by="loss"),
    resamples=2,
    score="token_accuracy",
)
"""What a small embedded base needs. Its texts go on in many ways that are as good, so that whole trials are seldom
right even where two models read the same: tokens are compared."""


def run_alignments(settings: Any, members: Sequence[Any], run: RunFolder, options: Options) -> list[str]:
    """Fit what the run has not finished yet; the names of the stages in their order. members: toxic first."""
    own, texts = settings.align, _texts(settings, members, options.device)
    planned = fits.plan(own, texts, [member.label for member in members])
    for name, fit in planned.items():
        _fetch(fit, name, run)
    if run.read_stage("similarity") is None:
        rows = correlate_texts(texts, own.sites, resamples=own.resamples, progress=options.progress)
        run.finish_stage("similarity", [_mark_record(row) for row in rows])
    for name, rows in run_comparisons(planned, run, options, text_comparison.run_text_comparison):
        run.finish_stage(name, [_mark_record(row, fits.TOGETHER if name == fits.TOGETHER else None) for row in rows])
        _keep(planned[name], name, run)
    return ["similarity", *planned]


def _place(fit: Any) -> Path:
    """Where a fit is kept for other runs: a folder named after all that it depends on."""
    return cache_folder() / "toxicity" / "align" / hashlib.sha256(fit.model_dump_json().encode()).hexdigest()[:16]


def _keep(fit: Any, name: str, run: RunFolder) -> None:
    """Keep a finished fit: its maps, and then its records, so that where these are it is whole."""
    place = ensure_writable(_place(fit))
    shutil.copytree(alignment_folder(run.path, name), place / "alignment", dirs_exist_ok=True)
    records.write_records(place / RECORDS, run.read_stage(name) or [])


def _fetch(fit: Any, name: str, run: RunFolder) -> None:
    """Take over a fit that another run finished."""
    place = _place(fit)
    if run.read_stage(name) is None and (place / RECORDS).is_file():
        shutil.copytree(place / "alignment", alignment_folder(run.path, name), dirs_exist_ok=True)
        run.finish_stage(name, records.read_records(place / RECORDS))


def _texts(settings: Any, members: Sequence[Any], device: str) -> TextSettings:
    own = settings.align
    models = tuple(TextModel(name=one.name, model=one.model, responses=one.responses) for one in members)
    told = {"sizes": own.sizes, "margin": own.margin, "dtype": own.dtype, "seed": settings.seed + own.seed}
    return TextSettings(models=models, device=device, **told)


def _mark_record(row: Record, comparison: str | None = None) -> Record:
    """A record of this recipe."""
    return replace(row, recipe="toxicity", comparison=comparison or row.comparison)
