"""What the recipe `figures` has to run: every fit once, the correlations, and the null spaces of fitted maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mas_hooks as mh
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.evaluation import natural_pairs, null_space_shares
from mas_hooks.models.toys import load_toy
from mas_hooks.studies.figures import fits
from mas_hooks.studies.stages import alignment_folder
from mas_hooks.studies.work import correlations


def plan_fits(marks: Iterable[Any], seeds: Iterable[Any], letters: Sequence[str], device: str) -> dict[str, Any]:
    """Every different fit by its name, each with all controls that some mark shows; the slowest first."""
    found: dict[str, Any] = {}
    controls: dict[str, set[str]] = {}
    wanted = [(fit, mark.control if fit is mark.fit else None) for mark in marks for fit in (mark.fit, *mark.bounds)]
    if "e" in letters:
        wanted += [(fit, None) for own in seeds for _, fit, _ in stitched_fits(own)]
    for fit, control in wanted:
        name = fits.fit_name(fit)
        found[name] = fit
        controls.setdefault(name, set()).update([control] if control else [])
    own = {
        name: fit.model_copy(update={"controls": tuple(sorted(controls[name])), "device": device})
        for name, fit in found.items()
    }
    return dict(sorted(own.items(), key=lambda item: -fit_cost(item[1])))


def fit_cost(fit: Any) -> int:
    """How long a fit may take, roughly: so that the long ones do not begin last."""
    blocks = sum(toy.cell == "transformer" for toy in fit.toys)
    return (1 + 5 * blocks + 3 * fit.stepwise) * len(fit.toys) * (1 + len(fit.controls))


def correlate_toys(own: Any, one: Any, run: RunFolder, left_out: Collection[str]) -> str:
    """RSA and CKA of the toys of a seed at one place, without those left out; the name of the stage."""
    stage = f"correlations-{own.group.replace(' ', '-')}-{one.seed}"
    if run.read_stage(stage) is None:
        short = {number for number, toy in enumerate(own.toys) if toy.key in left_out}
        pairs = [pair for pair in own.titles if not short & {*pair}]
        sites = [fits.site(toy, own.group) for toy in own.toys]
        rows = correlations.correlate(own.toys, sites, one.seed, pairs) if pairs else []
        run.finish_stage(
            stage, [mark_record(row, f"{own.titles[row.source, row.target]} · {own.group}") for row in rows]
        )
    return stage


def mark_record(row: Record, comparison: str) -> Record:
    """A record of this recipe."""
    return replace(row, recipe="figures", comparison=comparison)


def stitched_fits(own: Any) -> Iterator[tuple[str, Any, tuple[int, int]]]:
    """(e) Whose read-out is cut by the behavioural null space: method, fit and direction, Same-Object Count."""
    toys = [own.toy("same_object", number=number) for number in (0, 1)]
    yield "MAS", own.of(mh.methods.mas(own.maps()), toys, "count"), (0, 1)
    yield "linear map 1→2", own.of(mh.methods.linear_map(1, own.maps()), toys, "count"), (0, 1)
    yield f"free stitch, rank {fits.RANK}", own.of(mh.methods.stitch(1, rank=fits.RANK), toys, "count"), (0, 1)
    yield "free stitch 1→2", own.of(mh.methods.stitch(1), toys, "count"), (0, 1)


def null_spaces(seeds: Iterable[Any], going: Mapping[str, Any], run: RunFolder) -> list[str]:
    """How much of what Same-Object maps move is read from what behaviour ignores; the names of the stages."""
    stages = []
    for method, fit, (source, target) in (found for own in seeds for found in stitched_fits(own)):
        name = fits.fit_name(fit)
        if name not in going:
            continue
        stage = f"null-{name}"
        stages.append(stage)
        if run.read_stage(stage) is None:
            toys = [load_toy(own, progress=False) for own in fit.toys]
            models = [site.model for site in fit.places([one.model for one in toys])]
            alignment = mh.Alignment.from_pretrained(alignment_folder(run.path, name), models)
            test = fit.pairs([one.task for one in toys], fit.sizes)[2]
            natural = natural_pairs(toys[source].task, seed=fit.seed)
            rows = null_space_shares(alignment, test, natural, source=source, target=target, seed=fit.seed)
            run.finish_stage(stage, [mark_record(row, f"null · {method}") for row in rows])
    return stages
