"""One comparison of language models as data, so that it can run in a process of its own and be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field, model_validator
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.methods import stepwise
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.core.errors import SettingError
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.text_pairs import DirectedPairs
from mas_hooks.engine.cache import ActivationCache, share_activations
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.evaluation.metrics import wilson_interval
from mas_hooks.models.language.with_responses import TextSettings, load_text_models
from mas_hooks.training.controls import ControlName, controls_by_name
from mas_hooks.training.fit import Fit, fit
from mas_hooks.training.settings import FitSettings


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
    def _fits(self) -> TextComparison:
        """A number that names no model is told before anything is loaded."""
        known = range(len(self.texts.models))
        if len(set(self.chosen)) < len(self.chosen) or not set(self.chosen) <= set(known):
            raise SettingError("chosen", self.chosen, f"different numbers of models, 0 to {len(known) - 1}")
        return self

    @property
    def plan(self) -> Plan:
        """The method: of one model alone, swaps within it."""
        plan = stepwise(self.maps)
        return plan.model_copy(update={"models": "one"}) if len(self.chosen) == 1 else plan

    @property
    def name(self) -> str:
        """What its records call it: the models' names, one twice for a model with itself."""
        names = [self.texts.models[number].name for number in self.chosen]
        return " × ".join(names * 2 if len(names) == 1 else names)


def run_text_comparison(work: Work[TextComparison]) -> list[Record]:
    """Fit and test; the curve first (split="valid"), then the final rows, those of the controls, and what it cost.

    Continues where an interrupted run of the same work left off, and ends with the same numbers. Models, pairs and
    activations are shared with other comparisons of the same texts in this process.
    """
    own = work.comparison
    models = load_text_models(own.texts)
    train, valid, test = models.pairs(own.chosen)
    sites = models.sites(own.chosen, own.site)
    alignment = Alignment.from_plan(own.plan, sites, own.seed)
    with share_activations(models.activations):
        done = fit(alignment, own.plan, train, valid, own.fit, folder=work.state, progress=work.progress)
        alignment.save_pretrained(work.alignment)
        controls = controls_by_name(own.controls, (train, valid), own.fit, own.seed)
        table = evaluate(alignment, test, controls)
        agreed = _agreement(alignment, test)
    final = [replace(row, seconds=None if row.control else round(done.seconds, 3)) for row in table.rows]
    rows = [*done.curve, *final, *agreed, *_cost(alignment, done)]
    return [_describe(own, row) for row in rows]


def _agreement(alignment: Alignment, test: DirectedPairs) -> list[Record]:
    """How often a target that reads all of a source's text, without any swap, says the same: what a swap is up to."""
    read = {way: replace(own, target_inputs=_of_the_source(own)) for way, own in test.items()}
    ways = [Direction(*way) for way in read]
    swaps = PatchedDirections(alignment, read, ways, ActivationCache(alignment.sites, alignment.models))
    rows = []
    for way, found in swaps.scores(edited=False).items():
        one, other = alignment.names[way.source], alignment.names[way.target]
        told = Record(source_model=one, target_model=other, source=way.source, target=way.target, split="test")
        told = replace(told, trials=found.trials)
        low, high = wilson_interval(found.right_trials, found.trials)
        rows.append(replace(told, measure="agreement", value=found.iia, value_low=low, value_high=high))
        rows.append(replace(told, measure="agreement_tokens", value=found.token_accuracy))
    return rows


def _of_the_source(pairs: Pairs) -> Tensor:
    """The source's own tokens in place of the target's, so that all of a row is what the source wrote."""
    given, taken = pairs.source_inputs, pairs.target_inputs
    assert isinstance(given, Tensor)
    assert isinstance(taken, Tensor)
    ids = taken.clone()
    ids[pairs.target_where.rows, pairs.target_where.columns] = pairs.source_where.gather(given)
    return ids


def _cost(alignment: Alignment, done: Fit) -> list[Record]:
    """Steps and learned numbers of a fit."""
    learned = sum(parameter.numel() for parameter in alignment.parameters() if parameter.requires_grad)
    told = Record(method=alignment.plan.method, k=alignment.k, init=alignment.init, split="train")
    return [
        replace(told, measure="steps", value=float(done.steps), seconds=round(done.seconds, 3)),
        replace(told, measure="parameters", value=float(learned)),
    ]


def _describe(own: TextComparison, row: Record) -> Record:
    """What every record of a comparison says of it; models are numbered as in the study."""
    ways: Mapping[str, int] = {}
    if row.source is not None and row.target is not None:
        ways = {"source": own.chosen[row.source], "target": own.chosen[row.target]}
    told = {"comparison": own.name, "variable": "full", "source_site": own.site, "target_site": own.site}
    return replace(row, **told, **ways, seed=own.seed)
