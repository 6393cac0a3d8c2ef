"""What tells one fit from another, so that only the same one goes on in a folder."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mas_hooks.alignment import Alignment
from mas_hooks.fit_loop import Loop
from mas_hooks.inputs import Inputs
from mas_hooks.latents import NaturalCells
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Recording

SAMPLE = 64
"""Values that are looked at in every tensor of a model, to tell it from others without reading it whole."""


def told(loop: Loop, latents: Mapping[int, NaturalCells]) -> dict[str, Any]:
    """What must be the same when an interrupted fit goes on; as JSON would give it back."""
    alignment = loop.alignment
    maps = {index: alignment.own_maps[index].state_dict() for index in sorted(loop.frozen)}
    return {
        "plan": loop.plan.model_dump(mode="json"),
        "maps": alignment.plan.maps and alignment.plan.maps.model_dump(mode="json"),
        "fit": loop.settings.model_dump(mode="json"),
        "seed": alignment.seed,
        "sites": [[str(site), site.width] for site in alignment.sites],
        "models": _models(alignment),
        "pairs": [_pairs(own) for swaps in (loop.train, loop.valid) for own in swaps.pairs.values()],
        "latents": [[index, _cells(latents[index])] for index in sorted(latents)],
        "frozen": [[index, fingerprint(own.items())] for index, own in maps.items()],
    }


def fingerprint(named: Iterable[tuple[str, Tensor]], most: int = sys.maxsize) -> int:
    """A number that tells tensors from others: of names, dtypes, shapes and about `most` values spread over each.

    Spread, as the first row of an embedding is often that of padding, and zero in every model. Values that are not
    here (offloaded to disk) or are no plain tensor (some quantized ones) do not count.
    """
    found = 0
    for name, tensor in named:
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        if not tensor.is_meta and type(tensor) in (Tensor, nn.Parameter):
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // most)]
            found = zlib.crc32(sample.to("cpu", torch.float32).numpy().tobytes(), found)
    return found


def _models(alignment: Alignment) -> list[int]:
    found = []
    for site, model in zip(alignment.sites, alignment.models, strict=True):
        recorded = [("activations", site.activations)] if isinstance(site, Recording) else []
        found.append(fingerprint(recorded if model is None else model.module.named_parameters(), SAMPLE))
    return found


def _pairs(pairs: Pairs) -> list[int]:
    return [pairs.fingerprint, fingerprint([*_named(pairs.source_inputs), *_named(pairs.target_inputs)])]


def _cells(cells: NaturalCells) -> list[int]:
    values = {name: own.tolist() for name, own in cells.variables.items()}
    where = [("rows", cells.where.rows), ("columns", cells.where.columns)]
    return [zlib.crc32(repr(values).encode()), fingerprint([*_named(cells.inputs), *where])]


def _named(inputs: Inputs | None) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a model reads."""
    if isinstance(inputs, Tensor):
        yield "inputs", inputs
    elif inputs is not None:
        yield from ((name, value) for name, value in inputs.items() if isinstance(value, Tensor))
