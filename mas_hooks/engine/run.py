"""One patched forward of one target model: by the reference path (whole forward, hook) or from the site on (tail)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine import state_tail
from mas_hooks.engine.block_tail import BlockTailRunner
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join, labelled, rows_of, wanted
from mas_hooks.engine.state_tail import StateTailRunner
from mas_hooks.errors import SettingError
from mas_hooks.hooks.block_tail import start_of
from mas_hooks.hooks.collect import collect
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import Edit
from mas_hooks.inputs import Inputs
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Site, Where

PATHS = ("auto", "resume", "reference")
STATE_PROOF, BLOCK_PROOF = 16, 4
TOLERANCE, LOW_PRECISION_TOLERANCE = 1e-4, 3e-2


@dataclass(frozen=True, eq=False)
class ReferenceRunner(AbstractRunner):
    """A whole forward with a hook: right for every model."""

    model: HookedModel
    site: Site
    name = "reference"

    def run(self, parts: Sequence[Part]) -> Labelled:
        inputs = [model_inputs.rows(part.pairs.run_inputs, rows_of(part)) for part in parts]
        if model_inputs.alike(inputs):
            logits = self._logits(model_inputs.cat(inputs), parts).split([len(part.index) for part in parts])
        else:
            logits = [self._logits(own, [part]) for own, part in zip(inputs, parts, strict=True)]
        return join([self._found(own, part) for own, part in zip(logits, parts, strict=True)])

    def _logits(self, inputs: Inputs, parts: Sequence[Part]) -> Float[Tensor, "batch position vocabulary"]:
        """One whole forward over the rows of all parts, each vector put at its cell."""
        begin, rows, columns = 0, [], []
        for part in parts:
            cells, batch_rows = part.pairs.cells(rows_of(part))
            rows.append(batch_rows + begin)
            columns.append(part.pairs.target_where.columns.to(cells.device)[cells])
            begin += len(part.index)
        where, vectors = Where(torch.cat(rows), torch.cat(columns)), torch.cat([part.vectors for part in parts])
        return self.model.run_with_hooks(inputs, [Edit(self.site, lambda _h, given: given, where, vectors)])

    def _found(self, logits: Tensor, part: Part) -> Labelled:
        """The wanted cells of one part."""
        index, device = rows_of(part), logits.device
        row, columns = wanted(part.pairs)[index].nonzero(as_tuple=True)
        found = logits[row.to(device), columns.to(device)]
        return labelled(found, part.pairs, index[row], columns, row.to(device), len(index))


def _candidates(model: HookedModel, site: Site, pairs: Pairs, path: str) -> list[tuple[AbstractRunner, int]]:
    """The tails that could run these pairs, each with the number of pairs to prove it on, in the order to be proven."""
    if path == "reference":
        return []
    if state_tail.suited(model, site, pairs):
        # One pair before many: many packed into one sequence could run past a table of positions, fatal on a GPU.
        return [(StateTailRunner(model, site), count) for count in (1, STATE_PROOF)]
    start = start_of(model, site)
    return [] if start is None else [(BlockTailRunner(model, site, start, path == "auto"), BLOCK_PROOF)]


def _proven(tail: AbstractRunner, model: HookedModel, site: Site, pairs: Pairs, most: int) -> bool:
    """Whether a tail gives the logits of a whole forward on real pairs, swapped among themselves.

    The pairs are those with the latest label, and as many that are spread over all of them.
    """
    last = (torch.arange(pairs.labels.shape[1], device=pairs.labels.device) * wanted(pairs)).amax(1)
    longest = last.argsort(descending=True, stable=True)[: (most + 1) // 2]
    spread = torch.linspace(0, len(pairs) - 1, most // 2, device=last.device).long()
    index = torch.cat([longest, spread]).unique()
    inputs = model_inputs.rows(pairs.run_inputs, index)
    cells, rows = pairs.cells(index)
    where = Where(rows, pairs.target_where.columns.to(rows.device)[cells])
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        part = Part(pairs, index, collect(model, site, inputs, where).roll(1, 0))
        expected = ReferenceRunner(model, site).run([part]).logits
        try:
            found = tail.run([part]).logits
        except (RuntimeError, ValueError, IndexError, TypeError):  # a forward that needs the whole sequence
            return False
    if found.shape != expected.shape:
        return False
    tolerance = TOLERANCE if expected.dtype in (torch.float32, torch.float64) else LOW_PRECISION_TOLERANCE
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1.0))


def runner(model: HookedModel, site: Site, pairs: Pairs, path: str = "auto") -> AbstractRunner:
    """How to run these pairs: from the site on where that is proven to give the same logits, else the whole forward.

    path: `auto`; `resume` to start at the site's block but not behind the unchanged prefix; `reference` to ask for the
    whole forward.
    """
    if path not in PATHS:
        raise SettingError("path", path, " or ".join(map(repr, PATHS)))
    tails = _candidates(model, site, pairs, path)
    proven = bool(tails) and all(_proven(tail, model, site, pairs, most) for tail, most in tails)
    return tails[0][0] if proven else ReferenceRunner(model, site)
