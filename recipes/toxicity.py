"""Do toxic fine-tunes of a language model share internals that nontoxic ones do not? From data to verdict.

Six fine-tunes of one base, toxic and nontoxic on three disjoint splits of labelled texts, answer the same prompts; then
every pair is compared by stepwise Model Alignment Search. Without flags it runs on a made-up data set (--preset tiny).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from mas_hooks.language.prepare import PrepareSettings
from mas_hooks.language.responses import ResponseSettings
from mas_hooks.language.trainer import FinetuneSettings
from mas_hooks.progress import say
from mas_hooks.run_folder import RunFolder
from mas_hooks.settings import Settings as Base
from mas_hooks.shipped import Options, beside

stages: Any = beside(__file__, "_toxicity_stages")
alignment: Any = beside(__file__, "_toxicity_align")

Stage = Literal["data", "finetune", "responses", "align", "report"]


class Settings(Base):
    """Settings of the study."""

    preset: Literal["tiny", "paper"] = "tiny"
    """Where what is not given comes from."""
    base: str = "embedded"
    """The base model."""
    data: tuple[str, ...] = ("embedded",)
    """The data sets."""
    stages: Annotated[tuple[Stage, ...], Field(exclude=True)] = get_args(Stage)
    """Which stages run."""
    seed: int = 0
    """Of everything that is drawn."""
    prompts: int = Field(default=300, ge=2)
    """Held-out prompts that every fine-tune answers."""
    prepare: PrepareSettings = PrepareSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    responses: ResponseSettings = ResponseSettings()
    align: alignment.AlignSettings = Field(default_factory=alignment.AlignSettings)  # pyright: ignore[reportInvalidTypeForm]


def main(settings: Settings, run: RunFolder, options: Options) -> None:
    """Run the stages asked for, each as far as it is not there yet."""
    members = stages.members(settings, options)
    names = alignment.run(settings, members, run, options) if "align" in settings.stages else []
    run.write_records(names)
    if "report" in settings.stages:
        for path in draw(run.path):
            say(f"figure: {path}")


def draw(run_dir: Path) -> list[Path]:
    """Draw the report of a run, from its settings and records alone."""
    return beside(__file__, "_toxicity_report").draw(run_dir)
