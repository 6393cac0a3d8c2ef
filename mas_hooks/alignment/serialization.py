"""The folder of an alignment: its plan and sites in config.json, its maps in model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mas_hooks.alignment.plan import Plan
from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError, MasHooksError
from mas_hooks.core.settings import Settings
from mas_hooks.core.sites import Recording, Side, Site
from mas_hooks.hooks.hooked_model import HookedModel

KIND = "mas_hooks.alignment"


class _SavedSite(Settings):
    """A site in config.json; model and side are None for a recording."""

    model: str | None
    name: str
    side: Side | None
    width: int
    basis: str = "raw"

    @classmethod
    def of(cls, site: Site | Recording) -> _SavedSite:
        if isinstance(site, Recording):
            return cls(model=None, name=site.name, side=None, width=site.width)
        return cls(model=site.model.name, name=site.name, side=site.side, width=site.width, basis=site.basis)


class _Saved(Settings):
    """What config.json says of an alignment."""

    plan: Plan
    sites: tuple[_SavedSite, ...]
    seed: int


def save_alignment(
    folder: Path | str, plan: Plan, sites: Sequence[Site | Recording], seed: int, tensors: Mapping[str, Tensor]
) -> None:
    """Write a folder, whole or not at all. It holds no device and no model.

    Args:
        folder: where to write.
        plan: the method.
        sites: the sites, in order.
        seed: of the random start.
        tensors: the state of the alignment, by name.

    Raises:
        OutputFolderError: the folder cannot be written.
    """
    saved = _Saved(plan=plan, sites=tuple(_SavedSite.of(site) for site in sites), seed=seed)
    checkpoints.save_checkpoint(folder, KIND, saved.model_dump(mode="json"), tensors)


def load_alignment(
    folder: Path | str, models: Sequence[HookedModel | Recording]
) -> tuple[Plan, list[Site | Recording], int, dict[str, Tensor]]:
    """Read the plan, the sites on the given models, the seed and the tensors of a folder.

    Raises CheckpointError for a folder that is damaged, foreign, or does not fit the models.
    """
    config, tensors = checkpoints.load_checkpoint(folder, KIND)
    try:
        saved = _Saved.model_validate(config)
    except MasHooksError as error:
        raise CheckpointError(folder, f"has a wrong {checkpoints.CONFIG} ({error})", "write it anew") from error
    if len(models) != len(saved.sites):
        raise CheckpointError(folder, f"aligns {len(saved.sites)} sites, not {len(models)}", "give one model each")
    sites = [_site(folder, entry, model) for entry, model in zip(saved.sites, models, strict=True)]
    return saved.plan, sites, saved.seed, tensors


def check_tensors(folder: Path | str, expected: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> None:
    """Check that a folder holds the tensors that its config asks for.

    Args:
        folder: where they come from, for the sentence of an error.
        expected: the state of an alignment of that config.
        loaded: what the folder holds.

    Raises:
        CheckpointError: names or shapes differ.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (expected, loaded)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(folder, "holds other tensors than its config asks for", "write it anew")


def _site(folder: Path | str, saved: _SavedSite, model: HookedModel | Recording) -> Site | Recording:
    if isinstance(model, Recording) != (saved.side is None):
        kind = "a recording" if saved.side is None else "a model"
        raise CheckpointError(folder, f"has {kind} at site {saved.name!r}", "give the sites in the saved order")
    site = model if isinstance(model, Recording) else model.at(saved.name, saved.side or "output", saved.width)
    if site.width != saved.width:
        problem = f"aligns site {saved.name!r} of width {saved.width}, the given one has {site.width}"
        raise CheckpointError(folder, problem, "give the models it was fitted on")
    if isinstance(site, Site) and site.basis != saved.basis:
        problem = f"was made at site {saved.name!r} in the basis {saved.basis!r}, the given one is in {site.basis!r}"
        remedy = "give the model with or without TransformerLens' compatibility mode, as it was"
        raise CheckpointError(folder, problem, remedy)
    return site
