"""Settings of the study `stitching-penalty`, with their defaults and presets."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.models.language import SmallModel
from mas_hooks.studies.work.stitching import Sizes
from mas_hooks.training import FitSettings

SMALL = ("gelu", "solu")
"""What names the models that are trained here."""
SGD = FitSettings(
    batch_size=8,
    learning_rate=1.0,
    steps=2_000,
    validate_every=100,
    patience=1_000,
    select_by="loss",
    optimizer="sgd",
    lr_times_one_minus_momentum=True,
    warmup_steps=200,
    decay="linear",
    clip_norm=1.0,
)
ADAM = SGD.model_copy(
    update={"optimizer": "adam", "learning_rate": 3e-3, "lr_times_one_minus_momentum": False, "clip_norm": None}
)


class EmbeddedModel(SmallModel):
    """The embedded models; kind, seed and context come from elsewhere."""

    activation: Annotated[Literal["gelu", "solu"], tyro.conf.Suppress] = "gelu"
    context: Annotated[int, tyro.conf.Suppress] = 64
    seed: Annotated[int, tyro.conf.Suppress] = 0


class StitchingPenaltySettings(Settings):
    """Which two models are stitched, where, and how a stitch is trained.

    Example:
        >>> StitchingPenaltySettings(seeds=3).pair
        ('gelu', 'solu')
    """

    model_a: str = "gelu"
    """gelu or solu (small, trained here), a model folder, owner/model on the hub, or NeelNanda/… by TransformerLens."""
    model_b: str = "solu"
    """The other model; it must read the same tokens."""
    data: str | None = None
    """Texts to stitch on: a .txt or .jsonl file (a "text" a line) or a folder of them; None for the help topics of
    Python, which the small models are trained on in any case (parts kept apart)."""
    layers: tuple[int, ...] = ()
    """Blocks behind which to stitch; none for all that both models have."""
    seeds: int = Field(default=2, ge=1)
    """Models (the small ones), starts and orders of rows: one of each a seed."""
    seed: int = 0
    """The first."""
    context: int = Field(default=64, ge=2)
    """Tokens of a row."""
    sizes: Sizes = (4_096, 128, 512)
    """At most so many rows for training, validation and test."""
    layer_norm: Literal["none", "before", "after"] = "after"
    """Where the stitch has its LayerNorm; the paper does not say, `after` follows the tuned lens it adapted."""
    init: Literal["random", "identity"] = "random"
    """Where the affine map begins."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """`sgd` is the paper's; each has a schedule of its own where --fit is left as it is."""
    fit: FitSettings = SGD
    """How a stitch is trained: 2,000 steps, 200 of them warm-up, Nesterov momentum at rate 1.0."""
    small: EmbeddedModel = EmbeddedModel()
    """Of the small models."""

    @model_validator(mode="after")
    def _fits(self) -> StitchingPenaltySettings:
        """Raise SettingError, before any model is trained, for what fits no stitch."""
        if min(self.sizes) < 1:
            raise SettingError("sizes", self.sizes, "three numbers of rows, 1 or more each")
        if self.data is None and not {self.model_a, self.model_b} <= {*SMALL}:
            problem = "is missing, and the models are not both trained here"
            raise SettingError.because("data", problem, "give a file or folder of texts that they read")
        deepest = self.small.layers - 1 if {*SMALL} & {*self.pair} else max(self.layers, default=0)
        for layer in self.layers:
            if not 0 <= layer <= deepest:
                raise SettingError("layers", self.layers, f"numbers of blocks, 0 to {deepest}")
        return self

    @property
    def pair(self) -> tuple[str, str]:
        """What names the two models."""
        return self.model_a, self.model_b

    @property
    def training(self) -> FitSettings:
        """How a stitch is trained."""
        return ADAM if self.optimizer == "adam" and self.fit == SGD else self.fit
