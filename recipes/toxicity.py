"""Do toxic fine-tunes of a language model share internals that nontoxic ones do not? From data to verdict.

Fine-tunes of one base, toxic and nontoxic on disjoint splits of labelled texts, answer the same prompts; every pair
is compared by stepwise Model Alignment Search. Without flags it runs on a made-up data set (--preset tiny).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from pydantic import Field, model_validator

from mas_hooks.errors import SettingError
from mas_hooks.language.embedded_base import BaseSettings
from mas_hooks.language.prepare import PrepareSettings
from mas_hooks.language.responses import ResponseSettings
from mas_hooks.language.trainer import FinetuneSettings
from mas_hooks.progress import say
from mas_hooks.run_folder import RunFolder
from mas_hooks.settings import Settings as Base
from mas_hooks.shipped import Options, beside
from mas_hooks.study import tell_files

alignment: Any = beside(__file__, "_toxicity_align")
order: Any = beside(__file__, "_toxicity_order")
presets: Any = beside(__file__, "_toxicity_presets")
sources: Any = beside(__file__, "_toxicity_sources")
stages: Any = beside(__file__, "_toxicity_stages")

Stage = Literal["data", "finetune", "responses", "align", "report"]
DECIDING = ("preset", "base")


class Cut(PrepareSettings):
    """How labelled texts are cut. Equal settings and equal texts, in any order, give the same files."""

    splits: Annotated[int, tyro.conf.arg(aliases=("--splits",))] = Field(default=3, ge=1)
    """Disjoint training splits of each class, one a fine-tune (3 is the paper's; 4 and 5 give smaller p)."""


class Settings(Base):
    """Settings of the study. What is not given comes from the preset."""

    preset: Literal["tiny", "paper"] = "tiny"
    """Where all that is not given comes from: tiny, an embedded base and data, or the paper's (the default where
    another --base is named)."""
    base: str = presets.EMBEDDED
    """The base model: `embedded` (a small one is trained), a model folder, or owner/model on the Hugging Face hub."""
    data: tuple[str, ...] = (presets.EMBEDDED,)
    """Data sets: embedded (made up), hh-rlhf, jigsaw, toxic-chat, own; where from by NAME=FOLDER, NAME=FILE or
    NAME=OWNER/SET (such as jigsaw=~/jigsaw own=mine.jsonl)."""
    stages: Annotated[tuple[Stage, ...], Field(exclude=True, min_length=1)] = get_args(Stage)
    """Which stages run; one left out must have been run before with the same settings."""
    seed: int = 0
    """Of everything that is drawn; the seed of a stage is added to it."""
    prompts: int = Field(default=400, ge=2)
    """Held-out prompts that every fine-tune answers, of those of the test texts."""
    least_tokens: int = Field(default=10, ge=1)
    """Prompts of fewer tokens are left out."""
    classifier: Path | None = None
    """Folder of a sequence classifier with a label `toxic`, to judge responses with beside the list of insults."""
    pretrain: BaseSettings = BaseSettings()
    """The embedded base."""
    prepare: Cut = Cut()
    finetune: FinetuneSettings = FinetuneSettings()
    """Fine-tuning. Defaults are those of the preset in force: tiny, unless --preset or --base say otherwise."""
    responses: ResponseSettings = ResponseSettings()
    """Responses; defaults as for fine-tuning."""
    align: alignment.AlignSettings = Field(default_factory=alignment.AlignSettings)  # pyright: ignore[reportInvalidTypeForm]
    """How the fine-tunes are aligned and compared; defaults as for fine-tuning."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return presets.filled(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        """A setting that fits nothing is told before anything is done."""
        sources.named(self.data)
        if self.base != presets.EMBEDDED and self.pretrain != BaseSettings():
            raise SettingError("pretrain", "set", f"left alone beside --base {self.base}: it makes the embedded base")
        if 2 * self.align.margin >= self.responses.tokens:
            allowed = f"below {self.responses.tokens // 2}, so that texts of {self.responses.tokens} tokens have room"
            raise SettingError("align.margin", self.align.margin, allowed)
        return self


def main(settings: Settings, run: RunFolder, options: Options) -> None:
    """Run the stages asked for, each as far as it is not there yet."""
    members = stages.members(settings, options)
    stages.prepared(settings, members, run, options)
    if "align" in settings.stages:
        order.keep_names(run, alignment.run(settings, members, run, stages.alone(options)))
    run.write_records([*order.EARLY, *order.aligned(run)])
    if "report" in settings.stages:
        order.need_aligned(run)
        tell_files(draw(run.path))
    elif "align" in settings.stages:
        say(f"all fits are done; the report: mas-hooks run toxicity --stages report --resume --out {run.path}")


def draw(run_dir: Path) -> list[Path]:
    """Draw the report of a run, from its settings and records alone."""
    return beside(__file__, "_toxicity_report").draw(run_dir)
