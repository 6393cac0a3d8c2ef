"""Taps: each reads an activation as it comes by, edits it, or both, and knows at which columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnreachedSiteError
from mas_hooks.core.sites import Site, Where
from mas_hooks.hooks import generation

Scope = Literal["every", "prompt", "generated"]


class StopForward(Exception):  # noqa: N818
    """Ends a run that needs nothing above its last read; whoever started that run catches it."""


@dataclass(frozen=True, eq=False)
class Edit:
    """A function on the cells of a site.

    Where positions pass one at a time (a recurrent state, generation), the function is called once per step with the
    cells of that step, so it must treat rows independently.

    Args:
        site: The site, from `model.at(name)`.
        fn: `fn(h) -> h`, (n, width) -> (n, width), on the cells of `where` alone; `fn(h, vectors)` where there are
            vectors.
        where: Cells; or `prompt`, `generated`, `every`: all cells of what the model was given, of what it goes on to
            write under `generate`, or of both, padding left out. Columns count on through generated tokens.
        vectors: One row for each cell of a Where.

    Raises:
        SettingError: The site, the function or the cells are something else, or a cell is named twice.
        ShapeError: There are more or fewer vectors than cells.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> edit = mh.Edit(model.at("embed"), lambda h: 0 * h, mh.Where([0], [1]))
        >>> ids = torch.tensor([[0, 1, 2]])
        >>> change = model.run_with_hooks(ids, edit) != model.forward(ids)
        >>> change.any(dim=-1).tolist()
        [[False, True, False]]
    """

    site: Site
    fn: Callable[..., Tensor]
    where: Where | Scope
    vectors: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.site, Site):
            raise SettingError("the site of an edit", self.site, "a site, from model.at(name)")
        if not callable(self.fn):
            raise SettingError(f"fn of an edit at {self.site}", type(self.fn).__name__, "a function: fn(h) -> h")
        if not isinstance(self.where, Where):
            if self.where not in get_args(Scope) or self.vectors is not None:
                allowed = " or ".join(map(repr, get_args(Scope)))
                got = self.where if self.vectors is None else f"{self.where} with vectors"
                raise SettingError(f"where of an edit at {self.site}", got, f"a mas_hooks.Where, or {allowed}")
            return
        if self.vectors is not None and len(self.vectors) != len(self.where):
            needed = f"one row for each of its {len(self.where)} cells"
            raise ShapeError(f"the vectors tensor of an edit at {self.site}", tuple(self.vectors.shape), needed)
        rows, columns = self.where.rows, self.where.columns
        if not len(columns):
            return
        distinct = len((rows * (columns.max() - columns.min() + 1) + columns).unique())
        if distinct < len(columns):
            allowed = f"{len(columns)}, the number of all its cells: name each cell once"
            raise SettingError(f"the number of distinct cells of an edit at {self.site}", distinct, allowed)


def put_vectors(_h: Tensor, vectors: Tensor) -> Tensor:
    """Put vectors in place of what the cells hold: the function of an `Edit` with vectors."""
    return vectors


class AbstractTap(ABC):
    """Sees every span of positions that passes a site. `reads_only` taps give back the very tensor they got."""

    reads_only: bool
    last = False

    @abstractmethod
    def columns(self) -> Tensor | None:
        """The columns that the tap asks for, sorted and distinct; None for every one."""

    @abstractmethod
    def __call__(self, h: Float[Tensor, "batch position width"], offset: int) -> Float[Tensor, "batch position width"]:
        """Take the span that starts at column `offset`. Return it, edited or as it is."""

    @abstractmethod
    def check(self, seen: int) -> None:
        """Raise UnreachedSiteError when some cells did not come by in the `seen` positions that passed."""


@dataclass(eq=False)
class EditTap(AbstractTap):
    """Applies an `Edit` to its cells."""

    edit: Edit
    reached: Tensor = field(init=False)
    generating: bool = False
    reads_only = False

    def __post_init__(self) -> None:
        cells = self.edit.where
        self.reached = torch.zeros(len(cells) if isinstance(cells, Where) else 1, dtype=torch.bool)

    def columns(self) -> Tensor | None:
        return self.edit.where.columns.unique() if isinstance(self.edit.where, Where) else None

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        where, vectors, call = self.edit.where, self.edit.vectors, generation.current_call()
        self.generating = self.generating or (call is not None and call.generating)
        if isinstance(where, Where):
            which, cells = _select_cells(where, h, offset, str(self.edit.site))
        else:
            which, cells = torch.zeros(1, dtype=torch.int64), _cells_of_scope(where, h, offset, str(self.edit.site))
        if not len(cells):
            return h
        self.reached[which.cpu()] = True
        before = cells.gather(h)
        rows = () if vectors is None else (vectors[which.to(vectors.device)].to(h.device),)
        edited = self.edit.fn(before, *rows)
        _check_shape(edited, before, f"what the edit at {self.edit.site} returned")
        return cells.scatter(h, edited)

    def check(self, seen: int) -> None:
        where = self.edit.where
        if self.reached.all():
            return
        if not isinstance(where, Where):
            if where == "generated" and self.generating:
                return  # generation may end at its first token, which no forward reads
            raise UnreachedSiteError(str(self.edit.site), 1, f"no position of {where!r} passed its module")
        missed = where.columns[~self.reached.to(where.columns.device)]
        detail = f"{seen} positions passed its module, and the edit asks for position {int(missed.max())}"
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
        edited = self.fn(h.clone())  # a copy, so that a function that writes into it edits as one that does not
        _check_shape(edited, h, f"what the hook at {self.name!r} returned")
        return edited.to(h.dtype, copy=True)  # a copy, as the model may go on to write into its own

    def check(self, seen: int) -> None:
        if not self.calls:
            raise UnreachedSiteError(self.name, 1, f"{seen} positions passed its module")


@dataclass(eq=False)
class ReadTap(AbstractTap):
    """Keeps the vectors of some cells, or every position where `where` is None.

    With `stop` the forward ends (StopForward) as soon as all of the cells have come by.
    """

    name: str
    where: Where | None
    stop: bool = False
    spans: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)
    reads_only = True

    def __post_init__(self) -> None:
        if self.where is not None and not len(self.where):
            raise EmptyError(
                f"the list of cells to read at {self.name}", "name some cells, or give None for all of them"
            )

    def columns(self) -> Tensor | None:
        return None if self.where is None else self.where.columns.unique()

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        if self.where is None:
            self.spans.append((None, h.clone()))  # a copy, as the model may go on to write into its own
            return h
        which, cells = _select_cells(self.where, h, offset, self.name)
        if len(cells):
            self.spans.append((which.to(h.device), cells.gather(h)))
        if self.stop and not self.missing():
            raise StopForward
        return h

    def missing(self) -> int:
        """How many of the cells have not come by."""
        if self.where is None:
            return 0 if self.spans else 1
        return len(self.where) - sum(len(values) for _, values in self.spans)

    def check(self, seen: int) -> None:
        if missing := self.missing():
            raise UnreachedSiteError(self.name, missing, f"{seen} positions passed its module")

    def result(self) -> Tensor:
        """(n, width) in the order of `where`, or (batch, position, width) of everything that passed."""
        values = torch.cat([value for _, value in self.spans], dim=1 if self.where is None else 0)
        if self.where is None:
            return values
        order = torch.cat([index for index, _ in self.spans if index is not None])
        return values[order.argsort()]


def _select_cells(where: Where, h: Tensor, offset: int, site: str) -> tuple[Tensor, Where]:
    """Which of the cells are in the span that starts at `offset`, and where in it they are.

    Rows that generation repeats (beams, several sequences a prompt) get the cells of the row they came from.
    """
    call, length = generation.current_call(), h.shape[1]
    repeats = 1 if call is None else call.repeats(h.shape[0])
    which = ((where.columns >= offset) & (where.columns < offset + length)).nonzero()[:, 0]
    cells = Where(where.rows[which], where.columns[which])
    cells.check(h.shape[0] // repeats, offset + length, None, f"the batch at {site}")
    if call is not None and call.mask is not None:
        given = cells.columns < call.length
        Where(cells.rows[given], cells.columns[given]).check(call.rows, call.length, call.mask, f"the inputs at {site}")
    if repeats > 1:
        copy = torch.arange(repeats, device=cells.rows.device).repeat(len(which))
        which = which.repeat_interleave(repeats)
        cells = Where(where.rows[which] * repeats + copy, where.columns[which])
    return which, Where(cells.rows, cells.columns - offset).to(h.device)


def _cells_of_scope(scope: Scope, h: Tensor, offset: int, site: str) -> Where:
    """All cells of a span that are prompt, generated or either, padding left out."""
    call = generation.current_call()
    columns = torch.arange(offset, offset + h.shape[1], device=h.device)
    if call is None:
        if scope != "every":
            allowed = "'every' or a Where in a direct call of the model; use .generate, .forward or .run_with_hooks"
            raise SettingError(f"where of an edit at {site}", scope, allowed)
        return Where.from_mask(torch.ones(h.shape[:2], dtype=torch.bool, device=h.device))
    given = (columns < call.length).expand(h.shape[:2])
    real = given.clone()
    if call.mask is not None:
        mask = call.mask.to(h.device).repeat_interleave(call.repeats(h.shape[0]), dim=0)
        real &= mask[:, columns.clamp(max=call.length - 1)]
    return Where.from_mask({"prompt": real, "generated": ~given, "every": real | ~given}[scope])


def _check_shape(edited: object, h: Tensor, what: str) -> None:
    if not isinstance(edited, Tensor) or edited.shape != h.shape:
        got = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
        raise ShapeError(what, got, str(tuple(h.shape)))
