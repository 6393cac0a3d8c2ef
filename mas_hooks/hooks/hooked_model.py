"""`HookedModel`: the handle through which everything here reads and edits a model. It borrows, it does not own."""

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
    """A model with named hook points. Made by `wrap`; holds no weights and no hooks of its own.

    module: the torch module that runs (for a bridge, a PEFT or an nnsight model: the one inside). native: other names
    under which the wrapped object knows modules in there. tokenizer: of a language model, None where none was given.
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
        """Where its inputs go."""
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
        """The site of that name. `width` is needed only for modules that do not say how wide they are.

        Raises UnknownNameError naming the nearest site.
        """
        point = self.point(name, side)
        own = None if self.bridge is None else transformer_lens.bridge_width(self.bridge, name)
        width = point.width or own or width
        if width is None:
            remedy = f"say how wide it is: .at({name!r}, width=…)"
            raise UnsupportedError(f"telling the width of site {name!r} of {self.name}", remedy)
        return Site(self, name, width, side, self._basis(name))

    def _basis(self, name: str) -> str:
        return "raw" if self.bridge is None else transformer_lens.activation_basis(self.bridge, name)

    def run_with_cache(
        self,
        inputs: Inputs,
        names_filter: str | Site | Sequence[str | Site] | None = None,
        positions: Where | Sequence[int] | None = None,
    ) -> tuple[Float[Tensor, "batch position vocabulary"], Cache]:
        """Run once; keep the activations of the named sites (default: the canonical ones), only the rows asked for.

        positions: a `Where` (values are (n, width)), columns for every row (batch, len, width), or None for all.
        The caller's gradient mode holds: use torch.no_grad() where no gradient is wanted.
        """
        sites = self._filter(names_filter)
        where, batch = self._cells(inputs, positions)
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
        """Logits of one forward under the given hooks (a list, or one Edit); the model is as before afterwards.

        A hook is an `Edit` (its function sees only its cells) or (name, fn): fn(h) -> h on the whole activation
        (batch, position, width), which for a recurrent state passes one step at a time.
        """
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit) and isinstance(hook.where, Where):
                self._cells(inputs, hook.where)
        with self.hooks(fwd_hooks):
            return self.forward(inputs)

    def hooks(self, fwd_hooks: Edit | Sequence[Hook]) -> AbstractContextManager[None]:
        """A context in which every forward of the model is edited. Raises on exit if a site was never reached."""
        taps: list[tuple[HookPoint, AbstractTap]] = []
        for hook in [fwd_hooks] if isinstance(fwd_hooks, Edit) else fwd_hooks:
            if isinstance(hook, Edit):
                self._check_own(hook.site)
                taps.append((self.point(hook.site.name, hook.site.side), EditTap(hook)))
            else:
                taps.append((self.point(hook[0]), WholeTap(*hook)))
        return self.tap(taps)

    def tap(self, taps: Sequence[tuple[HookPoint, AbstractTap]]) -> AbstractContextManager[None]:
        """A context in which taps see what passes their points."""
        transformer_lens.check_since(self.module, self.bridge, self.name)
        at: dict[HookPoint, list[AbstractTap]] = {}
        for point, tap in taps:
            for place, one in place_partial_tap(point, tap):
                at.setdefault(place, []).append(one)
        return attach_taps(self.module, at)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of a plain forward, inputs moved to the model's device.

        Language models get position_ids that skip padding, so that padding on either side changes no number.
        """
        return (self.logits or outputs.default_logits)(self.call(inputs))

    def call(self, inputs: Inputs) -> Any:
        """What the module itself gives for these inputs."""
        model_inputs.leading_tensor(inputs)  # refuses what is no input
        own: Any = inputs if self.family is None else huggingface.prepare_inputs(inputs)
        own = model_inputs.to_device(own, self.device)
        with generation.count_calls(inputs):
            if self.family is not None and self.family.decoder:  # a cache that nobody reads costs memory
                return self.module(**{"use_cache": False, **own})
            return model_inputs.call_module(self.module, own)

    def generate(self, inputs: Inputs, **settings: Any) -> Tensor:
        """Token ids (sequences, position) of the prompts with what the model writes after them.

        settings: those of transformers' `generate`. Edits made in `with model.hooks(…)` count columns on through the
        generated tokens, with and without a key-value cache; rows repeated for beams get the edits of their prompt.
        """
        if not hasattr(self.module, "generate"):
            raise UnsupportedError(f"generating with {self.name}", "wrap a Hugging Face language model")
        ids = model_inputs.leading_tensor(inputs)
        own = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if isinstance(inputs, Tensor) else inputs
        own = {name: value for name, value in own.items() if name != "position_ids"}  # generate makes its own
        mask = model_inputs.padding_mask(own)
        if mask is not None and not mask[:, -1].all():
            allowed = "'left' to generate: encode(texts, padding_side='left')"
            raise SettingError(f"the padding of the prompts of {self.name}", "right", allowed)
        settings = {"disable_compile": True} | settings  # a step that was compiled before ignores the hooks
        with generation.count_calls(own, generating=True):
            return self.module.generate(**model_inputs.to_device(own, self.device), **settings)  # pyright: ignore

    def encode(self, texts: str | Sequence[str], **settings: Any) -> dict[str, Tensor]:
        """Texts as inputs: input_ids and attention_mask (batch, position), padded as the tokenizer does."""
        if self.tokenizer is None:
            raise SettingError(f"the tokenizer of {self.name}", None, "given: wrap(model, tokenizer=…)")
        if self.tokenizer.pad_token is None:
            raise SettingError(
                f"the pad token of {self.name}'s tokenizer", None, "set: tokenizer.pad_token = tokenizer.eos_token"
            )
        texts = [texts] if isinstance(texts, str) else list(texts)
        found = self.tokenizer(texts, return_tensors="pt", padding=True, **settings)
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def point(self, name: str, side: Side = "output") -> HookPoint:
        """Where a site name leads inside the module."""
        if side not in get_args(Side):
            raise UnknownNameError("side", side, get_args(Side), f"site {name!r}")
        point = names.find_point(self.module, self._points, name, self.name)
        return point if side == "output" else names.on_input(self.module, point)

    def _filter(self, names_filter: str | Site | Sequence[str | Site] | None) -> list[str]:
        if names_filter is not None:
            asked = [names_filter] if isinstance(names_filter, str | Site) else list(names_filter)
            return [one.name if isinstance(one, Site) else one for one in asked]
        if not self._canonical:
            raise EmptyError(f"the list of canonical sites of {self.name}", "name some of hook_points()")
        return list(self._canonical)

    def _check_own(self, site: Site) -> None:
        """Raise SettingError for the site of another handle, or one taken before a bridge changed its basis."""
        if site.model is self:
            if site.basis != self._basis(site.name):
                allowed = f"{self._basis(site.name)!r}, as it is now: take it anew by .at({site.name!r})"
                raise SettingError(f"the basis of site {site}", site.basis, allowed)
            return
        same = isinstance(site.model, HookedModel) and site.model.module is self.module
        own = f"a site of {self.name}: {self.name}.at(…)"
        if same:
            own = f"of the handle that runs, not of a second wrap of the same module; take {own}"
        elif site.model.name == self.name:
            own += "; two models are called so, wrap(…, name=…) tells them apart"
        allowed = own
        raise SettingError("the site of an edit", str(site), allowed)

    def _cells(self, inputs: Inputs, positions: Where | Sequence[int] | None) -> tuple[Where | None, int | None]:
        """The cells asked for, checked against the inputs; and the batch size where columns for every row were."""
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
