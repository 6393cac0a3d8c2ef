"""The two models of every seed of the recipe `stitching-penalty`, trained where they are small, and their stitches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mas_hooks.alignment import TransportSpec
from mas_hooks.core import parallel
from mas_hooks.core.errors import SettingError
from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Options
from mas_hooks.hooks import HookedModel
from mas_hooks.models.language import SmallModel, block_count, load_small_lm
from mas_hooks.studies.stitching_penalty.settings import SMALL, StitchingPenaltySettings
from mas_hooks.studies.work.stitching import StitchComparison, StitchTexts, load_once

RECIPE = "stitching-penalty"


class ModelPairs:
    """The two models of every seed, as data, trained where they are small; and what they are called."""

    def __init__(self, settings: StitchingPenaltySettings, options: Options) -> None:
        self.settings, self.options = settings, options
        self.seeds = range(settings.seed, settings.seed + settings.seeds)
        self.texts.check(self.name_sources(self.seeds[0]))
        small = [model for seed in self.seeds for model in self.name_sources(seed) if isinstance(model, SmallModel)]
        todo = list({model.key: model for model in small}.values())
        for model, trained in parallel.run_parallel(load_small_lm, todo, options.jobs):
            spent = "from the cache" if trained.from_cache else f"trained in {model.steps} steps"
            say(f"{model.name}: {spent}, {trained.losses['test']:.3f} nats a token on the test rows")
        first = self.load_pair(self.seeds[0])
        names = [model.name for model in first]
        self.names = (
            names if names[0] != names[1] else [f"{name} ({letter})" for name, letter in zip(names, "ab", strict=True)]
        )
        depth = min(map(block_count, first))
        self.layers = list(dict.fromkeys(settings.layers)) or list(range(depth))
        if not 0 <= min(self.layers) <= max(self.layers) < depth:
            raise SettingError("layers", settings.layers, f"numbers of blocks that both have, 0 to {depth - 1}")

    def name_sources(self, seed: int) -> list[str | SmallModel]:
        """What names the models of a seed; those that are not trained here are the same for all."""
        settings = self.settings
        keys = settings.small.model_dump() | {"context": settings.context, "seed": seed}
        return [SmallModel(**{**keys, "activation": name}) if name in SMALL else name for name in settings.pair]

    def load_pair(self, seed: int) -> list[HookedModel]:
        """The models of a seed."""
        return [
            load_once(source, self.options.device, progress=self.options.progress) for source in self.name_sources(seed)
        ]

    @property
    def texts(self) -> StitchTexts:
        """What all of them read."""
        settings = self.settings
        return StitchTexts(data=settings.data, context=settings.context, sizes=settings.sizes, seed=settings.seed)

    def plan_stitch(self, way: tuple[int, int], layer: int, seed: int) -> StitchComparison:
        """Describe one stitch as data.

        Args:
            way: Source and target, each by its number in the pair.
            layer: The block behind which to stitch.
            seed: Of the small models, the start and the order of rows.

        Returns:
            The comparison, for `stitching.run_stitching`.
        """
        settings, both = self.settings, self.name_sources(seed)
        return StitchComparison(
            source=both[way[0]],
            target=both[way[1]],
            layer=layer,
            texts=self.texts,
            transport=TransportSpec(kind="affine", layer_norm=settings.layer_norm, init=settings.init),
            fit=settings.training.model_copy(update={"seed": seed}),
            device=self.options.device,
            seed=seed,
        )

    def describe(self, way: tuple[int, int], row: Record | None = None, **keys: Any) -> Record:
        """Put a record under the names of the study.

        Args:
            way: Source and target, each by its number in the pair.
            row: The record; an empty one by default.
            keys: Further keys of the record.

        Returns:
            A new record with the recipe, the comparison and both models.
        """
        source, target = (self.names[number] for number in way)
        ours = {"recipe": RECIPE, "comparison": f"{source} → {target}", "source": way[0], "target": way[1]}
        return replace(row or Record(), source_model=source, target_model=target, **ours, **keys)
