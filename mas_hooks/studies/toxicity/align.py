"""The stage `align` of the recipe `toxicity`: which comparisons of the fine-tunes are fitted, and how."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mas_hooks.core import records
from mas_hooks.core.files import ensure_writable
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RECORDS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.models.language import TextModel, TextSettings
from mas_hooks.models.toys import cache_folder
from mas_hooks.studies.stages import alignment_folder, run_comparisons
from mas_hooks.studies.toxicity import fits
from mas_hooks.studies.toxicity.members import ToxicityMember
from mas_hooks.studies.toxicity.settings import ToxicitySettings
from mas_hooks.studies.work.correlations import correlate_texts
from mas_hooks.studies.work.text_comparison import TextComparison, run_text_comparison


def run_alignments(
    settings: ToxicitySettings, members: Sequence[ToxicityMember], run: RunFolder, options: Options
) -> list[str]:
    """Fit what the run has not finished yet.

    Args:
        settings: Which comparisons are fitted, and how.
        members: The fine-tunes, toxic ones first.
        run: The folder of the run.
        options: Processes, device and bars.

    Returns:
        The names of the stages in their order.

    Raises:
        SettingError: Two fine-tunes have different tokenizers.
        RankError: A rank is larger than the width of its site.
    """
    align_settings, texts = settings.align, _choose_texts(settings, members, options.device)
    planned = fits.plan_text_fits(align_settings, texts, [member.label for member in members])
    for name, fit in planned.items():
        _fetch_fit(fit, name, run)
    if run.read_stage("similarity") is None:
        rows = correlate_texts(
            texts, align_settings.sites, resamples=align_settings.resamples, progress=options.progress
        )
        run.finish_stage("similarity", [_mark_record(row) for row in rows])
    for name, rows in run_comparisons(planned, run, options, run_text_comparison):
        run.finish_stage(name, [_mark_record(row, fits.TOGETHER if name == fits.TOGETHER else None) for row in rows])
        _keep_fit(planned[name], name, run)
    return ["similarity", *planned]


def _cache_place(fit: TextComparison) -> Path:
    """Where a fit is kept for other runs: a folder named after all that it depends on."""
    return cache_folder() / "toxicity" / "align" / hashlib.sha256(fit.model_dump_json().encode()).hexdigest()[:16]


def _keep_fit(fit: TextComparison, name: str, run: RunFolder) -> None:
    """Keep a finished fit: its maps, and then its records, so that where these are it is whole."""
    place = ensure_writable(_cache_place(fit))
    shutil.copytree(alignment_folder(run.path, name), place / "alignment", dirs_exist_ok=True)
    records.write_records(place / RECORDS, run.read_stage(name) or [])


def _fetch_fit(fit: TextComparison, name: str, run: RunFolder) -> None:
    """Take over a fit that another run finished."""
    place = _cache_place(fit)
    if run.read_stage(name) is None and (place / RECORDS).is_file():
        shutil.copytree(place / "alignment", alignment_folder(run.path, name), dirs_exist_ok=True)
        run.finish_stage(name, records.read_records(place / RECORDS))


def _choose_texts(settings: ToxicitySettings, members: Sequence[ToxicityMember], device: str) -> TextSettings:
    align_settings = settings.align
    models = tuple(TextModel(name=member.name, model=member.model, responses=member.responses) for member in members)
    keys = {
        "sizes": align_settings.sizes,
        "margin": align_settings.margin,
        "dtype": align_settings.dtype,
        "seed": settings.seed + align_settings.seed,
    }
    return TextSettings(models=models, device=device, **keys)


def _mark_record(row: Record, comparison: str | None = None) -> Record:
    """A record of this recipe."""
    return replace(row, recipe="toxicity", comparison=comparison or row.comparison)
