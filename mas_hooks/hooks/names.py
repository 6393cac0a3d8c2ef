"""Names of places in a module: canonical names first, dotted module paths always."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from mas_hooks.core.errors import UnknownNameError, UnsupportedError
from mas_hooks.core.sites import Side
from mas_hooks.hooks import recurrent
from mas_hooks.hooks.families import Family
from mas_hooks.hooks.outputs import describe_output

Kind = Literal["module", "fused", "cell"]

KEEP_WIDTH = (nn.Dropout, nn.ELU, nn.GELU, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softmax, nn.Tanh)
"""Modules whose output is as wide as their input."""

BLOCK = re.compile(r"blocks\.(-?\d+)\.")
HEAD = re.compile(r"(.*\.hook_z)\[(\d+)\]")


@dataclass(frozen=True)
class HookPoint:
    """The place that a name means: one side of a module, or the state of one of its layers.

    Attributes:
        path: The dotted path inside the wrapped module, "" for itself.
        kind: `module`, or how the state is computed: by a `fused` module or by a `cell`.
        side: Which side of the module.
        layer: Whose state.
        width: How many units; None where the module does not say.
        units: Only this span of the width (one head).
        plus: The path of a block whose input is added (`hook_resid_mid`).
        flat: The path of a block whose input has the (batch, position) of a module that sees them as one axis.
        heads: Into how many equal spans the width falls.
    """

    path: str
    kind: Kind = "module"
    side: Side = "output"
    layer: int = 0
    width: int | None = None
    units: tuple[int, int] | None = None
    plus: str | None = None
    flat: str | None = None
    heads: int | None = None


def blocks_path(root: Any, family: Family) -> str:
    """The dotted path of the list of blocks of a Hugging Face model."""
    prefix = "" if root.base_model is root else f"{root.base_model_prefix}."
    return prefix + family.blocks


def canonical_names(root: Any, layer_path: str | None = None, family: Family | None = None) -> dict[str, HookPoint]:
    """Name the places whose names mean the same in every model.

    Args:
        root: The module that runs.
        layer_path: The dotted path to its list of blocks, for a model of no known family.
        family: The row of the table for its family.

    Returns:
        The places by their names, in the order of the forward.

    Raises:
        UnknownNameError: There is no module at `layer_path`.
        UnsupportedError: The module at `layer_path` is no list of different blocks.

    Example:
        >>> from torch import nn
        >>> from mas_hooks.hooks import canonical_names
        >>> model = nn.Sequential(nn.Embedding(5, 8), nn.Sequential(nn.Linear(8, 8)))
        >>> list(canonical_names(model, layer_path="1"))
        ['embed', 'blocks.0.hook_resid_pre', 'blocks.0.hook_resid_post']
    """
    embeddings = [module for module in root.modules() if isinstance(module, nn.Embedding)]
    embedding = root.get_input_embeddings() if family else embeddings[0] if len(embeddings) == 1 else None
    embed = {}
    if embedding is not None:
        path = next(path for path, module in root.named_modules() if module is embedding)
        embed["embed"] = HookPoint(path, width=_width(embedding, "output"))
    blocks = _name_family(root, family) if family and layer_path is None else _name_blocks(root, layer_path)
    return embed | blocks | _name_states(root)


def native_names(root: nn.Module, aliases: Mapping[str, nn.Module]) -> dict[str, HookPoint]:
    """Name every module by its dotted path, then by the names under which other libraries know it (`aliases`)."""
    paths = {path: module for path, module in root.named_modules() if path}
    points = {path: HookPoint(path, width=_width(module, "output")) for path, module in paths.items()}
    home = {module: path for path, module in paths.items()}
    named = {name: home[module] for name, module in aliases.items() if module in home and name not in points}
    return points | {name: points[path] for name, path in named.items()}


def find_point(root: nn.Module, known: Mapping[str, HookPoint], name: str, model: str) -> HookPoint:
    """Find the place that a name means.

    Args:
        root: The module that runs.
        known: The places by their names.
        name: The name; `….hook_z[head]` is one head.
        model: The name of the model, for errors.

    Returns:
        The place.

    Raises:
        UnknownNameError: There is no such place; the sentence gives the nearest name.
        UnsupportedError: The name is that of a state that cannot be hooked.
    """
    if name in known:
        return known[name]
    if (head := HEAD.fullmatch(name)) and head[1] in known:
        return _find_head(known[head[1]], int(head[2]), name, model)
    block, blocks = BLOCK.match(name), {match[1] for match in map(BLOCK.match, known) if match}
    if block and blocks and block[1] not in blocks:
        raise UnknownNameError("block", block[1], sorted(blocks, key=int), model)
    if name.partition(".")[0] == "state":
        for module in root.modules():
            if (error := recurrent.explain_refusal(module)) is not None:
                raise error
    raise UnknownNameError("site", name, known, model)


def move_to_input(root: nn.Module, point: HookPoint) -> HookPoint:
    """Move a point to the input side of its module. Raises UnsupportedError when the place has none."""
    if point.kind != "module":
        raise UnsupportedError("the input side of a state", "hook the recurrent module's input by its path")
    if point.plus or point.units or point.flat:
        raise UnsupportedError("the input side of a sum or of a head", "hook the module's input by its path")
    width = point.width if point.side == "input" else _width(root.get_submodule(point.path), "input")
    return HookPoint(point.path, side="input", width=width)


def _width(module: nn.Module, side: Side) -> int | None:
    """The width of what goes in or comes out; None where the module does not say. Looks into adapters and bridges."""
    for inside in ("_original_component", "base_layer"):
        module = module._modules.get(inside) or module
    if type(module).__name__ == "Conv1D":  # transformers' linear layer of GPT-2, stored transposed
        return module.nf if side == "output" else module.nx  # pyright: ignore[reportReturnType]
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


def _name_states(root: nn.Module) -> dict[str, HookPoint]:
    """Name the states: `state`, or `state.0`, `state.1`, … bottom up where there are several."""
    points = []
    for path, module in root.named_modules():
        if isinstance(module, recurrent.FUSED + recurrent.CELLS) and recurrent.explain_refusal(module) is None:
            kind = "fused" if isinstance(module, recurrent.FUSED) else "cell"
            width = recurrent.count_state_vectors(module) * int(module.hidden_size)
            points += [
                HookPoint(path, kind, layer=layer, width=width) for layer in range(recurrent.count_layers(module))
            ]
    if len(points) == 1:
        return {"state": points[0]}
    return {f"state.{index}": point for index, point in enumerate(points)}


def _name_blocks(root: nn.Module, layer_path: str | None) -> dict[str, HookPoint]:
    """Name input and output of the i-th module at `layer_path`: `blocks.{i}.hook_resid_pre` and `…post`."""
    if layer_path is None:
        return {}
    modules = dict(root.named_modules())
    if layer_path not in modules:
        raise UnknownNameError("layer_path", layer_path, [path for path in modules if path], type(root).__name__)
    blocks = modules[layer_path]
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        raise UnsupportedError(
            f"layer_path {layer_path!r}, which leads to {describe_output(blocks)},", "name a list of blocks"
        )
    if len(set(blocks)) < len(blocks):  # one name would mean two of its runs
        raise UnsupportedError(f"layer_path {layer_path!r}, whose list holds a block twice,", "hook by dotted paths")
    points = {}
    for index, (key, block) in enumerate(blocks.named_children()):
        path = f"{layer_path}.{key}".removeprefix(".")
        points[f"blocks.{index}.hook_resid_pre"] = HookPoint(path, side="input", width=_width(block, "input"))
        points[f"blocks.{index}.hook_resid_post"] = HookPoint(path, width=_width(block, "output"))
    return points


def _name_family(root: Any, family: Family) -> dict[str, HookPoint]:
    """Name the places of a Hugging Face model, as its family's row says, in the order of the forward."""
    path, width, heads = blocks_path(root, family), root.config.hidden_size, root.config.num_attention_heads
    points: dict[str, HookPoint] = {}
    for index, (key, block) in enumerate(root.get_submodule(path).named_children()):
        at, block_name = f"{path}.{key}", f"blocks.{index}."
        attention = f"{at}.{family.attention}"
        projected = _width(block.get_submodule(family.heads), "input")
        points[block_name + "hook_resid_pre"] = HookPoint(at, side="input", width=width)
        points[block_name + "attn.hook_z"] = HookPoint(
            f"{at}.{family.heads}", side="input", width=projected, heads=heads
        )
        points[block_name + "hook_attn_out"] = HookPoint(attention, width=width)
        if family.serial(root.config):
            points[block_name + "hook_resid_mid"] = HookPoint(attention, width=width, plus=at)
        points[block_name + "hook_mlp_out"] = HookPoint(
            f"{at}.{family.mlp}", width=width, flat=at if family.flat_mlp else None
        )
        points[block_name + "hook_resid_post"] = HookPoint(at, width=width)
    return points


def _find_head(point: HookPoint, index: int, name: str, model: str) -> HookPoint:
    if point.heads is None or point.width is None:
        raise UnsupportedError(f"a head of {name!r} in {model}", "take the whole site")
    if index >= point.heads:
        whole = name.partition("[")[0]
        raise UnknownNameError("head", name, [f"{whole}[{head}]" for head in range(point.heads)], model)
    width = point.width // point.heads
    return replace(point, width=width, units=(index * width, (index + 1) * width), heads=None)
