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

    Maps of `frozen` sites stay as they are. With init="procrustes" the others then begin at what these read.
    Activations are gathered only where something needs them.
    """
    for index in range(len(alignment.sites)):
        _sets(alignment, train, index)
    if alignment.plan.transport is not None:
        _stitches(alignment, cache, train, alignment.plan.transport)
        return
    framed = alignment.spec.init in ("pca", "procrustes")
    if not framed and not any(one.calibration.centre or one.calibration.zscore for one in alignment.site_maps):
        return
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for index, one in enumerate(alignment.site_maps):
        if framed or index not in frozen:
            own = _natural(alignment, cache, train, index)
            if index not in frozen:
                one.calibration.fit(own[0])
            if framed:
                kept[index] = own
    if framed:
        rows, keys = _together(alignment, list(kept.values()))
        moving = {i: _standardise_rows(alignment.site_maps[i].calibration, rows[i]) for i in kept if i not in frozen}
        for index, frame in _frames(alignment, moving, {i: rows[i] for i in sorted(frozen)}, keys).items():
            alignment.site_maps[index].start(frame)


def _together(alignment: Alignment, found: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Rows and keys of every site on the device of the maps: a recording may lie elsewhere."""
    device = next(alignment.buffers()).device
    return [h.to(device) for h, _ in found], [keys.to(device) for _, keys in found]


def _frames(
    alignment: Alignment, scaled: Mapping[int, Tensor], kept: Mapping[int, Tensor], keys: Sequence[Tensor]
) -> dict[int, Tensor]:
    """The start of each map that needs data; scaled: standardised rows of these, kept: rows of the frozen ones."""
    rank = alignment.spec.total
    if alignment.spec.init == "pca":
        return {index: pca_frame(x, rank) for index, x in scaled.items()}
    with torch.no_grad():
        read = [alignment.site_maps[index].view().read(h)[:, :rank] for index, h in kept.items()]
    means = mean_by_key([*read, *scaled.values()], [keys[index] for index in (*kept, *scaled)])
    if not read:
        return dict(zip(scaled, procrustes_frames(means, rank), strict=True))
    shared = torch.stack(means[: len(read)]).mean(0)
    return {index: frame_onto(own, shared) for index, own in zip(scaled, means[len(read) :], strict=True)}


def _stitches(alignment: Alignment, cache: ActivationCache, train: Directed, spec: TransportSpec) -> None:
    """Calibrate every transport, and fit those that begin at a closed form to the means that both models share."""
    if not (spec.centre or spec.zscore or spec.needs_rows):
        return
    found = [_natural(alignment, cache, train, index) for index in range(len(alignment.sites))]
    rows, keys = _together(alignment, found)
    for way, one in alignment.direction_transports.items():
        one.source.fit(rows[way.source])
        one.target.fit(rows[way.target])
        if spec.needs_rows:
            own = [rows[way.source], rows[way.target]], [keys[way.source], keys[way.target]]
            spec.begin(one, *mean_by_key(*own))


def _natural(
    alignment: Alignment, cache: ActivationCache, train: Directed, index: int
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " _keys"]]:
    """What a model holds where it gives, and the keys; where it only receives, what it holds there, without keys."""
    gives, takes = _sets(alignment, train, index)
    if gives:
        return cache.sources(index, gives)
    return torch.cat([cache.target(index, pairs) for pairs in takes]), torch.zeros(0, dtype=torch.int64)


def _sets(alignment: Alignment, train: Directed, index: int) -> tuple[list[Pairs], list[Pairs]]:
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
    shared = set.intersection(*(set(own.tolist()) for own in keys))
    if not shared:
        raise EmptyError("the set of variable values that all models share", "use init='random' for these pairs")
    wanted = torch.tensor(sorted(shared), device=keys[0].device)
    means = []
    for h, own in zip(rows, keys, strict=True):
        found = torch.isin(own, wanted)
        place = torch.searchsorted(wanted, own[found])
        total = torch.zeros(len(wanted), h.shape[1], device=h.device).index_add(0, place, h[found].float())
        means.append(total / torch.bincount(place, minlength=len(wanted))[:, None])
    return means
