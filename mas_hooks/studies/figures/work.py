"""What the recipe `figures` has to run: every fit once, the correlations, and the null spaces of fitted maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from mas_hooks.alignment import Alignment, methods
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.evaluation import natural_pairs, null_space_shares
from mas_hooks.models.toys import load_toy
from mas_hooks.studies.figures.fits import RANK, Correlated, Fits, Shown, choose_site, fit_name
from mas_hooks.studies.stages import alignment_folder
from mas_hooks.studies.work.correlations import correlate
from mas_hooks.studies.work.toy_comparison import ToyComparison


def plan_fits(
    marks: Iterable[Shown], seeds: Iterable[Fits], letters: Sequence[str], device: str
) -> dict[str, ToyComparison]:
    """Gather every different fit, each with all controls that some mark shows; the slowest first.

    Args:
        marks: Everything that the panels show, over all seeds.
        seeds: What the fits of each seed have in common.
        letters: The panels; panel e adds the fits whose null spaces are measured.
        device: Where the fits run.

    Returns:
        The fits by their names.
    """
    fits_by_name: dict[str, ToyComparison] = {}
    controls: dict[str, set[str]] = {}
    wanted = [(fit, mark.control if fit is mark.fit else None) for mark in marks for fit in (mark.fit, *mark.bounds)]
    if "e" in letters:
        wanted += [(fit, None) for seed_fits in seeds for _, fit, _ in stitched_fits(seed_fits)]
    for fit, control in wanted:
        name = fit_name(fit)
        fits_by_name[name] = fit
        controls.setdefault(name, set()).update([control] if control else [])
    planned = {
        name: fit.model_copy(update={"controls": tuple(sorted(controls[name])), "device": device})
        for name, fit in fits_by_name.items()
    }
    return dict(sorted(planned.items(), key=lambda item: -estimate_cost(item[1])))


def estimate_cost(fit: ToyComparison) -> int:
    """How long a fit takes, roughly and without a unit: `plan_fits` begins with the long ones."""
    blocks = sum(toy.cell == "transformer" for toy in fit.toys)
    return (1 + 5 * blocks + 3 * fit.stepwise) * len(fit.toys) * (1 + len(fit.controls))


def correlate_toys(correlated: Correlated, fits: Fits, run: RunFolder, left_out: Collection[str]) -> str:
    """Measure RSA and CKA of the toys of a seed at one place, unless the run has them already.

    Args:
        correlated: The toys, the place and the pairs that are compared.
        fits: What the fits of the seed have in common.
        run: The folder of the run.
        left_out: Keys of the toys that did not learn their task; pairs with one of them are left out.

    Returns:
        The name of the stage.
    """
    stage = f"correlations-{correlated.group.replace(' ', '-')}-{fits.seed}"
    if run.read_stage(stage) is None:
        short = {number for number, toy in enumerate(correlated.toys) if toy.key in left_out}
        pairs = [pair for pair in correlated.titles if not short & {*pair}]
        sites = [choose_site(toy, correlated.group) for toy in correlated.toys]
        rows = correlate(correlated.toys, sites, fits.seed, pairs) if pairs else []
        titles: dict[tuple[int | None, int | None], str] = {**correlated.titles}
        run.finish_stage(
            stage, [label_figure_record(row, f"{titles[row.source, row.target]} · {correlated.group}") for row in rows]
        )
    return stage


def label_figure_record(row: Record, comparison: str) -> Record:
    """The record under this recipe and the name of its comparison."""
    return replace(row, recipe="figures", comparison=comparison)


def stitched_fits(fits: Fits) -> Iterator[tuple[str, ToyComparison, tuple[int, int]]]:
    """(e) Whose read-out is cut by the behavioural null space: method, fit and direction, Same-Object Count."""
    toys = [fits.toy("same_object", number=number) for number in (0, 1)]
    yield "MAS", fits.of(methods.mas(fits.maps()), toys, "count"), (0, 1)
    yield "linear map 1→2", fits.of(methods.linear_map(1, fits.maps()), toys, "count"), (0, 1)
    yield f"free stitch, rank {RANK}", fits.of(methods.stitch(1, rank=RANK), toys, "count"), (0, 1)
    yield "free stitch 1→2", fits.of(methods.stitch(1), toys, "count"), (0, 1)


def measure_null_spaces(seeds: Iterable[Fits], going: Mapping[str, ToyComparison], run: RunFolder) -> list[str]:
    """Measure how much of what Same-Object maps move is read from what behaviour ignores.

    Args:
        seeds: What the fits of each seed have in common.
        going: The fits that are run, by name; others are skipped.
        run: The folder of the run, which holds their fitted maps.

    Returns:
        The names of the stages.
    """
    stages = []
    for method, fit, (source, target) in (stitched for toy in seeds for stitched in stitched_fits(toy)):
        name = fit_name(fit)
        if name not in going:
            continue
        stage = f"null-{name}"
        stages.append(stage)
        if run.read_stage(stage) is None:
            toys = [load_toy(toy, progress=False) for toy in fit.toys]
            models = fit.wrap_toys([toy.model for toy in toys])
            alignment = Alignment.from_pretrained(alignment_folder(run.path, name), models)
            test = fit.draw_pairs([toy.task for toy in toys], fit.sizes)[2]
            natural = natural_pairs(toys[source].task, seed=fit.seed)
            rows = null_space_shares(alignment, test, natural, source=source, target=target, seed=fit.seed)
            run.finish_stage(stage, [label_figure_record(row, f"null · {method}") for row in rows])
    return stages
