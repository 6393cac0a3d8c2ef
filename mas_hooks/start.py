"""Where a fit begins: the site means its maps centre on, and frames from data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment import Alignment
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.errors import EmptyError
from mas_hooks.maps.calibration import Calibration
from mas_hooks.maps.starts import pca_frame, procrustes_frames
from mas_hooks.pairs import Directed, Pairs


def begin(alignment: Alignment, cache: ActivationCache, train: Directed) -> None:
    """Calibrate every map on the natural activations of the training pairs, and set frames that need data."""
    sets = [_as_source(train, index) for index in range(len(alignment.sites))]
    found = [cache.sources(index, own) for index, own in enumerate(sets)]
    device = next(alignment.buffers()).device  # a recording may lie elsewhere
    rows, keys = [h.to(device) for h, _ in found], [keys.to(device) for _, keys in found]
    if alignment.plan.transport is not None:
        _stitches(alignment, rows, keys)
        return
    for one, h in zip(alignment.own_maps, rows, strict=True):
        one.calibration.fit(h)
    if alignment.spec.init not in ("pca", "procrustes"):
        return
    scaled = [_standardised(one.calibration, h) for one, h in zip(alignment.own_maps, rows, strict=True)]
    if alignment.spec.init == "pca":
        alignment.start([pca_frame(x, alignment.spec.total) for x in scaled])
    else:
        alignment.start(procrustes_frames(matched_means(scaled, keys), alignment.spec.total))


def _stitches(alignment: Alignment, rows: Sequence[Tensor], keys: Sequence[Tensor]) -> None:
    """Calibrate every transport, and fit those that begin at a closed form to the means that both models share."""
    spec = alignment.plan.transport
    for way, one in alignment.own_transports.items():
        one.source.fit(rows[way.source])
        one.target.fit(rows[way.target])
        if spec is not None and spec.needs_rows:
            own = [rows[way.source], rows[way.target]], [keys[way.source], keys[way.target]]
            spec.begin(one, *matched_means(*own))


def _as_source(train: Directed, index: int) -> list[Pairs]:
    if isinstance(train, Pairs):
        return [train]
    return [pairs for (source, _), pairs in train.items() if source == index]


def _standardised(calibration: Calibration, h: Tensor) -> Tensor:
    return (h - calibration.mean) / calibration.std


def matched_means(
    rows: Sequence[Float[Tensor, "_n _width"]], keys: Sequence[Int[Tensor, " _n"]]
) -> list[Float[Tensor, "m _width"]]:
    """Per model, the mean activation of every key that all models share, in one order.

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
