"""`HookedModel`: the handle through which this package reads and edits a model, without changing anything about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Side, Site, Where
from mas_hooks.hooks import checks, generation, huggingface, names, outputs, transformer_lens
from mas_hooks.hooks.attach import attach_taps
from mas_hooks.hooks.families import Family
from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.partial_taps import place_partial_tap
from mas_hooks.hooks.taps import AbstractTap, Edit, EditTap, ReadTap, WholeTap

Hook: TypeAlias = Edit | tuple[str, Callable[[Tensor], Tensor]]
Cache: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class HookedModel:
    """A model with named hook points. `wrap` makes it; it holds no weights and no hooks of its own.

    Attributes:
        module: The torch module that runs (of a bridge, a PEFT or an nnsight model: the one inside).
        name: What tables and errors call it.
        logits: Picks the logits out of its output; None for the usual places.
        layer_path: The dotted path to the list of blocks of a model of no known family.
        tokenizer: Of a language model; None where none was given.
        family: The row of the table for its family.
        bridge: The TransformerLens bridge around it.
        native: Other names under which the wrapped object knows modules in there.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)), name="toy")
        >>> logits, cache = model.run_with_cache(torch.tensor([[0, 1, 2]]), ["embed"])
        >>> cache["embed"].shape
        torch.Size([1, 3, 8])
    """

    module: nn.Module
    name: str
    logits: Callable[[Any], Tensor] | None = None
    layer_path: str | None = None
    tokenizer: Any = None
    family: Family | None = None
    bridge: Any = None
    native: Mapping[str, nn.Module] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"HookedModel({self.name!r}, a {type(self.module).__name__} with {len(self._canonical)} canonical sites)"

    @property
    def device(self) -> torch.device:
        """The device that its inputs go to."""
        return checks.execution_device(self.module)

    @cached_property
    def _canonical(self) -> dict[str, HookPoint]:
        return names.canonical_names(self.module, self.layer_path, self.family)

    @cached_property
    def _points(self) -> dict[str, HookPoint]:
        native = names.native_names(self.module, self.native)
        return self._canonical | {name: point for name, point in native.items() if name not in self._canonical}

    def hook_points(self) -> list[str]:
        """Every site name of this model: canonical names first, then the dotted paths of its modules.

        One head of `blocks.{i}.attn.hook_z` is `blocks.{i}.attn.hook_z[head]`.
        """
        return list(self._points)

    def at(self, name: str, side: Side = "output", width: int | None = None) -> Site:
        """Find the site of a name.

        Args:
            name: One of `hook_points()`, or one head.
            side: Which side of the module.
            width: How many units the site has; needed only for modules that do not say.

        Returns:
            The site.

        Raises:
            UnknownNameError: There is no such site; the sentence gives the nearest name.
            UnsupportedError: The site has no such side, or nothing says its width.
        """
        point = self.point(name, side)
        stream = None if self.bridge is None else transformer_lens.bridge_width(self.bridge, name)
        width = point.width or stream or width
        if width is None:
            what = f"site {name!r} of {self.name}, whose module does not say how wide it is,"
            raise UnsupportedError(what, f"give its width: .at({name!r}, width=…)")
        return Site(self, name, width, side, self._basis(name))

    def _basis(self, name: str) -> str:
        return "raw" if self.bridge is None else transformer_lens.activation_basis(self.bridge, name)

    def run_with_cache(
        self,
        inputs: Inputs,
        names_filter: str | Site | Sequence[str | Site] | None = None,
        positions: Where | Sequence[int] | None = None,
    ) -> tuple[Float[Tensor, "batch position vocabulary"], Cache]:
        """Run once and keep the activations of some sites.

        The caller's gradient mode holds: use torch.no_grad() where no gradient is needed.

        Args:
            inputs: What the model reads.
            names_filter: The sites, or their names; None for all canonical ones.
            positions: What to keep of each: the cells of a `Where` (n, width), columns of every row
                (batch, columns, width), or None for all positions.

        Returns:
            The logits, and the activations by the name of their site.

        Raises:
            UnknownNameError: There is no such site.
            PositionError: A cell lies outside the inputs or on padding.
            EmptyError: No site is named, and the model has no canonical ones.
            SettingError: `positions` is something else.
        """
        sites = self._site_names(names_filter)
        where, batch = self._find_cells(inputs, positions)
        reads = [ReadTap(name, where) for name in sites]
        with self.tap([(self.point(tap.name), tap) for tap in reads]):
            logits = self.forward(inputs)
        cache = {tap.name: tap.result() for tap in reads}
        if batch is not None:
            cache = {name: value.unflatten(0, (batch, -1)) for name, value in cache.items()}
        return logits, cache

    def run_with_hooks(
        self, inputs: Inputs, fwd_hooks: Edit | Sequence[Hook]
    ) -> Float[Tensor, "batch position vocabulary"]:
        """Run once under some hooks, a list or one Edit, and give the logits; afterwards the model is as before.

        A hook is an `Edit` (its function sees only its cells) or (name, fn): fn(h) -> h on the whole activation
        (batch, position, width), which for a recurrent state passes one step at a time.

        Raises UnreachedSiteError when an edit's cells did not come by, PositionError when they lie outside the inputs.
        """
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit) and isinstance(hook.where, Where):
                self._find_cells(inputs, hook.where)
        with self.hooks(fwd_hooks):
            return self.forward(inputs)

    def hooks(self, fwd_hooks: Edit | Sequence[Hook]) -> AbstractContextManager[None]:
        """A context in which every forward of the model is edited (see `run_with_hooks`).

        Raises UnreachedSiteError on exit when the cells of an edit did not come by.
        """
        taps: list[tuple[HookPoint, AbstractTap]] = []
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit):
                self._check_site(hook.site)
                taps.append((self.point(hook.site.name, hook.site.side), EditTap(hook)))
            else:
                taps.append((self.point(hook[0]), WholeTap(*hook)))
        return self.tap(taps)

    def tap(self, taps: Sequence[tuple[HookPoint, AbstractTap]]) -> AbstractContextManager[None]:
        """A context in which taps see what passes their points."""
        transformer_lens.check_later_bridge(self.module, self.bridge, self.name)
        at: dict[HookPoint, list[AbstractTap]] = {}
        for point, tap in taps:
            for place, placed in place_partial_tap(point, tap):
                at.setdefault(place, []).append(placed)
        return attach_taps(self.module, at)

    def forward(self, inputs: Inputs) -> Tensor:
        """Run a plain forward, its inputs moved to the model's device, and give the logits.

        Language models get position_ids that skip padding, so that padding on either side changes no number.
        """
        return (self.logits or outputs.default_logits)(self.call(inputs))

    def call(self, inputs: Inputs) -> Any:
        """Run a plain forward as `forward` does, and give what the module itself returns."""
        model_inputs.leading_tensor(inputs)  # refuses what is no input
        prepared: Any = inputs if self.family is None else huggingface.prepare_inputs(inputs)
        prepared = model_inputs.to_device(prepared, self.device)
        with generation.track_call(inputs):
            if self.family is not None and self.family.decoder:  # a cache that nobody reads costs memory
                return self.module(**{"use_cache": False, **prepared})
            return model_inputs.call_module(self.module, prepared)

    def generate(self, inputs: Inputs, **settings: Any) -> Tensor:
        """Let the model write after some prompts; gives token ids (sequences, position), the prompts included.

        settings: those of transformers' `generate`. Edits in `with model.hooks(…)` count columns on through the
        generated tokens, with and without a key-value cache; rows repeated for beams get the edits of their prompt.

        Raises UnsupportedError when the model cannot generate, SettingError when prompts are padded on the right.
        """
        if not hasattr(self.module, "generate"):
            raise UnsupportedError(f"generating with {self.name}", "wrap a Hugging Face language model")
        ids = model_inputs.leading_tensor(inputs)
        prompts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if isinstance(inputs, Tensor) else inputs
        prompts = {name: value for name, value in prompts.items() if name != "position_ids"}  # generate makes its own
        mask = model_inputs.padding_mask(prompts)
        if mask is not None and not mask[:, -1].all():
            allowed = "'left' to generate: encode(texts, padding_side='left')"
            raise SettingError(f"the padding of the prompts of {self.name}", "right", allowed)
        settings = {"disable_compile": True} | settings  # a step that was compiled before ignores the hooks
        with generation.track_call(prompts, generating=True):
            return self.module.generate(**model_inputs.to_device(prompts, self.device), **settings)  # pyright: ignore

    def encode(self, texts: str | Sequence[str], **settings: Any) -> dict[str, Tensor]:
        """Turn texts into inputs: input_ids and attention_mask (batch, position), padded as the tokenizer does.

        Raises SettingError when the model has no tokenizer, or the tokenizer no pad token.
        """
        if self.tokenizer is None:
            raise SettingError(f"the tokenizer of {self.name}", None, "given: wrap(model, tokenizer=…)")
        if self.tokenizer.pad_token is None:
            raise SettingError(
                f"the pad token of {self.name}'s tokenizer", None, "set: tokenizer.pad_token = tokenizer.eos_token"
            )
        texts = [texts] if isinstance(texts, str) else list(texts)
        encoded = self.tokenizer(texts, return_tensors="pt", padding=True, **settings)
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def point(self, name: str, side: Side = "output") -> HookPoint:
        """Find the place inside the module that a site name means. Raises UnknownNameError when there is none."""
        if side not in get_args(Side):
            raise UnknownNameError("side", side, get_args(Side), f"site {name!r}")
        point = names.find_point(self.module, self._points, name, self.name)
        return point if side == "output" else names.move_to_input(self.module, point)

    def _site_names(self, names_filter: str | Site | Sequence[str | Site] | None) -> list[str]:
        if names_filter is not None:
            asked = [names_filter] if isinstance(names_filter, str | Site) else list(names_filter)
            return [site.name if isinstance(site, Site) else site for site in asked]
        if not self._canonical:
            raise EmptyError(f"the list of canonical sites of {self.name}", "name some of hook_points()")
        return list(self._canonical)

    def _check_site(self, site: Site) -> None:
        """Raise SettingError when a site is that of another handle, or was taken before a bridge changed its basis."""
        if site.model is self:
            if site.basis != self._basis(site.name):
                allowed = f"{self._basis(site.name)!r}, as it is now: take the site again with .at({site.name!r})"
                raise SettingError(f"the basis of site {site}", site.basis, allowed)
            return
        allowed = f"a site of {self.name}, from its .at(…)"
        if isinstance(site.model, HookedModel) and site.model.module is self.module:
            allowed = f"of the handle that runs, not of a second wrap of the same module; take {allowed}"
        elif site.model.name == self.name:
            allowed += "; two models have this name, so give each its own with wrap(…, name=…)"
        raise SettingError("the site of an edit", str(site), allowed)

    def _find_cells(self, inputs: Inputs, positions: Where | Sequence[int] | None) -> tuple[Where | None, int | None]:
        """The cells to keep, checked against the inputs; and the batch size where every row has the same columns."""
        if positions is None:
            return None, None
        shape = tuple(model_inputs.leading_tensor(inputs).shape)
        if len(shape) < 2:
            raise ShapeError(f"the input of {self.name}", shape, "(batch, position, …)")
        batch, length = shape[:2]
        if isinstance(positions, int | str):
            raise SettingError("positions", positions, "a list of columns, or cells from mas_hooks.positions")
        if isinstance(positions, Where):
            where = positions
        else:
            columns = torch.tensor([column % length if -length <= column < 0 else column for column in positions])
            where = Where(torch.arange(batch).repeat_interleave(len(columns)), columns.repeat(batch))
        where.check(batch, length, model_inputs.padding_mask(inputs), f"the inputs of {self.name}")
        return where, None if isinstance(positions, Where) else batch
