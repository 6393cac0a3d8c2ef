"""Hooks that live as long as a `with` block: attached all or none, removed on error, loud when never reached."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from mas_hooks.core.sites import Side
from mas_hooks.hooks import checks, generation, outputs, recurrent
from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.taps import AbstractTap


@contextmanager
def attach_taps(root: nn.Module, taps: Mapping[HookPoint, Sequence[AbstractTap]]) -> Iterator[None]:
    """Hook the taps of each point, in order, on a root module for the length of a `with` block.

    On a clean exit each tap is checked. Raises UnreachedSiteError when the cells of one did not come by.
    """
    with ExitStack() as undo:
        undo.enter_context(checks.checkpointing_off(root))
        places = [undo.enter_context(_tap_place(root, point, group)) for point, group in taps.items()]

        def begin_forward(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
            for place in places:
                place.seen = generation.column_offset(kwargs)

        undo.callback(root.register_forward_pre_hook(begin_forward, prepend=True, with_kwargs=True).remove)
        yield
    for place, group in zip(places, taps.values(), strict=True):
        for tap in group:
            tap.check(place.seen)


@dataclass(eq=False)
class _Place:
    """One side of one module: the taps there, and how many positions of the current forward have passed it.

    A module that runs several times in one forward (a cell loop) passes consecutive spans of positions. The states of
    a recurrent module (by layer) come before its plain output, which follows from them.
    """

    module: nn.Module
    path: str
    side: Side
    plain: list[AbstractTap] = field(default_factory=list)
    states: dict[int, list[AbstractTap]] = field(default_factory=dict)
    seen: int = 0
    _handle: RemovableHandle | None = None

    def add(self, point: HookPoint, taps: Sequence[AbstractTap]) -> None:
        """Add taps. The first ones hook the module, ahead of other people's hooks, which then see the edit."""
        if self._handle is None and self.side == "input":
            self._handle = self.module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
        elif self._handle is None:
            self._handle = self.module.register_forward_hook(self._after, prepend=True, with_kwargs=True)
        self._taps_of(point).extend(taps)

    def drop(self, point: HookPoint, taps: Sequence[AbstractTap]) -> None:
        """Remove taps; with the last of them goes the hook."""
        for tap in taps:
            self._taps_of(point).remove(tap)
        if self._handle is not None and not self.plain and not any(self.states.values()):
            self._handle.remove()

    def _taps_of(self, point: HookPoint) -> list[AbstractTap]:
        return self.plain if point.kind == "module" else self.states.setdefault(point.layer, [])

    def _after(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        value, passed = output, 0
        if any(self.states.values()):
            call = args + tuple(kwargs[key] for key in ("input", "hx") if key in kwargs)
            if isinstance(self.module, nn.RNNBase):
                passed, value = recurrent.tap_fused(self.module, self.states, call, output, self.seen)
            else:
                passed, value = recurrent.tap_cell(self.module, self.states[0], output, self.seen)
        if self.plain:
            passed, value = self._run_plain(value)
        self.seen += passed
        return None if value is output else value

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = None if args else _first_keyword(self.module, kwargs)
        value = kwargs[key] if key is not None else next(iter(args), None)
        passed, edited = self._run_plain(value)
        self.seen += passed
        if edited is value:
            return None
        return (args, {**kwargs, key: edited}) if key is not None else ((edited, *args[1:]), kwargs)

    def _run_plain(self, value: Any) -> tuple[int, Any]:
        """Let the plain taps see a value. Returns its number of positions, and what to go on with."""
        time_first = getattr(self.module, "batch_first", True) is False
        h = edited = outputs.take_tensor(value, self.path, time_first)
        for tap in sorted(self.plain, key=lambda tap: tap.last):
            edited = tap(edited, self.seen)
        return h.shape[1], value if edited is h else outputs.put_tensor(value, edited, time_first)


def _first_keyword(module: nn.Module, kwargs: Mapping[str, Any]) -> str | None:
    """The keyword under which a module got what its forward takes first."""
    first = next(iter(inspect.signature(module.forward).parameters), None)
    return first if first in kwargs else next(iter(kwargs), None)


def _find_place(module: nn.Module, side: Side) -> _Place | None:
    """Find the place that an outer `with` block has already hooked."""
    hooks = module._forward_pre_hooks if side == "input" else module._forward_hooks
    owners = (getattr(hook, "__self__", None) for hook in hooks.values())
    return next((owner for owner in owners if isinstance(owner, _Place)), None)


@contextmanager
def _tap_place(root: nn.Module, point: HookPoint, taps: Sequence[AbstractTap]) -> Iterator[_Place]:
    """Put taps at their place, after those of outer `with` blocks: a read inside an edit sees the edit."""
    checks.check_place(root, point.path, states=point.kind == "fused")
    module = root.get_submodule(point.path)
    place = _find_place(module, point.side) or _Place(module, point.path, point.side)
    place.add(point, taps)
    try:
        yield place
    finally:
        place.drop(point, taps)
