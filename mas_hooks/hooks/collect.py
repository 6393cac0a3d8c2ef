"""Activations of some cells, without running anything above the highest site."""

from __future__ import annotations

from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import ReadTap, StopForward
from mas_hooks.inputs import Inputs
from mas_hooks.sites import Site, Where


def collect(model: HookedModel, site: Site, inputs: Inputs, where: Where) -> Float[Tensor, "n width"]:
    """The activations of some cells, without gradient and without running anything above the site."""
    tap = ReadTap(site.name, where, stop=True)
    with torch.no_grad(), model.tapped([(model.point(site.name, site.side), tap)]), suppress(StopForward):
        model.call(inputs)
    return tap.result()
