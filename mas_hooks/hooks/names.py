"""Which name means which place in a module: canonical names first, dotted module paths always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from mas_hooks.errors import UnknownNameError, UnsupportedError
from mas_hooks.hooks import recurrent
from mas_hooks.sites import Side

Kind = Literal["module", "fused", "cell"]

KEEP_WIDTH = (nn.Dropout, nn.ELU, nn.GELU, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softmax, nn.Tanh)


@dataclass(frozen=True)
class Point:
    """Where a name leads: a module, which side of it, or which layer's state (`kind` fused or cell).

    `path` is the dotted path inside the wrapped module, "" for itself; `width` is None where the module does not say.
    """

    path: str
    kind: Kind = "module"
    side: Side = "output"
    layer: int = 0
    width: int | None = None


def _width(module: nn.Module, side: Side) -> int | None:
    """The width of what goes in or comes out, for modules that say so."""
    if isinstance(module, nn.Linear):
        return module.out_features if side == "output" else module.in_features
    if isinstance(module, nn.Embedding):
        return module.embedding_dim if side == "output" else None
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return module.normalized_shape[-1]
    if isinstance(module, nn.RNNBase):
        out = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
        return out if side == "output" else module.input_size
    if isinstance(module, nn.RNNCellBase):
        return module.hidden_size if side == "output" else module.input_size
    if isinstance(module, nn.Sequential):
        inner = reversed(module) if side == "output" else iter(module)
        return next((_width(child, side) for child in inner if not isinstance(child, KEEP_WIDTH)), None)
    return None


def _states(root: nn.Module) -> dict[str, Point]:
    """`state`, or `state.0`, `state.1`, … bottom up where there are several."""
    points = []
    for path, module in root.named_modules():
        if isinstance(module, recurrent.FUSED + recurrent.CELLS) and recurrent.refusal(module) is None:
            kind = "fused" if isinstance(module, recurrent.FUSED) else "cell"
            width = recurrent.parts(module) * int(module.hidden_size)
            points += [Point(path, kind, layer=layer, width=width) for layer in range(recurrent.layers(module))]
    if len(points) == 1:
        return {"state": points[0]}
    return {f"state.{index}": point for index, point in enumerate(points)}


def _blocks(root: nn.Module, layer_path: str | None) -> dict[str, Point]:
    """`blocks.{i}.hook_resid_pre` and `…post` = input and output of the i-th module of the list at `layer_path`."""
    if layer_path is None:
        return {}
    modules = dict(root.named_modules())
    if layer_path not in modules:
        raise UnknownNameError("layer_path", layer_path, [path for path in modules if path], type(root).__name__)
    blocks = modules[layer_path]
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        raise UnsupportedError(f"layer_path {layer_path!r} to a {type(blocks).__name__}", "name a list of blocks")
    if len(set(blocks)) < len(blocks):  # its runs could not be told apart
        raise UnsupportedError(f"layer_path {layer_path!r} to a list that holds a block twice", "hook by dotted paths")
    points = {}
    for index, (key, block) in enumerate(blocks.named_children()):
        path = f"{layer_path}.{key}".removeprefix(".")
        points[f"blocks.{index}.hook_resid_pre"] = Point(path, side="input", width=_width(block, "input"))
        points[f"blocks.{index}.hook_resid_post"] = Point(path, width=_width(block, "output"))
    return points


def canonical(root: nn.Module, layer_path: str | None = None) -> dict[str, Point]:
    """The names that mean the same in every model, in the order of the forward."""
    embeddings = [path for path, module in root.named_modules() if isinstance(module, nn.Embedding)]
    embed = {}
    if len(embeddings) == 1:
        embed["embed"] = Point(embeddings[0], width=_width(root.get_submodule(embeddings[0]), "output"))
    return embed | _blocks(root, layer_path) | _states(root)


def points(root: nn.Module, layer_path: str | None = None) -> dict[str, Point]:
    """Every name of a module and where it leads; canonical names first, then the dotted paths."""
    paths = {path: Point(path, width=_width(module, "output")) for path, module in root.named_modules() if path}
    first = canonical(root, layer_path)
    return first | {path: point for path, point in paths.items() if path not in first}


def find(root: nn.Module, name: str, layer_path: str | None, model: str) -> Point:
    """Where `name` leads. Raises UnknownNameError with the nearest name, UnsupportedError for a refused state."""
    known = points(root, layer_path)
    if name in known:
        return known[name]
    if name.partition(".")[0] == "state":
        for module in root.modules():
            if (error := recurrent.refusal(module)) is not None:
                raise error
    raise UnknownNameError("site", name, known, model)


def on_input(root: nn.Module, point: Point) -> Point:
    """The input side of a module point. Raises UnsupportedError for a state, which has no input side."""
    if point.kind != "module":
        raise UnsupportedError("the input side of a state", "hook the recurrent module's input by its path")
    return Point(point.path, side="input", width=_width(root.get_submodule(point.path), "input"))
