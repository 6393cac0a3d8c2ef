"""`HookedModel`: the handle through which everything here reads and edits a model. It borrows, it does not own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks import inputs as model_inputs
from mas_hooks.errors import EmptyError, SettingError, ShapeError, TrainModeWarning, UnknownNameError, UnsupportedError
from mas_hooks.hooks import names, outputs
from mas_hooks.hooks.attach import attached
from mas_hooks.hooks.names import Point
from mas_hooks.hooks.taps import AbstractTap, Edit, EditTap, ReadTap, StopForward, WholeTap
from mas_hooks.inputs import Inputs
from mas_hooks.sites import Side, Site, Where

Hook: TypeAlias = Edit | tuple[str, Callable[[Tensor], Tensor]]
Cache: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class HookedModel:
    """A model with named hook points. Made by `wrap`; holds no weights and no hooks of its own."""

    module: nn.Module
    name: str
    logits: Callable[[Any], Tensor] | None = None
    layer_path: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the first parameter lies."""
        return next(self.module.parameters(), torch.empty(0)).device

    def hook_points(self) -> list[str]:
        """Every site name of this model: canonical names first, then the dotted paths of its modules."""
        return list(names.points(self.module, self.layer_path))

    def at(self, name: str, side: Side = "output", width: int | None = None) -> Site:
        """The site of that name. `width` is needed only for modules that do not say how wide they are.

        Raises UnknownNameError naming the nearest site.
        """
        point = self.point(name, side)
        width = point.width or width
        if width is None:
            remedy = f"say how wide it is: .at({name!r}, width=…)"
            raise UnsupportedError(f"telling the width of site {name!r} of {self.name}", remedy)
        return Site(self, name, width, side)

    def run_with_cache(
        self,
        inputs: Inputs,
        names_filter: str | Sequence[str] | None = None,
        positions: Where | Sequence[int] | None = None,
    ) -> tuple[Float[Tensor, "batch position vocabulary"], Cache]:
        """Run once; keep the activations of the named sites (default: the canonical ones), only the rows asked for.

        positions: a `Where` (values are (n, width)), columns for every row (batch, len, width), or None for all.
        The caller's gradient mode holds: use torch.no_grad() where no gradient is wanted.
        """
        sites = self._filter(names_filter)
        where, batch = self._cells(inputs, positions)
        reads = [ReadTap(name, where) for name in sites]
        taps: dict[Point, list[AbstractTap]] = {}
        for tap in reads:
            taps.setdefault(self.point(tap.name), []).append(tap)
        with attached(self.module, taps):
            logits = self.forward(inputs)
        cache = {tap.name: tap.result() for tap in reads}
        if batch is not None:
            cache = {name: value.unflatten(0, (batch, -1)) for name, value in cache.items()}
        return logits, cache

    def run_with_hooks(
        self, inputs: Inputs, fwd_hooks: Edit | Sequence[Hook]
    ) -> Float[Tensor, "batch position vocabulary"]:
        """Logits of one forward under the given hooks (a list, or one Edit); the model is as before afterwards.

        A hook is an `Edit` (its function sees only its cells) or (name, fn): fn(h) -> h on the whole activation
        (batch, position, width), which for a recurrent state passes one step at a time.
        """
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit):
                self._cells(inputs, hook.where)
        with self.hooks(fwd_hooks):
            return self.forward(inputs)

    def hooks(self, fwd_hooks: Edit | Sequence[Hook]) -> AbstractContextManager[None]:
        """A context in which every forward of the model is edited. Raises on exit if a site was never reached."""
        taps: dict[Point, list[AbstractTap]] = {}
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit):
                if hook.site.model is not self:
                    raise SettingError(
                        "the site of an edit", str(hook.site), f"a site of {self.name}: {self.name}.at(…)"
                    )
                taps.setdefault(self.point(hook.site.name, hook.site.side), []).append(EditTap(hook))
            else:
                taps.setdefault(self.point(hook[0]), []).append(WholeTap(*hook))
        return attached(self.module, taps)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of a plain forward, inputs moved to the model's device."""
        output = model_inputs.call(self.module, model_inputs.to_device(inputs, self.device))
        return (self.logits or outputs.default_logits)(output)

    def point(self, name: str, side: Side = "output") -> Point:
        """Where a site name leads inside the module."""
        if side not in get_args(Side):
            raise UnknownNameError("side", side, get_args(Side), f"site {name!r}")
        point = names.find(self.module, name, self.layer_path, self.name)
        return point if side == "output" else names.on_input(self.module, point)

    def _filter(self, names_filter: str | Sequence[str] | None) -> list[str]:
        if names_filter is not None:
            return [names_filter] if isinstance(names_filter, str) else list(names_filter)
        canonical = names.canonical(self.module, self.layer_path)
        if not canonical:
            raise EmptyError(f"the list of canonical sites of {self.name}", "name some of hook_points()")
        return list(canonical)

    def _cells(self, inputs: Inputs, positions: Where | Sequence[int] | None) -> tuple[Where | None, int | None]:
        """The cells asked for, checked against the inputs; and the batch size where columns for every row were."""
        if positions is None:
            return None, None
        shape = tuple(model_inputs.leading(inputs).shape)
        if len(shape) < 2:
            raise ShapeError(f"the input of {self.name}", shape, "(batch, position, …)")
        batch, length = shape[:2]
        if isinstance(positions, Where):
            where = positions
        else:
            columns = torch.tensor([column % length if -length <= column < 0 else column for column in positions])
            where = Where(torch.arange(batch).repeat_interleave(len(columns)), columns.repeat(batch))
        where.check(batch, length, model_inputs.padding_mask(inputs), f"the inputs of {self.name}")
        return where, None if isinstance(positions, Where) else batch


def collect(model: HookedModel, site: Site, inputs: Inputs, where: Where) -> Float[Tensor, "n width"]:
    """The activations of some cells, without gradient and without running anything above the site."""
    tap = ReadTap(site.name, where, stop=True)
    taps = {model.point(site.name, site.side): [tap]}
    with torch.no_grad(), attached(model.module, taps), suppress(StopForward):
        model_inputs.call(model.module, model_inputs.to_device(inputs, model.device))
    return tap.result()


def warn_in_train_mode(model: HookedModel) -> None:
    """Warn (TrainModeWarning) when the model would drop units at random."""
    dropping = _dropping(model.module)
    if dropping is not None:
        warnings.warn(
            f"{model.name} is in train mode and its {dropping} drops units at random; call .eval() on it first.",
            TrainModeWarning,
            stacklevel=3,
        )


def _dropping(module: nn.Module) -> str | None:
    """The type of a module in train mode that has a dropout above zero, or None."""
    for part in module.modules():
        rate = 0.0
        if isinstance(part, nn.modules.dropout._DropoutNd):
            rate = part.p
        elif isinstance(part, nn.MultiheadAttention) or (isinstance(part, nn.RNNBase) and part.num_layers > 1):
            rate = part.dropout
        if part.training and rate > 0:
            return type(part).__name__
    return None


def wrap(
    module: nn.Module,
    *,
    logits: Callable[[Any], Tensor] | None = None,
    layer_path: str | None = None,
    name: str | None = None,
) -> HookedModel:
    """Give a model hook points, without changing anything about it.

    module: any nn.Module that takes (batch, position) inputs. logits: picks the logits (batch, position, vocabulary)
    out of its output; default `.logits`, else the only tensor. layer_path: dotted path to its list of blocks, which
    then are `blocks.{i}.hook_resid_pre` and `…post`. name: what tables and errors call it.
    """
    if not isinstance(module, nn.Module):
        raise UnsupportedError(f"wrapping {outputs.describe(module)}", "pass a torch.nn.Module")
    model = HookedModel(module, name or type(module).__name__, logits, layer_path)
    model.hook_points()  # a wrong layer_path is told now, not at the first run
    warn_in_train_mode(model)
    return model
