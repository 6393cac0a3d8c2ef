"""The training steps that llm_step.py times: ours, plain hooks, and three libraries as their users drive them.

All are single-model DAS on one batch with the same frame at the start. Every function gives a step: one update of the
map, which returns its loss. No `with model.trace()` may move into generated code: nnsight reads its source text.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import mas_hooks as mh
from mas_hooks.alignment import Direction, PatchedDirections, complete_basis
from mas_hooks.core.sites import Site, Where
from mas_hooks.engine import ActivationCache
from mas_hooks.hooks import Edit, HookedModel
from mas_hooks.training import behaviour_losses

LEARNING_RATE = 1e-3

Step = Callable[[], float]


@dataclass(frozen=True, eq=False)
class StepBench:
    """A frozen model in eval mode and one batch: every variant sees the same.

    source, target (batch, length): ids; source_at, target_at (batch,): the swapped column of each row; labels, scored
    (batch, length): the token wanted after each position, and where the loss looks; frame (width, rank): the start.
    """

    model: Any
    layer_path: str
    layer: int
    source: Tensor
    source_at: Tensor
    target: Tensor
    target_at: Tensor
    labels: Tensor
    scored: Tensor
    frame: Tensor

    @property
    def rows(self) -> Tensor:
        """(batch,): 0, 1, 2, …"""
        return torch.arange(len(self.target), device=self.target.device)

    def shell(self) -> Any:
        """A copy of the modules around the same weights: libraries replace forwards and drop hooks."""
        return copy.deepcopy(self.model, {id(weight): weight for weight in self.model.parameters()})

    def loss(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy over the labels, from the logits at every position."""
        return self.loss_at(logits[self.scored])

    def loss_at(self, logits: Tensor) -> Tensor:
        """The same from the logits at the labelled positions."""
        return functional.cross_entropy(logits.float(), self.labels[self.scored])


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _site(bench: StepBench) -> tuple[HookedModel, Site]:
    model = mh.wrap(bench.shell())
    return model, model.at(f"blocks.{bench.layer}.hook_resid_post")


def ours_step(bench: StepBench, path: str = "auto") -> Step:
    """A step of this package: activations cached at the first step, as in every fit."""
    _, site = _site(bench)
    alignment = mh.Alignment(site, rank=bench.frame.shape[1])
    alignment.set_frames([bench.frame])
    at = [Where.one_per_row(columns) for columns in (bench.source_at, bench.target_at)]
    pairs = mh.Pairs.from_tensors(bench.source, at[0], bench.target, at[1], bench.labels, bench.scored)
    way = Direction(0, 0)
    swaps = PatchedDirections(alignment, pairs, [way], ActivationCache(alignment.sites, alignment.models), path)
    if path != "reference" and swaps.path == "reference":
        print(f"ours runs whole forwards in place of path {path!r}, which is not proven equal for this model")
    optimizer = torch.optim.Adam(alignment.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        [(_, labelled)] = swaps.run(alignment.swap_operator(), {way: bench.rows})
        return _update(optimizer, behaviour_losses(labelled, [len(pairs)], "token").sum())

    return step


def plain(bench: StepBench) -> Step:
    """Plain hooks and our map: both models run whole, and nothing is kept between steps.

    The first loss of every other variant must equal the first loss of this one.
    """
    model, site = _site(bench)
    block = model.module.get_submodule(f"{bench.layer_path}.{bench.layer}")
    alignment = mh.Alignment(site, rank=bench.frame.shape[1])
    alignment.set_frames([bench.frame])
    site_map = alignment.site_maps[0]
    optimizer = torch.optim.Adam(site_map.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        sources: list[Tensor] = []

        def read_frame(_module: nn.Module, _inputs: object, output: Any) -> None:
            sources.append(_hidden(output)[bench.rows, bench.source_at].float())

        def swap(_module: nn.Module, _inputs: object, output: Any) -> Any:
            hidden = _hidden(output)
            given = hidden[bench.rows, bench.target_at].float()
            frame = site_map.view().frame  # pyright: ignore[reportAttributeAccessIssue]
            new = (given + (sources[0] - given) @ frame @ frame.mT).to(hidden.dtype)
            edited = hidden.index_put((bench.rows, bench.target_at), new)
            return (edited, *output[1:]) if isinstance(output, tuple) else edited

        with torch.no_grad(), block.register_forward_hook(read_frame):
            model.module(bench.source)
        with block.register_forward_hook(swap):
            logits = model.module(bench.target).logits
        return _update(optimizer, bench.loss(logits))

    return step


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def pyvene(bench: StepBench, *, low_rank: bool = True) -> Step:
    """pyvene's model around the model, one unit location an example; it runs the source in every step."""
    library, (width, rank) = importlib.import_module("pyvene"), bench.frame.shape
    if low_rank:
        intervention = library.LowRankRotatedSpaceIntervention(embed_dim=width, low_rank_dimension=rank)
        intervention.rotate_layer.weight = bench.frame.cpu()
    else:
        intervention = library.RotatedSpaceIntervention(embed_dim=width)
        intervention.set_interchange_dim(rank)
        intervention.rotate_layer.weight = complete_basis(bench.frame.cpu().double()).float()
    place = {"component": f"{bench.layer_path}[{bench.layer}].output", "intervention": intervention}
    model = library.IntervenableModel(library.IntervenableConfig([place]), bench.shell())
    model.set_device(bench.target.device, set_model=False)
    optimizer = torch.optim.Adam(model.get_trainable_parameters(), lr=LEARNING_RATE)
    where = [[[[column] for column in at.tolist()]] for at in (bench.source_at, bench.target_at)]

    def step() -> float:
        _, out = model({"input_ids": bench.target}, [{"input_ids": bench.source}], {"sources->base": tuple(where)})
        return _update(optimizer, bench.loss(out.logits))

    return step


def lens(bench: StepBench) -> Step:
    """What the loop of TransformerLens' `fit_das` does, by its own functions, on a bridge; it keeps the sources."""
    analysis = importlib.import_module("transformer_lens.tools.analysis.interchange")
    builder = importlib.import_module("transformer_lens.model_bridge.sources._bridge_builder")
    shell, name = bench.shell(), f"blocks.{bench.layer}.hook_out"
    kind, device, dtype = type(shell).__name__, str(bench.target.device), shell.dtype
    bridge = builder.build_bridge_from_module(
        shell, architecture=kind, hf_config=shell.config, tokenizer=None, device=device, dtype=dtype
    ).eval()
    bridge.requires_grad_(False)

    def task_logits(tokens: Tensor) -> Tensor:
        return bridge(tokens)[bench.scored]

    sources = analysis.collect_activations(bridge, name, bench.source, task_logits, positions=bench.source_at)
    subspace = analysis.LearnedSubspace(*bench.frame.shape)
    subspace.proj.weight = bench.frame.cpu()
    subspace.to(bench.target.device)
    optimizer = torch.optim.Adam(subspace.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        swap = analysis.SubspaceInterchange(subspace)
        logits = analysis.run_with_intervention(
            bridge, name, swap, bench.target, sources, task_logits, positions=bench.target_at
        )
        return _update(optimizer, bench.loss_at(logits))

    return step


def nnsight(bench: StepBench) -> Step:
    """Two traces of nnsight, source and target, with the swap as tensor code on `.output`."""
    model = importlib.import_module("nnsight").NNsight(bench.shell())
    block = model
    for part in bench.layer_path.split("."):
        block = getattr(block, part)
    block = block[bench.layer]
    linear = nn.utils.parametrizations.orthogonal(nn.Linear(*reversed(bench.frame.shape), bias=False))
    linear.weight = bench.frame.cpu()
    linear.to(bench.frame.device)
    optimizer = torch.optim.Adam(linear.parameters(), lr=LEARNING_RATE)
    rows, source_at, target_at = bench.rows, bench.source_at, bench.target_at

    def step() -> float:
        frame: Any = linear.weight
        with torch.no_grad(), model.trace(bench.source):
            given = block.output[rows, source_at].float().save()
        with model.trace(bench.target):
            hidden = block.output
            kept = hidden[rows, target_at].float()
            new = kept + (given - kept) @ frame @ frame.mT
            block.output = hidden.index_put((rows, target_at), new.to(hidden.dtype))
            logits = model.output.logits.save()
        return _update(optimizer, bench.loss(logits))

    return step


def bare_forward(bench: StepBench) -> Step:
    """A forward without gradient, hook or wrapper; gives the loss of the model as it is."""
    model = bench.shell()

    def step() -> float:
        with torch.no_grad():
            return float(bench.loss(model(bench.target).logits))

    return step


def identity(bench: StepBench) -> Step:
    """The same forward under an edit of ours that gives back what it gets."""
    model, site = _site(bench)
    edit = Edit(site, lambda h: h, Where.one_per_row(bench.target_at))

    def step() -> float:
        with torch.no_grad():
            return float(bench.loss(model.run_with_hooks(bench.target, edit)))

    return step
