"""Settings of the study `toxicity`, with their defaults and presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.data.text.splits import SplitSettings
from mas_hooks.models.language import BaseSettings, FinetuneSettings, ResponseSettings
from mas_hooks.studies.toxicity import align as alignment
from mas_hooks.studies.toxicity import sources

EMBEDDED = "embedded"
PAPER_BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "base": EMBEDDED,
        "data": (EMBEDDED,),
        "prompts": 400,
        "prepare": {"test": 400},
        "finetune": {
            "tokens": 48,
            "batch": 32,
            "device_batch": 32,
            "steps": 120,
            "learning_rate": 2e-3,
            "save_every": 60,
            "device": "cpu",
        },
        "responses": {"prompt_tokens": 25, "tokens": 48, "batch": 50},
        "align": alignment.TINY.model_dump(),
    },
    "paper": {
        "base": PAPER_BASE,
        "data": ("hh-rlhf", "jigsaw", "toxic-chat"),
        "prompts": 1_000,
        "least_tokens": 32,
        "prepare": {"test": 2_000},
        "finetune": {},
        "responses": {},
        "align": {"fit": {**alignment.AlignSettings().fit.model_dump(), "micro_batch": 16}},
    },
}
"""What they set; all else is the default of the stage, which is the paper's."""


def fill_from_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of their preset where none are given: the named one, else the paper's beside a base."""
    named = values.get("preset") or ("paper" if values.get("base", EMBEDDED) != EMBEDDED else "tiny")
    return {"preset": named, **_merge(PRESETS.get(named, {}), values)}


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of values; where both have one, the second."""
    both = {name: _merge(under[name], own) for name, own in over.items() if _trees(under.get(name), own)}
    return {**under, **over, **both}


def _trees(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


Stage = Literal["data", "finetune", "responses", "align", "report"]
DECIDING = ("preset", "base")


class ToxicitySplits(SplitSettings):
    """How labelled texts are cut. Equal settings and equal texts, in any order, give the same files."""

    splits: Annotated[int, tyro.conf.arg(aliases=("--splits",))] = Field(default=3, ge=1)
    """Disjoint training splits of each class, one a fine-tune (3 is the paper's; 4 and 5 give smaller p)."""


class ToxicitySettings(Settings):
    """ToxicitySettings of the study. What is not given comes from the preset."""

    preset: Literal["tiny", "paper"] = "tiny"
    """Where all that is not given comes from: tiny, an embedded base and data, or the paper's (the default where
    another --base is named)."""
    base: str = EMBEDDED
    """The base model: `embedded` (a small one is trained), a model folder, or owner/model on the Hugging Face hub."""
    data: tuple[str, ...] = (EMBEDDED,)
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
    prepare: ToxicitySplits = ToxicitySplits()
    finetune: FinetuneSettings = FinetuneSettings()
    """Fine-tuning. Defaults are those of the preset in force: tiny, unless --preset or --base say otherwise."""
    responses: ResponseSettings = ResponseSettings()
    """Responses; defaults as for fine-tuning."""
    align: alignment.AlignSettings = Field(default_factory=alignment.AlignSettings)  # pyright: ignore[reportInvalidTypeForm]
    """How the fine-tunes are aligned and compared; defaults as for fine-tuning."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return fill_from_preset(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> ToxicitySettings:
        """A setting that fits nothing is told before anything is done."""
        sources.parse_sources(self.data)
        if self.base != EMBEDDED and self.pretrain != BaseSettings():
            raise SettingError("pretrain", "set", f"left alone beside --base {self.base}: it makes the embedded base")
        if 2 * self.align.margin >= self.responses.tokens:
            allowed = f"below {self.responses.tokens // 2}, so that texts of {self.responses.tokens} tokens have room"
            raise SettingError("align.margin", self.align.margin, allowed)
        return self
