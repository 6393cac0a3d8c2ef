"""Where a fit begins: the site means its maps centre on, and frames from data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps.init import frame_onto, pca_frame, procrustes_frames
from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import EmptyError
from mas_hooks.data.pairs import Directed, Pairs
from mas_hooks.engine.cache import ActivationCache


def initialise_from_data(
    alignment: Alignment, cache: ActivationCache, train: Directed, frozen: Collection[int] = ()
) -> None:
    """Calibrate every map on the natural activations of the training pairs, and set frames that need data.

    Activations are gathered only where something needs them.

    Args:
        alignment: whose maps or transports are set.
        cache: activations of its sites.
        train: training pairs: one set for every direction, or sets by (source, target).
        frozen: sites whose maps stay as they are. With init="procrustes" the others then begin at what these read.

    Raises:
        EmptyError: a site is in no pairs, or the models share no value of the variables where a start needs one.
    """
    for index in range(len(alignment.sites)):
        _select_sets(alignment, train, index)
    if alignment.plan.transport is not None:
        _initialise_transports(alignment, cache, train, alignment.plan.transport)
        return
    framed = alignment.spec.init in ("pca", "procrustes")
    calibrations = [site_map.calibration for site_map in alignment.site_maps]
    if not framed and not any(calibration.centre or calibration.zscore for calibration in calibrations):
        return
    natural: dict[int, tuple[Tensor, Tensor]] = {}
    for index, calibration in enumerate(calibrations):
        if framed or index not in frozen:
            rows_and_keys = _gather_natural(alignment, cache, train, index)
            if index not in frozen:
                calibration.fit(rows_and_keys[0])
            if framed:
                natural[index] = rows_and_keys
    if framed:
        rows, keys = _move_to_maps(alignment, list(natural.values()))
        scaled = {i: _standardise_rows(calibrations[i], rows[i]) for i in natural if i not in frozen}
        for index, frame in _fit_frames(alignment, scaled, {i: rows[i] for i in sorted(frozen)}, keys).items():
            alignment.site_maps[index].start(frame)


def _move_to_maps(alignment: Alignment, natural: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Rows and keys of every site on the device of the maps: a recording may lie elsewhere."""
    device = next(alignment.buffers()).device
    return [h.to(device) for h, _ in natural], [keys.to(device) for _, keys in natural]


def _fit_frames(
    alignment: Alignment, scaled: Mapping[int, Tensor], frozen: Mapping[int, Tensor], keys: Sequence[Tensor]
) -> dict[int, Tensor]:
    """The start of each map that needs data; scaled: standardised rows of these, frozen: rows of the others."""
    rank = alignment.spec.total
    if alignment.spec.init == "pca":
        return {index: pca_frame(x, rank) for index, x in scaled.items()}
    with torch.no_grad():
        read = [alignment.site_maps[index].view().read(h)[:, :rank] for index, h in frozen.items()]
    means = mean_by_key([*read, *scaled.values()], [keys[index] for index in (*frozen, *scaled)])
    if not read:
        return dict(zip(scaled, procrustes_frames(means, rank), strict=True))
    shared = torch.stack(means[: len(read)]).mean(0)
    return {index: frame_onto(mean, shared) for index, mean in zip(scaled, means[len(read) :], strict=True)}


def _initialise_transports(alignment: Alignment, cache: ActivationCache, train: Directed, spec: TransportSpec) -> None:
    """Calibrate every transport, and fit those that begin at a closed form to the means that both models share."""
    if not (spec.centre or spec.zscore or spec.needs_rows):
        return
    natural = [_gather_natural(alignment, cache, train, index) for index in range(len(alignment.sites))]
    rows, keys = _move_to_maps(alignment, natural)
    for (source, target), transport in alignment.direction_transports.items():
        transport.source.fit(rows[source])
        transport.target.fit(rows[target])
        if spec.needs_rows:
            spec.fit_start(transport, *mean_by_key([rows[source], rows[target]], [keys[source], keys[target]]))


def _gather_natural(
    alignment: Alignment, cache: ActivationCache, train: Directed, index: int
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " _keys"]]:
    """What a model holds where it gives, and the keys; where it only receives, what it holds there, without keys."""
    gives, takes = _select_sets(alignment, train, index)
    if gives:
        return cache.sources(index, gives)
    return torch.cat([cache.target(index, pairs) for pairs in takes]), torch.zeros(0, dtype=torch.int64)


def _select_sets(alignment: Alignment, train: Directed, index: int) -> tuple[list[Pairs], list[Pairs]]:
    """The pairs in which a model gives, and those in which it receives. Raises EmptyError where there are none."""
    if isinstance(train, Pairs):
        return [train], [train]
    gives = [pairs for (source, _), pairs in train.items() if source == index]
    takes = [pairs for (_, target), pairs in train.items() if target == index]
    if not gives and not takes:
        raise EmptyError(f"the set of training pairs of {alignment.sites[index]}", "give pairs from or into every site")
    return gives, takes


def _standardise_rows(calibration: Calibration, h: Tensor) -> Tensor:
    return (h - calibration.mean) / calibration.std


def mean_by_key(
    rows: Sequence[Float[Tensor, "_n _width"]], keys: Sequence[Int[Tensor, " _n"]]
) -> list[Float[Tensor, "m _width"]]:
    """Per model, the mean of the rows of every key that all models share, in one order.

    Raises EmptyError where the models share no key.
    """
    in_all = set.intersection(*(set(numbers.tolist()) for numbers in keys))
    if not in_all:
        raise EmptyError("the set of variable values that all models share", "use init='random' for these pairs")
    shared = torch.tensor(sorted(in_all), device=keys[0].device)
    means = []
    for h, numbers in zip(rows, keys, strict=True):
        is_shared = torch.isin(numbers, shared)
        place = torch.searchsorted(shared, numbers[is_shared])
        total = torch.zeros(len(shared), h.shape[1], device=h.device).index_add(0, place, h[is_shared].float())
        means.append(total / torch.bincount(place, minlength=len(shared))[:, None])
    return means
