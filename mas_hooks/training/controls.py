"""How much of an IIA is no evidence: the same fit where there is nothing to find.

Example:
    >>> from mas_hooks import controls
    >>> [control.name for control in (controls.RandomMaps(), controls.RandomMaps(seed=1, name="again"))]
    ['random_maps', 'again']
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Recording, Site, Where
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Directed, Pairs
from mas_hooks.evaluation.evaluate import Control, Evaluation, evaluate
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.huggingface import is_pretrained
from mas_hooks.training.fit import fit
from mas_hooks.training.settings import FitSettings

ControlName = Literal["untrained", "shuffled_labels", "random_maps"]


@dataclass(frozen=True)
class RandomMaps:
    """Frozen random orthonormal maps: what a swap of arbitrary dims does.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> [row.control for row in mh.evaluate(alignment, pairs, controls=[mh.controls.RandomMaps()]).rows]
        [None, 'random_maps']
    """

    seed: int = 0
    name: str = "random_maps"

    def run(self, alignment: Alignment, test: Directed) -> Evaluation:
        """The table with random maps of the same rank, or random transports, in place of the fitted ones."""
        if alignment.plan.transport is not None:
            return self._random_transports(alignment, alignment.plan.transport, test)
        spec = alignment.spec.model_copy(update={"kind": "fixed", "init": "random", "scale": "fixed"})
        placebo = Alignment.from_plan(alignment.plan.model_copy(update={"maps": spec}), alignment.sites)
        generator = torch.Generator().manual_seed(self.seed)
        placebo.set_frames([random_frame(site.width, spec.total, generator) for site in alignment.sites])
        for random_map, fitted in zip(placebo.site_maps, alignment.site_maps, strict=True):
            random_map.calibration.load_state_dict(fitted.calibration.state_dict())
        return evaluate(placebo, test)

    def _random_transports(self, alignment: Alignment, spec: TransportSpec, test: Directed) -> Evaluation:
        if spec.kind == "identity":
            raise UnsupportedError("random maps in place of an identity", "leave out that control")
        plan = alignment.plan.model_copy(update={"transport": spec.model_copy(update={"init": "random"})})
        return evaluate(Alignment.from_plan(plan, alignment.sites, alignment.seed + 1 + self.seed), test)


@dataclass(frozen=True, eq=False)
class Untrained:
    """The same fit on copies of the models with fresh random weights: what the architecture alone gives away.

    Args:
        train: training pairs of the fit.
        valid: its validation pairs.
        settings: its settings.
        seed: of the fresh weights.
        latents: its natural cells.
        name: what its rows are marked with.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> control = mh.controls.Untrained(pairs, pairs, mh.FitSettings(batch_size=2, steps=1))
        >>> [row.control for row in mh.evaluate(alignment, pairs, controls=[control]).rows]
        [None, 'untrained']
    """

    train: Directed
    valid: Directed
    settings: FitSettings | None = None
    seed: int = 0
    latents: Mapping[int, NaturalCells] = field(default_factory=dict)
    name: str = "untrained"

    def run(self, alignment: Alignment, test: Directed) -> Evaluation:
        """The table after refitting on untrained copies. Raises UnsupportedError for modules that cannot be reset."""
        copies: dict[int, HookedModel] = {}
        sites: list[Site | Recording] = []
        for site, model in zip(alignment.sites, alignment.models, strict=True):
            if isinstance(site, Recording) or model is None:
                sites.append(site)
                continue
            if id(model) not in copies:
                copies[id(model)] = replace(model, module=reinitialise_models(model.module, self.seed + len(copies)))
            sites.append(replace(site, model=copies[id(model)]))
        placebo = Alignment.from_plan(alignment.plan, sites, alignment.seed)
        fit(placebo, alignment.plan, self.train, self.valid, self.settings, latents=self.latents, progress=False)
        return evaluate(placebo, test)


@dataclass(frozen=True, eq=False)
class ShuffledLabels:
    """The same fit with the counterfactual labels of each pair dealt to another pair's source: nothing to learn.

    Args:
        train: training pairs of the fit.
        valid: its validation pairs.
        settings: its settings.
        seed: of the shuffle.
        latents: its natural cells.
        name: what its rows are marked with.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> control = mh.controls.ShuffledLabels(pairs, pairs, mh.FitSettings(batch_size=2, steps=1))
        >>> [row.control for row in mh.evaluate(alignment, pairs, controls=[control]).rows]
        [None, 'shuffled_labels']
    """

    train: Directed
    valid: Directed
    settings: FitSettings | None = None
    seed: int = 0
    latents: Mapping[int, NaturalCells] = field(default_factory=dict)
    name: str = "shuffled_labels"

    def run(self, alignment: Alignment, test: Directed) -> Evaluation:
        """The table after refitting and testing on shuffled pairs."""
        placebo = Alignment.from_plan(alignment.plan, alignment.sites, alignment.seed)
        sets = [shuffle_labels(pairs, self.seed + split) for split, pairs in enumerate((self.train, self.valid, test))]
        fit(placebo, alignment.plan, sets[0], sets[1], self.settings, latents=self.latents, progress=False)
        return evaluate(placebo, sets[2])


def controls_by_name(
    names: Iterable[ControlName],
    sets: tuple[Directed, Directed],
    settings: FitSettings | None = None,
    seed: int = 0,
    latents: Mapping[int, NaturalCells] | None = None,
) -> list[Control]:
    """Make controls by name.

    Args:
        names: of `untrained`, `shuffled_labels` and `random_maps`.
        sets: training and validation pairs of the fit.
        settings: those of the fit.
        seed: of whatever is random in a control.
        latents: natural cells of the fit.

    Returns:
        One control for each name, in their order.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> [type(control).__name__ for control in mh.controls.controls_by_name(["untrained"], (pairs, pairs))]
        ['Untrained']
    """
    parts = (*sets, settings, seed, latents or {})
    controls: dict[ControlName, Control] = {
        "random_maps": RandomMaps(seed),
        "untrained": Untrained(*parts),
        "shuffled_labels": ShuffledLabels(*parts),
    }
    return [controls[name] for name in names]


def reinitialise_models(module: nn.Module, seed: int) -> nn.Module:
    """Copy a module with every part reset to fresh random weights.

    A Hugging Face model is made anew from its config. Raises UnsupportedError naming a part of any other module that
    holds parameters but has no reset_parameters().

    Example:
        >>> import torch
        >>> from mas_hooks import controls
        >>> trained = torch.nn.Linear(2, 2)
        >>> fresh = controls.reinitialise_models(trained, seed=0)
        >>> torch.equal(fresh.weight, trained.weight), fresh.weight.shape
        (False, torch.Size([2, 2]))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_pretrained(module):
            anew = type(module)(copy.deepcopy(module.config)).requires_grad_(False)  # pyright: ignore
            first = next(module.parameters())
            return anew.to(first.device, first.dtype).train(module.training)
        fresh = copy.deepcopy(module)
        for path, part in fresh.named_modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                what = f"resetting {path or 'the model'} ({type(part).__name__})"
                raise UnsupportedError(what, "give it a reset_parameters() method, or leave out the untrained control")
    return fresh


def shuffle_labels(pairs: Directed, seed: int) -> Directed:
    """Keep targets and labels, each with another pair's source. Pairs shared by directions stay shared.

    A pair that swaps several cells keeps both sides up to the last of them, and is dealt what another pair goes on
    with. Raises UnsupportedError where that is not known, as the ids are no plain tensor or labelled before the swap.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> shuffled = mh.controls.shuffle_labels(pairs, seed=2)
        >>> torch.equal(shuffled.labels, pairs.labels), sorted(shuffled.source_key.tolist())
        (True, [0, 1])
    """
    if isinstance(pairs, Pairs):
        return _shuffle_pairs(pairs, seed)
    sets = {id(each): each for each in pairs.values()}
    shuffled = {key: _shuffle_pairs(each, seed) for key, each in sets.items()}
    return {direction: shuffled[id(each)] for direction, each in pairs.items()}


def _shuffle_pairs(pairs: Pairs, seed: int) -> Pairs:
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    if not pairs.single or len(pairs.source_where) != len(pairs):
        return _deal_continuations(pairs, order)
    where, inputs = pairs.source_where, pairs.source_inputs
    dealt = Where(where.rows[order], where.columns[order])
    if inputs is not None:
        inputs, dealt = model_inputs.select_rows(inputs, where.rows[order]), Where.one_per_row(where.columns[order])
    return replace(pairs, source_inputs=inputs, source_where=dealt, source_key=pairs.source_key[order])


def _deal_continuations(pairs: Pairs, order: Int[Tensor, " n"]) -> Pairs:
    """Pairs of several cells with the continuations of other pairs, moved to begin where they are swapped last."""
    ids, order = pairs.target_inputs, order.to(pairs.labels.device)
    marked, last = pairs.label_mask | pairs.deterministic_mask, _last_swaps(pairs)
    columns = torch.arange(marked.shape[1], device=last.device)
    early = bool((last < 0).any()) or bool((marked & (columns < last[:, None])).any())
    if not isinstance(ids, Tensor) or ids.ndim != 2 or pairs.expected is not None or early:
        remedy = "give plain ids labelled from the last swapped position on, or leave out the shuffled-labels control"
        raise UnsupportedError("shuffling pairs that swap several positions", remedy)
    lengths = (columns * marked).amax(1) + 1 - last
    end = (last + lengths[order])[:, None]
    deal = _Deal(order, last[:, None], torch.arange(int(end.max()), device=last.device))
    inputs, labels = deal.rearrange(ids, 1), deal.rearrange(pairs.labels, 0)
    scored, judged = (
        deal.rearrange(mask, 0) & (deal.columns < end) for mask in (pairs.label_mask, pairs.deterministic_mask)
    )
    return replace(pairs, target_inputs=inputs, labels=labels, label_mask=scored, deterministic_mask=judged)


@dataclass(frozen=True, eq=False)
class _Deal:
    """Whose continuation each row gets: order (n,); last (n, 1): the columns behind which these begin."""

    order: Int[Tensor, " n"]
    last: Int[Tensor, "n 1"]
    columns: Int[Tensor, " position"]

    def rearrange(self, values: Tensor, kept: int) -> Tensor:
        """Keep values (n, old position) up to `last` + `kept`, exclusive; from there on take those of the other row."""
        stays = self.columns < self.last + kept
        moved = self.columns - self.last + self.last[self.order]
        row = torch.where(stays, torch.arange(len(values), device=stays.device)[:, None], self.order[:, None])
        column = torch.where(stays, self.columns, moved).clamp(max=values.shape[1] - 1)  # behind the end: last token
        return values[row.to(values.device), column.to(values.device)]


def _last_swaps(pairs: Pairs) -> Int[Tensor, " n"]:
    """The last swapped column of each row, −1 for a row without one."""
    where = pairs.target_where
    last = torch.full((len(pairs),), -1, device=where.rows.device)
    if pairs.target_inputs is None:  # rows of a recording are not those of the pairs
        return last
    return last.scatter_reduce_(0, where.rows, where.columns, "amax").to(pairs.labels.device)
