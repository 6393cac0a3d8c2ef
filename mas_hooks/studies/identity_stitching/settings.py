"""Settings of the study `identity-stitching`, with their defaults and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.models.language import Classifier, PairTexts


class TrainedClassifier(Classifier):
    """What all classifiers that are trained here have in common; `breaking` and `seed` of the study give the rest."""

    breaking: Annotated[float, tyro.conf.Suppress] = 0.0
    seed: Annotated[int, tyro.conf.Suppress] = 0


class IdentityStitchingSettings(Settings):
    """Which classifiers, of which groups, on which examples.

    Example:
        >>> sorted(IdentityStitchingSettings(per_group=2).labels)
        ['generalizing-0', 'generalizing-1', 'heuristic-0', 'heuristic-1']
    """

    models: tuple[str, ...] = ()
    """Folders of fine-tuned classifiers (or owner/model on the hub); none for those that are trained here."""
    groups: tuple[str, ...] = ()
    """With --models: the group of each; two groups of two or more."""
    data: str | None = None
    """With --models: JSON lines with text_a, text_b, label; in distribution (MNLI)."""
    ood_data: str | None = None
    """With --models: the same, out of distribution (HANS)."""
    classes: tuple[int, ...] = ()
    """With --models: what label each class of the heads stands for in --data; left out where they are the same."""
    ood_classes: tuple[int, ...] = ()
    """The same in --ood-data: `--ood-classes 0 1 1` where HANS has 0 for entailment and 1 for everything else."""
    per_group: int = Field(default=5, ge=2)
    """Classifiers of each group that are trained here."""
    breaking: float = Field(default=0.2, gt=0, le=0.5)
    """Share of examples that break the shortcut in the training of the generalizing group; the heuristic has none."""
    training: TrainedClassifier = TrainedClassifier()
    """Of every classifier that is trained here, and of their base."""
    count: int = Field(default=512, ge=8)
    """Examples of each test."""
    piece: int = Field(default=128, ge=1)
    """Examples whose activations, of all models, are kept at once."""
    rows: int = Field(default=1_024, ge=1)
    """Most sequences of one stitched forward: several sources go through one target together."""
    seed: int = 0
    """Of the first model of each group and of the test examples."""

    @model_validator(mode="after")
    def _check_values(self) -> IdentityStitchingSettings:
        """Raise SettingError for settings that fit no comparison, before anything is trained."""
        if self.models:
            needed = {"data": self.data, "ood_data": self.ood_data}
            for name, value in needed.items():
                if value is None:
                    raise SettingError(name, None, "given with --models")
            if len(self.groups) != len(self.models):
                raise SettingError("groups", self.groups, f"{len(self.models)} names, one for each model")
            if len({Path(model).name for model in self.models}) < len(self.models):
                raise SettingError("models", self.models, "folders of different names")
        else:
            for name in ("groups", "data", "ood_data", "classes", "ood_classes"):
                if value := getattr(self, name):
                    raise SettingError(name, value, "left out without models")
        counts = {group: list(self.labels.values()).count(group) for group in self.labels.values()}
        if len(counts) != 2 or min(counts.values()) < 2:
            raise SettingError("groups", counts, "two, of 2 models or more each")
        return self

    @property
    def trained_here(self) -> dict[str, Classifier]:
        """What is trained here, by name."""
        shares, shared = {"generalizing": self.breaking, "heuristic": 0.0}, self.training.model_dump()
        return {
            f"{group}-{number}": Classifier(**{**shared, "breaking": share, "seed": self.seed + number})
            for group, share in shares.items()
            for number in range(self.per_group)
        }

    @property
    def labels(self) -> dict[str, str]:
        """The group of every model, the groups in order of their first model."""
        if self.models:
            return {Path(model).name: group for model, group in zip(self.models, self.groups, strict=True)}
        return {name: name.rpartition("-")[0] for name in self.trained_here}

    @property
    def texts(self) -> dict[str, PairTexts]:
        """The examples of each split."""
        sources = {"test": (self.data, self.classes), "shifted": (self.ood_data, self.ood_classes)}
        return {
            split: PairTexts(data=data, classes=classes, shifted=split == "shifted", count=self.count, seed=self.seed)
            for split, (data, classes) in sources.items()
        }
