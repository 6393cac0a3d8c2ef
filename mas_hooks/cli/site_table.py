"""`mas-hooks sites`: the site names of a saved model with their widths, from its config alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from mas_hooks.core.sites import Site
from mas_hooks.engine.tails.decoder import find_tail_start
from mas_hooks.hooks import loading, names
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap

LAYER = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class SiteRow:
    """One site. width: None where the module does not say. tail: whether a run with an edit there may start there."""

    name: str
    width: int | None
    heads: int | None = None
    tail: bool = False


def load_bare_model(folder: Path, layer_path: str | None = None) -> HookedModel:
    """A handle of a saved model without its weights: for names and widths, not to be run."""
    return wrap(loading.load_skeleton(folder), layer_path=layer_path, name=folder.resolve().name)


def list_sites(model: HookedModel, *, everything: bool = False) -> list[SiteRow]:
    """The canonical sites of a model in the order of the forward; with `everything`, all other names after them."""
    canonical = names.canonical_names(model.module, model.layer_path, model.family)
    rows = []
    for name in canonical:
        point = model.point(name)
        tail = find_tail_start(model, Site(model, name, point.width or 0)) is not None
        rows.append(SiteRow(name, point.width, point.heads, tail))
    if everything:
        rows += [SiteRow(name, model.point(name).width) for name in model.hook_points() if name not in canonical]
    return rows


def site_table(model: HookedModel, *, everything: bool = False) -> Table:
    """One line for each kind of canonical name and the layers that have it; with `everything`, one for each name."""
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("site", no_wrap=True)
    grid.add_column("layers")
    for head in ("width", "heads"):
        grid.add_column(head, justify="right")
    grid.add_column("tail")
    rows = list_sites(model, everything=everything)
    lines = [(row.name, "", row) for row in rows] if everything else _by_kind(rows)
    for name, layers, row in lines:
        width, heads = ("" if number is None else str(number) for number in (row.width, row.heads))
        grid.add_row(name, layers, width or "?", heads, "yes" if row.tail else "")
    return grid


def model_title(model: HookedModel) -> str:
    """What the model is, in one line."""
    core: Any = model.module
    weights = sum(parameter.numel() for parameter in core.parameters())
    facts = [f"{type(core).__name__} ({core.config.model_type})", f"{_round_count(weights)} weights"]
    dtype = str(core.config.dtype or next(core.parameters()).dtype).removeprefix("torch.")
    return ", ".join([*facts, f"{dtype}, vocabulary {core.config.get_text_config().vocab_size}"])


def model_note(model: HookedModel) -> str:
    """What to know of the table."""
    if model.family is None and model.layer_path is None:
        paths = " or ".join(layer_paths(model.module)[:3]) or "PATH"
        return f"This family is not in the table; name its list of blocks: --layer-path {paths}."
    heads = "One head is attn.hook_z[head]. " if model.family else ""
    return f"{heads}With a tail, a swap runs the model from that block on only. --all lists every name."


def show_sites(model: HookedModel, *, everything: bool, as_json: bool) -> None:
    """Print the sites of a model.

    Args:
        model: a handle, for example from `load_bare_model`.
        everything: list all names, not the canonical ones alone.
        as_json: print JSON instead of a table.
    """
    if as_json:
        rows = [asdict(row) for row in list_sites(model, everything=everything)]
        print(json.dumps({"model": model.name, "class": type(model.module).__name__, "sites": rows}, indent=2))
        return
    out = Console(highlight=False, markup=False, soft_wrap=True)
    for part in (model_title(model), site_table(model, everything=everything), model_note(model)):
        out.print(part)


def layer_paths(module: nn.Module) -> list[str]:
    """The dotted paths of lists that could be a model's blocks, longest list first."""
    lists = {path: len(part) for path, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part)}
    return sorted(lists, key=lambda path: -lists[path])


def _by_kind(rows: Iterable[SiteRow]) -> list[tuple[str, str, SiteRow]]:
    """(name with {i} for the layer, the layers, one of the rows) of rows that are alike but for the layer."""
    kinds: dict[SiteRow, list[int]] = {}
    for row in rows:
        layer = LAYER.fullmatch(row.name)
        name = f"blocks.{{i}}.{layer[2]}" if layer else row.name
        kinds.setdefault(SiteRow(name, row.width, row.heads, row.tail), []).extend([int(layer[1])] if layer else [])
    return [(row.name, _spans(layers), row) for row, layers in kinds.items()]


def _spans(layers: list[int]) -> str:
    """[0, 1, 2, 5] -> 0–2, 5."""
    begins = [layer for layer in layers if layer - 1 not in layers]
    ends = [layer for layer in layers if layer + 1 not in layers]
    return ", ".join(f"{a}–{b}" if a < b else str(a) for a, b in zip(begins, ends, strict=True))


def _round_count(count: int) -> str:
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
