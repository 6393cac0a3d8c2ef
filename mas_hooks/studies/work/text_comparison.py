"""One comparison of language models as data. It can run in a separate process and be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field, model_validator
from torch import Tensor

from mas_hooks.alignment import Alignment, Direction, MapSpec, PatchedDirections, Plan, methods
from mas_hooks.core.errors import SettingError
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.text_pairs import DirectedPairs
from mas_hooks.engine import ActivationCache, share_activations
from mas_hooks.evaluation import evaluate, wilson_interval
from mas_hooks.models.language import TextSettings, load_text_models
from mas_hooks.training import ControlName, Fit, FitSettings, controls_by_name, fit


class TextComparison(Settings):
    """Which models, at which site, by which maps; always stepwise MAS for full behavioural transfer (METHODS §6).

    texts: all models of the study and their pairs. chosen: the numbers of those that share a space here, one for a
    model with itself. seed: of the maps.
    """

    texts: TextSettings
    chosen: tuple[int, ...] = Field(min_length=1)
    site: str = "embed"
    maps: MapSpec
    fit: FitSettings = FitSettings()
    controls: tuple[ControlName, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _check_chosen(self) -> TextComparison:
        """Raise SettingError for a number that names no model, before anything is loaded."""
        known = range(len(self.texts.models))
        if len(set(self.chosen)) < len(self.chosen) or not set(self.chosen) <= set(known):
            raise SettingError("chosen", self.chosen, f"different numbers of models, 0 to {len(known) - 1}")
        return self

    @property
    def plan(self) -> Plan:
        """The method: of one model alone, swaps within it."""
        plan = methods.stepwise(self.maps)
        return plan.model_copy(update={"models": "one"}) if len(self.chosen) == 1 else plan

    @property
    def name(self) -> str:
        """The name in its records: the models' names, the same one twice for a model with itself."""
        names = [self.texts.models[number].name for number in self.chosen]
        return " × ".join(names * 2 if len(names) == 1 else names)


def run_text_comparison(work: Work[TextComparison]) -> list[Record]:
    """Fit and test; the curve first (split="valid"), then the final rows, those of the controls, and what it cost.

    Continues where an interrupted run of the same work left off, and ends with the same numbers. Models, pairs and
    activations are shared with other comparisons of the same texts in this process.
    """
    comparison = work.comparison
    models = load_text_models(comparison.texts)
    train, valid, test = models.pairs(comparison.chosen)
    sites = models.sites(comparison.chosen, comparison.site)
    alignment = Alignment.from_plan(comparison.plan, sites, comparison.seed)
    with share_activations(models.activations):
        fitted = fit(
            alignment, comparison.plan, train, valid, comparison.fit, folder=work.state, progress=work.progress
        )
        alignment.save_pretrained(work.alignment)
        controls = controls_by_name(comparison.controls, (train, valid), comparison.fit, comparison.seed)
        table = evaluate(alignment, test, controls)
        agreed = _agreement(alignment, test)
    final = [replace(row, seconds=None if row.control else round(fitted.seconds, 3)) for row in table.rows]
    rows = [*fitted.curve, *final, *agreed, *_cost(alignment, fitted)]
    return [_describe(comparison, row) for row in rows]


def _agreement(alignment: Alignment, test: DirectedPairs) -> list[Record]:
    """How often a target that reads all of a source's text says the same without a swap: a reference for swaps."""
    read = {way: replace(given, target_inputs=_of_the_source(given)) for way, given in test.items()}
    ways = [Direction(*way) for way in read]
    swaps = PatchedDirections(alignment, read, ways, ActivationCache(alignment.sites, alignment.models))
    rows = []
    for way, score in swaps.scores(edited=False).items():
        source, target = alignment.names[way.source], alignment.names[way.target]
        described = Record(source_model=source, target_model=target, source=way.source, target=way.target, split="test")
        described = replace(described, trials=score.trials)
        low, high = wilson_interval(score.right_trials, score.trials)
        rows.append(replace(described, measure="agreement", value=score.iia, value_low=low, value_high=high))
        rows.append(replace(described, measure="agreement_tokens", value=score.token_accuracy))
    return rows


def _of_the_source(pairs: Pairs) -> Tensor:
    """Put the source's tokens in place of the target's: the whole row is then what the source wrote."""
    given, taken = pairs.source_inputs, pairs.target_inputs
    assert isinstance(given, Tensor)
    assert isinstance(taken, Tensor)
    ids = taken.clone()
    ids[pairs.target_where.rows, pairs.target_where.columns] = pairs.source_where.gather(given)
    return ids


def _cost(alignment: Alignment, fitted: Fit) -> list[Record]:
    """Steps and learned numbers of a fit."""
    learned = sum(parameter.numel() for parameter in alignment.parameters() if parameter.requires_grad)
    described = Record(method=alignment.plan.method, k=alignment.k, init=alignment.init, split="train")
    return [
        replace(described, measure="steps", value=float(fitted.steps), seconds=round(fitted.seconds, 3)),
        replace(described, measure="parameters", value=float(learned)),
    ]


def _describe(comparison: TextComparison, row: Record) -> Record:
    """What every record of a comparison says of it; models are numbered as in the study."""
    ways: Mapping[str, int] = {}
    if row.source is not None and row.target is not None:
        ways = {"source": comparison.chosen[row.source], "target": comparison.chosen[row.target]}
    keys = {
        "comparison": comparison.name,
        "variable": "full",
        "source_site": comparison.site,
        "target_site": comparison.site,
    }
    return replace(row, **keys, **ways, seed=comparison.seed)
