"""Settings of the study `scaling-family`, with their defaults and presets."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.models.language import SmallModel
from mas_hooks.similarity import find_measure
from mas_hooks.studies.work.layer_comparison import LayerComparison, LayeredModel
from mas_hooks.studies.work.stitching import StitchTexts


class FamilyMember(SmallModel):
    """What all members trained here have in common; `sizes`, `context` and `seed` of the study say the rest."""

    layers: Annotated[int, tyro.conf.Suppress] = 3
    width: Annotated[int, tyro.conf.Suppress] = 64
    context: Annotated[int, tyro.conf.Suppress] = 64
    steps: int = Field(default=800, ge=1)
    """Of AdamW."""
    seed: Annotated[int, tyro.conf.Suppress] = 0


class ScalingFamilySettings(Settings):
    """Which family is compared, and on what.

    Example:
        >>> [member.name for member in ScalingFamilySettings().members]
        ['4×48', '6×64', '8×96']
    """

    models: tuple[str, ...] = ()
    """Folders of saved models or owner/model on the hub, smallest first; none for the family that is trained here."""
    data: str | None = None
    """A text or JSON lines file, or a folder of them, that the models are compared on; needed with --models. Members
    that are trained here read it too, but learn from the help topics in any case."""
    sizes: tuple[tuple[int, int], ...] = ((4, 48), (6, 64), (8, 96))
    """Blocks and width of each member that is trained here, smallest first: pairs, one after the other, of three
    members or more."""
    training: FamilyMember = FamilyMember()
    """Of every member that is trained here."""
    context: int = Field(default=64, ge=4)
    """Tokens of a sequence; with --models, what they can read (the paper: 1024)."""
    rows: int = Field(default=256, ge=1)
    """Sequences that are compared."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences of a minibatch (the paper: 1, of 1024 tokens)."""
    measure: str = "cka"
    """cka_linear_unbiased (which `cka` is short for), cka_linear_biased, cka_cosine_unbiased, cka_cosine_biased or
    rsa_cosine_spearman."""
    untrained: bool = True
    """Add a copy of the middle member with fresh random weights: a known outlier, which the rule has to flag."""
    seed: int = 0
    """Of first weights, of the texts' parts and of the untrained copy."""

    @model_validator(mode="after")
    def _check_values(self) -> ScalingFamilySettings:
        """Raise SettingError for settings that fit no comparison, before anything is trained."""
        if self.models and self.data is None:
            raise SettingError("data", None, "given with --models: a file or folder of texts that they read")
        find_measure(self.measure, "layers", "the scaling family")
        names = [member.name for member in self.members]
        if len(names) < 3 or len(set(names)) < len(names):
            raise SettingError("the family", names, "three members or more, all of different names")
        return self

    @property
    def members(self) -> list[LayeredModel]:
        """The family, smallest first."""
        if self.models:
            return [LayeredModel(name=Path(size).name, source=size) for size in self.models]
        shared = self.training
        sizes = [{"layers": layers, "width": width, "context": self.context} for layers, width in self.sizes]
        models = [SmallModel(**{**shared.model_dump(), **size, "seed": self.seed}) for size in sizes]
        return [LayeredModel(name=f"{size.layers}×{size.width}", source=size) for size in models]

    @property
    def texts(self) -> StitchTexts:
        """What all of them read."""
        return StitchTexts(data=self.data, context=self.context, sizes=(1, 1, self.rows), seed=self.seed)

    def comparisons(self, device: str) -> dict[str, LayerComparison]:
        """Every member with itself, every two, and the untrained copy with all, by name."""
        members = self.members
        pairs = sorted(combinations_with_replacement(range(len(members)), 2), key=lambda pair: pair[0] != pair[1])
        pairs_ = {f"grid-{i}-{j}": (members[i], members[j]) for i, j in pairs}
        if self.untrained:
            middle = members[len(members) // 2]
            fresh = middle.model_copy(update={"name": f"{middle.name} untrained", "untrained": True, "seed": self.seed})
            pairs_ |= {f"untrained-{i}": (fresh, member) for i, member in enumerate([*members, fresh])}
        shared = {"texts": self.texts, "measure": self.measure, "batch_size": self.batch_size, "device": device}
        return {name: LayerComparison(a=a, b=b, **shared) for name, (a, b) in pairs_.items()}
