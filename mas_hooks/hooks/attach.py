"""Hooks that live as long as a `with` block: attached all or none, removed on error, loud when never reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from torch import nn

from mas_hooks.hooks import outputs, recurrent
from mas_hooks.hooks.names import Point
from mas_hooks.hooks.taps import AbstractTap


class StopForward(Exception):  # noqa: N818
    """Raised by the last read of a run that needs nothing above it; caught by whoever started that run."""


@dataclass(eq=False)
class _Place:
    """One hooked place: its taps, and how many positions of the current forward have passed it.

    A module that runs several times in one forward (a cell loop) passes consecutive spans of positions.
    """

    module: nn.Module
    point: Point
    taps: list[AbstractTap]
    seen: int = 0
    stop: Callable[[], bool] | None = None

    def pass_through(self, value: Any) -> Any:
        """Let the taps see what a module took or gave; the value to go on with, the same object if unedited."""
        is_cell = self.point.kind == "cell"
        h = recurrent.pack(value)[:, None] if is_cell else outputs.take(value, self.point.path)
        edited = h
        for tap in self.taps:
            edited = tap(edited, self.seen)
        self.seen += h.shape[1]
        if edited is h:
            return value
        return recurrent.unpack(self.module, edited[:, 0]) if is_cell else outputs.put(value, edited)

    def after(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        edited = self.pass_through(output)
        self._maybe_stop()
        return None if edited is output else edited

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = None if args else next(iter(kwargs))
        value = args[0] if key is None else kwargs[key]
        edited = self.pass_through(value)
        self._maybe_stop()
        if edited is value:
            return None
        return ((edited, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: edited})

    def _maybe_stop(self) -> None:
        if self.stop is not None and self.stop():
            raise StopForward

    def reset(self) -> None:
        self.seen = 0

    def hook(self) -> Any:
        """Register on the module, before other people's hooks so that they see the edit."""
        if self.point.side == "input":
            return self.module.register_forward_pre_hook(self.before, prepend=True, with_kwargs=True)
        return self.module.register_forward_hook(self.after, prepend=True)


@dataclass(eq=False)
class _FusedPlace:
    """A hooked fused recurrent module: the taps of all its layers share one forward hook."""

    module: nn.RNNBase
    taps: dict[int, list[AbstractTap]]
    seen: int = 0
    stop: Callable[[], bool] | None = None

    def after(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        call = args + tuple(kwargs[key] for key in ("input", "hx") if key in kwargs)
        positions, edited = recurrent.tap_fused(self.module, self.taps, call, output, self.seen)
        self.seen += positions
        if self.stop is not None and self.stop():
            raise StopForward
        return edited

    def reset(self) -> None:
        self.seen = 0

    def hook(self) -> Any:
        return self.module.register_forward_hook(self.after, prepend=True, with_kwargs=True)


@dataclass(eq=False)
class Attached(AbstractContextManager["Attached"]):
    """The hooks of some taps on a root module, for the length of a `with` block.

    `taps` maps each point to its taps in order. Once `stop` says so the forward ends (StopForward). On a clean exit
    each tap is checked: one that missed cells raises.
    """

    root: nn.Module
    taps: Mapping[Point, Sequence[AbstractTap]]
    stop: Callable[[], bool] | None = None
    _places: list[_Place | _FusedPlace] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Attached:
        with ExitStack() as undo:
            self._places = self._plan()
            undo.callback(self.root.register_forward_pre_hook(self._reset, prepend=True).remove)
            for place in self._places:
                undo.callback(place.hook().remove)
            self._stack = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise UnreachedSiteError for a tap whose cells did not come by."""
        for place in self._places:
            groups = place.taps.values() if isinstance(place, _FusedPlace) else [place.taps]
            for tap in (tap for group in groups for tap in group):
                tap.check(place.seen)

    def _reset(self, _module: nn.Module, _args: Any) -> None:
        for place in self._places:
            place.reset()

    def _plan(self) -> list[_Place | _FusedPlace]:
        fused: dict[str, _FusedPlace] = {}
        places: list[_Place | _FusedPlace] = []
        for point, taps in self.taps.items():
            module = self.root.get_submodule(point.path)
            if point.kind != "fused":
                places.append(_Place(module, point, list(taps)))
                continue
            if not isinstance(module, nn.RNNBase):  # a point is made from the module it names
                raise TypeError(f"{point.path} is no fused recurrent module")
            if point.path not in fused:
                fused[point.path] = _FusedPlace(module, {})
                places.append(fused[point.path])
            fused[point.path].taps[point.layer] = list(taps)
        for place in places:
            place.stop = self.stop
        return places
