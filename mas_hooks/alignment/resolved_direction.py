"""A direction looked up once: its sites, models and pairs, and whether its swaps wait for each other."""

from __future__ import annotations

from dataclasses import dataclass

from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.sites import Recording, Site
from mas_hooks.data.pairs import Pairs
from mas_hooks.hooks.hooked_model import HookedModel


@dataclass(frozen=True, eq=False)
class ResolvedDirection:
    """What every use of a direction needs, from `Alignment.resolve`.

    sequential: the swaps of a sequence are made one by one, as a run comes by them (see `needs_sequential_swap`).
    """

    direction: Direction
    source_site: Site | Recording
    target_site: Site | Recording
    pairs: Pairs
    sequential: bool

    @property
    def source_model(self) -> HookedModel | None:
        """The model that gives; None for a recording."""
        return model_of_site(self.source_site)

    @property
    def target_model(self) -> HookedModel | None:
        """The model that receives; None for a recording."""
        return model_of_site(self.target_site)

    def receiver(self) -> tuple[HookedModel, Site]:
        """The target's model and site. Raises UnsupportedError for a recording, which cannot be run."""
        return require_runnable(self.target_site)


def model_of_site(site: Site | Recording) -> HookedModel | None:
    """The handle of a site's model; None for a recording. Raises SettingError for anything else."""
    if isinstance(site, Recording):
        return None
    if not isinstance(site, Site) or not isinstance(site.model, HookedModel):  # a Protocol to sites, which lie below it
        raise SettingError("the type of a site", type(site).__name__, "Site, from model.at(name), or Recording")
    return site.model


def require_runnable(site: Site | Recording) -> tuple[HookedModel, Site]:
    """The model and site of a target. Raises UnsupportedError for a recording, which cannot be run."""
    model = model_of_site(site)
    if model is None or isinstance(site, Recording):
        raise UnsupportedError(f"a swap into recording {site.name!r}", "swap into models, as methods.unimas() does")
    return model, site


def needs_sequential_swap(model: HookedModel, site: Site, pairs: Pairs, swapped_width: int) -> bool:
    """Whether swaps of `swapped_width` dims have to be made one by one, as a run comes by them.

    This is so for several recurrent states of one sequence: the dims that stay are those of a run with the earlier
    swaps.

    Args:
        model: the target's.
        site: where it receives.
        pairs: the pairs that are run; several cells of one row make the difference.
        swapped_width: how many dims of the target's vector a swap decides.

    Returns:
        True where no vector can be swapped before the run reaches it.
    """
    several = len(pairs.target_where.rows.unique()) < len(pairs.target_where)
    return several and swapped_width < site.width and model.point(site.name, site.side).kind != "module"
