"""Compare the layers of a family of language models by CKA: within and between its sizes, blocks, and an outlier.

By default three sizes of one architecture are trained here on the help topics of Python. `--models` takes any family
whose members read the same tokens, smallest first, as folders or names on the hub: `--models
EleutherAI/pythia-70m-deduped EleutherAI/pythia-160m-deduped … --data TEXTS --context 1024 --batch-size 1`.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field, model_validator

from mas_hooks import layer_comparison, records
from mas_hooks.errors import SettingError
from mas_hooks.language.small_models import SmallModel
from mas_hooks.layer_comparison import LayerComparison, Layered
from mas_hooks.run_folder import RECORDS, RunFolder
from mas_hooks.settings import Settings as Base
from mas_hooks.shipped import Options, beside
from mas_hooks.similarity.layer_pairs import MEASURES
from mas_hooks.stitching import SharedTexts
from mas_hooks.study import run_stages, tell_files

drawing: Any = beside(__file__, "_scaling_family_drawing")


class Own(SmallModel):
    """What all members that are trained here have in common; the rest comes from elsewhere."""

    layers: Annotated[int, tyro.conf.Suppress] = 3
    width: Annotated[int, tyro.conf.Suppress] = 64
    context: Annotated[int, tyro.conf.Suppress] = 64
    steps: int = Field(default=800, ge=1)
    """Of AdamW."""
    seed: Annotated[int, tyro.conf.Suppress] = 0


class Settings(Base):
    """Settings of the family."""

    models: tuple[str, ...] = ()
    """Folders of saved models or owner/model on the hub, smallest first; none for the family that is trained here."""
    data: str | None = None
    """A text or JSON lines file, or a folder of them, that the models are compared on; needed with --models. Members
    that are trained here read it too, but learn from the help topics in any case."""
    sizes: tuple[tuple[int, int], ...] = ((4, 48), (6, 64), (8, 96))
    """Blocks and width of each member that is trained here, smallest first: pairs, one after the other, of three
    members or more."""
    training: Own = Own()
    """Of every member that is trained here."""
    context: int = Field(default=64, ge=4)
    """Tokens of a sequence; with --models, what they can read (the paper: 1024)."""
    rows: int = Field(default=256, ge=1)
    """Sequences that are compared."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences of a minibatch (the paper: 1, of 1024 tokens)."""
    measure: str = "cka"
    """cka (unbiased), cka_cosine, cka_biased, cka_cosine_biased or rsa."""
    untrained: bool = True
    """Add a copy of the middle member with fresh random weights: a known outlier, which the rule has to flag."""
    seed: int = 0
    """Of first weights, of the texts' parts and of the untrained copy."""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        """What fits no comparison is told before anything is trained."""
        if self.models and self.data is None:
            raise SettingError("data", None, "given with --models: a file or folder of texts that they read")
        if self.measure not in MEASURES:
            raise SettingError("measure", self.measure, "one of " + ", ".join(MEASURES))
        names = [one.name for one in self.members]
        if len(names) < 3 or len(set(names)) < len(names):
            raise SettingError("the family", names, "three members or more, all of different names")
        return self

    @property
    def members(self) -> list[Layered]:
        """The family, smallest first."""
        if self.models:
            return [Layered(name=Path(one).name, source=one) for one in self.models]
        own = self.training
        told = [{"layers": layers, "width": width, "context": self.context} for layers, width in self.sizes]
        made = [SmallModel(**{**own.model_dump(), **one, "seed": self.seed}) for one in told]
        return [Layered(name=f"{one.layers}×{one.width}", source=one) for one in made]

    @property
    def texts(self) -> SharedTexts:
        """What all of them read."""
        return SharedTexts(data=self.data, context=self.context, sizes=(1, 1, self.rows), seed=self.seed)

    def planned(self, device: str) -> dict[str, LayerComparison]:
        """Every member with itself, every two, and the untrained copy with all, by name."""
        members = self.members
        pairs = sorted(combinations_with_replacement(range(len(members)), 2), key=lambda pair: pair[0] != pair[1])
        found = {f"grid-{i}-{j}": (members[i], members[j]) for i, j in pairs}
        if self.untrained:
            middle = members[len(members) // 2]
            fresh = middle.model_copy(update={"name": f"{middle.name} untrained", "untrained": True, "seed": self.seed})
            found |= {f"untrained-{i}": (fresh, one) for i, one in enumerate([*members, fresh])}
        told = {"texts": self.texts, "measure": self.measure, "batch_size": self.batch_size, "device": device}
        return {name: LayerComparison(a=a, b=b, **told) for name, (a, b) in found.items()}


def main(settings: Settings, run: RunFolder, options: Options) -> None:
    """Train or load the family, compare its layers, then draw and compare with the paper."""
    settings.texts.check(one.source for one in settings.members)
    members = {one.name: one for one in settings.members}
    run_stages({f"member-{name}": own for name, own in members.items()}, run, options, member, "members")
    planned = settings.planned(options.device)
    run_stages(planned, run, options, layer_comparison.run, "grids of layers")
    run.write_records([*(f"member-{name}" for name in members), *planned])
    tell_files(draw(run.path))


member = layer_comparison.member


def draw(run_dir: Path) -> list[Path]:
    """Draw the heat maps and write `scaling_family.md`, from the records of a run alone."""
    return drawing.draw(run_dir, records.read(run_dir / RECORDS))
