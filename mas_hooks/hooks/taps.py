"""What is done when an activation comes by: a tap reads it, edits it, or both, and knows at which columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.errors import ShapeError, UnreachedSiteError
from mas_hooks.sites import Site, Where


@dataclass(frozen=True, eq=False)
class Edit:
    """A function on the cells of a site: `fn(h) -> h`, (n, width) -> (n, width), sees only the cells of `where`.

    With `vectors` (one row a cell) it is called as `fn(h, vectors)`. Where positions pass one at a time (a recurrent
    state, generation) it is called once per step with the cells of that step, so it must treat rows independently.
    """

    site: Site
    fn: Callable[..., Tensor]
    where: Where
    vectors: Tensor | None = None

    def __post_init__(self) -> None:
        if self.vectors is not None and len(self.vectors) != len(self.where):
            raise ShapeError(f"vectors of an edit at {self.site}", tuple(self.vectors.shape), f"{len(self.where)} rows")


class AbstractTap(ABC):
    """Sees every span of positions that passes a site. `reads_only` taps give back the very tensor they got."""

    reads_only: bool

    @abstractmethod
    def columns(self) -> Tensor | None:
        """The columns asked for, sorted and distinct; None for every one."""

    @abstractmethod
    def __call__(self, h: Float[Tensor, "batch position width"], offset: int) -> Float[Tensor, "batch position width"]:
        """Take the span that starts at column `offset`; return it, edited or as it is."""

    @abstractmethod
    def check(self, seen: int) -> None:
        """Raise UnreachedSiteError where cells never came by in `seen` positions."""


def _inside(where: Where, offset: int, positions: int) -> Tensor:
    return (where.columns >= offset) & (where.columns < offset + positions)


@dataclass(eq=False)
class EditTap(AbstractTap):
    """Applies an `Edit` to its cells."""

    edit: Edit
    reached: Tensor = field(init=False)
    reads_only = False

    def __post_init__(self) -> None:
        self.reached = torch.zeros(len(self.edit.where), dtype=torch.bool)

    def columns(self) -> Tensor:
        return self.edit.where.columns.unique()

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        where, vectors = self.edit.where, self.edit.vectors
        inside = _inside(where, offset, h.shape[1])
        if not inside.any():
            return h
        self.reached |= inside.cpu()
        cells = Where(where.rows[inside], where.columns[inside] - offset).to(h.device)
        cells.check(h.shape[0], h.shape[1], None, f"the batch at {self.edit.site}")
        found = cells.gather(h)
        own = () if vectors is None else (vectors[inside.to(vectors.device)].to(h.device),)
        edited = self.edit.fn(found, *own)
        if not isinstance(edited, Tensor) or edited.shape != found.shape:
            got = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
            raise ShapeError(f"what the edit at {self.edit.site} returned", got, str(tuple(found.shape)))
        return cells.scatter(h, edited)

    def check(self, seen: int) -> None:
        if not self.reached.all():
            missed = self.edit.where.columns[~self.reached.to(self.edit.where.columns.device)]
            detail = f"its module passed {seen} positions, asked was position {int(missed.max())}"
            raise UnreachedSiteError(str(self.edit.site), len(missed), detail)


@dataclass(eq=False)
class WholeTap(AbstractTap):
    """Applies `fn(h) -> h` to whole activations (batch, position, width) as they pass."""

    name: str
    fn: Callable[[Tensor], Tensor]
    calls: int = 0
    reads_only = False

    def columns(self) -> None:
        return None

    def __call__(self, h: Tensor, offset: int) -> Tensor:  # noqa: ARG002
        self.calls += 1
        edited = self.fn(h)
        if not isinstance(edited, Tensor) or edited.shape != h.shape:
            got = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
            raise ShapeError(f"what the hook at {self.name!r} returned", got, str(tuple(h.shape)))
        return edited.to(h.dtype)

    def check(self, seen: int) -> None:
        if not self.calls:
            raise UnreachedSiteError(self.name, seen, "its module did not run in this forward")


@dataclass(eq=False)
class ReadTap(AbstractTap):
    """Keeps the vectors of the asked cells, or every position where none are named."""

    name: str
    where: Where | None
    spans: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)
    reads_only = True

    def columns(self) -> Tensor | None:
        return None if self.where is None else self.where.columns.unique()

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        if self.where is None:
            self.spans.append((None, h))
            return h
        inside = _inside(self.where, offset, h.shape[1])
        if inside.any():
            cells = Where(self.where.rows[inside], self.where.columns[inside] - offset).to(h.device)
            cells.check(h.shape[0], h.shape[1], None, f"the batch at {self.name}")
            self.spans.append((inside.nonzero()[:, 0].to(h.device), cells.gather(h)))
        return h

    def complete(self) -> bool:
        """Whether all the asked cells have come by; never known where every position is asked."""
        return self.where is not None and self._missing() == 0

    def _missing(self) -> int:
        wanted = 1 if self.where is None else len(self.where)
        return max(0, wanted - sum(len(values) for _, values in self.spans))

    def check(self, seen: int) -> None:
        if missing := self._missing():
            raise UnreachedSiteError(self.name, missing, f"its module passed {seen} positions")

    def result(self) -> Tensor:
        """(n, width) in the order of `where`, or (batch, position, width) of everything that passed."""
        values = torch.cat([value for _, value in self.spans], dim=1 if self.where is None else 0)
        if self.where is None:
            return values
        order = torch.cat([index for index, _ in self.spans if index is not None])
        return values[order.argsort()]
