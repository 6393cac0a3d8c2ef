"""The fingerprint of a fit, so that only the same one goes on in a folder."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.fingerprints import tensors_checksum
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Recording
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Pairs
from mas_hooks.training.loop import FitLoop

SAMPLE = 64
"""Values that are read in every tensor of a model, so that large models need not be read whole."""


def fit_fingerprint(loop: FitLoop, latents: Mapping[int, NaturalCells]) -> dict[str, Any]:
    """Collect what must be the same when an interrupted fit goes on; as JSON would give it back."""
    alignment = loop.alignment
    maps = {index: alignment.site_maps[index].state_dict() for index in sorted(loop.frozen)}
    return {
        "plan": loop.plan.model_dump(mode="json"),
        "maps": alignment.plan.maps and alignment.plan.maps.model_dump(mode="json"),
        "fit": loop.settings.model_dump(mode="json"),
        "seed": alignment.seed,
        "sites": [[str(site), site.width] for site in alignment.sites],
        "models": _model_checksums(alignment),
        "pairs": [_pair_checksums(pairs) for patched in (loop.train, loop.valid) for pairs in patched.pairs.values()],
        "latents": [[index, _cell_checksums(latents[index])] for index in sorted(latents)],
        "frozen": [[index, tensors_checksum(state.items())] for index, state in maps.items()],
    }


def _model_checksums(alignment: Alignment) -> list[int]:
    checksums = []
    for site, model in zip(alignment.sites, alignment.models, strict=True):
        recorded = [("activations", site.activations)] if isinstance(site, Recording) else []
        checksums.append(tensors_checksum(recorded if model is None else model.module.named_parameters(), SAMPLE))
    return checksums


def _pair_checksums(pairs: Pairs) -> list[int]:
    return [
        pairs.fingerprint,
        tensors_checksum([*_named_tensors(pairs.source_inputs), *_named_tensors(pairs.target_inputs)]),
    ]


def _cell_checksums(cells: NaturalCells) -> list[int]:
    values = {name: column.tolist() for name, column in cells.variables.items()}
    where = [("rows", cells.where.rows), ("columns", cells.where.columns)]
    return [zlib.crc32(repr(values).encode()), tensors_checksum([*_named_tensors(cells.inputs), *where])]


def _named_tensors(inputs: Inputs | None) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a model reads."""
    if isinstance(inputs, Tensor):
        yield "inputs", inputs
    elif inputs is not None:
        yield from ((name, value) for name, value in inputs.items() if isinstance(value, Tensor))
