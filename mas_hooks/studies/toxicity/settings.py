"""Settings of the study `toxicity`, with their defaults and presets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from pydantic import Field, model_validator

from mas_hooks.alignment import Init
from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.core.settings import Settings
from mas_hooks.data.text import SplitSettings, labelled
from mas_hooks.evaluation import Statistic
from mas_hooks.models.language import BaseSettings, FinetuneSettings, ResponseSettings
from mas_hooks.training import FitSettings

EMBEDDED = "embedded"
PAPER_BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"


class AlignSettings(Settings):
    """How the fine-tunes are aligned (defaults: the paper's). Sites and ranks: the first ones are the headline's."""

    sites: tuple[str, ...] = Field(default=("embed",), min_length=1)
    """Where: the first for every pair of models, further ones as --align.sweep says."""
    rank: int | None = Field(default=None, ge=1)
    """Shared dims of the headline; None is half the width of the site."""
    ranks: tuple[int, ...] = ()
    """Further sizes of the subspace, fitted at the first site as --align.sweep says."""
    sweep: Literal["one", "every"] = "every"
    """Further sites and ranks for every pair of models, or for one of each kind."""
    init: Init = "random"
    """Where the maps begin; random is the paper's."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs of a direction."""
    margin: int = Field(default=10, ge=0)
    """Positions at either end of a sequence that are never the last one swapped."""
    fit: FitSettings = FitSettings(batch_size=256, learning_rate=2e-3, steps=3_000, select_by="loss")
    """Of the maps. The batch is that of each direction, so a step of two models has four of them;
    --align.fit.micro-batch makes it of smaller passes. The loss chooses the checkpoint, as a text of many tokens is
    seldom wholly right."""
    controls: Literal["none", "random", "one", "every"] = "one"
    """Random maps beside every fit, and untrained copies and shuffled labels beside one pair of each kind or every."""
    shared_space: bool = True
    """Also all models in one shared space: one fit, beside those of the pairs."""
    resamples: int = Field(default=10, ge=1)
    """Draws of 1,000 positions over which CKA and RSA are averaged."""
    score: Literal["iia", "token_accuracy"] = "iia"
    """What the verdict is on: whole trials, or tokens. The other one is shown beside it."""
    statistic: Statistic = "first"
    """What the permutation tests: toxic–toxic minus toxic–nontoxic (first), nontoxic–nontoxic (second), or both."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the models: auto is bfloat16 on a GPU, and their own elsewhere."""
    seed: int = 0
    """Of pairs, maps and batches."""

    @model_validator(mode="after")
    def _fits(self) -> AlignSettings:
        for name, given in (("sites", self.sites), ("ranks", self.ranks)):
            if len(set(given)) < len(given):
                raise SettingError(f"align.{name}", given, f"different {name}")
        if min(self.ranks, default=1) < 1:
            raise SettingError("align.ranks", self.ranks, "sizes of 1 dim or more")
        return self


TINY = AlignSettings(
    sites=("embed", "blocks.1.hook_resid_post"),
    ranks=(4, 16),
    sweep="one",
    sizes=(2_000, 100, 400),
    fit=FitSettings(batch_size=8, learning_rate=1e-2, steps=240, validate_every=60, select_by="loss"),
    resamples=2,
    score="token_accuracy",
)
"""What a small embedded base needs. Its texts go on in many ways that are as good, so that whole trials are seldom
right even where two models read the same: tokens are compared."""


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
        "align": TINY.model_dump(),
    },
    "paper": {
        "base": PAPER_BASE,
        "data": ("hh-rlhf", "jigsaw", "toxic-chat"),
        "prompts": 1_000,
        "least_tokens": 32,
        "prepare": {"test": 2_000},
        "finetune": {},
        "responses": {},
        "align": {"fit": {**AlignSettings().fit.model_dump(), "micro_batch": 16}},
    },
}
"""What they set; all else is the default of the stage, which is the paper's."""


def fill_from_preset(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fill up values that are not given: from the defaults of a recipe, and where it has none from the preset.

    Args:
        values: The values given.
        defaults: Those that a recipe writes anew. That of a stage is whole: nothing of the preset is left in it.

    Returns:
        All of them, with the preset: the named one, else the paper's beside a base.
    """
    first = {**defaults, **values}
    named = first.get("preset") or ("paper" if first.get("base", EMBEDDED) != EMBEDDED else "tiny")
    return {"preset": named, **_merge({**PRESETS.get(named, {}), **defaults}, values)}


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of values; where both have one, the second."""
    both = {name: _merge(under[name], value) for name, value in over.items() if _trees(under.get(name), value)}
    return {**under, **over, **both}


def _trees(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def parse_sources(data: Sequence[str]) -> dict[str, str | None]:
    """Find where each data set is read from.

    Returns:
        Its place by name; None for the published one.

    Raises:
        UnknownNameError: A name is no data set.
        SettingError: None is named, or one twice or without its place.
    """
    sources: dict[str, str | None] = {}
    for entry in data:
        name, equals, source = entry.partition("=")
        if name not in (EMBEDDED, *labelled.READERS):
            raise UnknownNameError("data set", name, [EMBEDDED, *labelled.READERS], "the recipe toxicity")
        if name in sources or (equals and not source) or (equals and name == EMBEDDED):
            raise SettingError("data", tuple(data), "different names, each alone or with a place (hh-rlhf=FOLDER)")
        sources[name] = source or None
    if not sources:
        raise SettingError("data", (), f"one or more of {EMBEDDED}, {', '.join(labelled.READERS)}")
    return sources


Stage = Literal["data", "finetune", "responses", "align", "report"]
DECIDING = ("preset", "base")


class ToxicitySplits(SplitSettings):
    """How labelled texts are cut. Equal settings and equal texts, in any order, give the same files."""

    splits: Annotated[int, tyro.conf.arg(aliases=("--splits",))] = Field(default=3, ge=1)
    """Disjoint training splits of each class, one a fine-tune (3 is the paper's; 4 and 5 give smaller p)."""


class ToxicitySettings(Settings):
    """What the study does, stage by stage. What is not given, and not written anew in a recipe, comes from the preset.

    Example:
        >>> ToxicitySettings(base="owner/model").preset
        'paper'
    """

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
    align: AlignSettings = Field(default_factory=AlignSettings)
    """How the fine-tunes are aligned and compared; defaults as for fine-tuning."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return fill_from_preset(values, cls._read_new_defaults()) if isinstance(values, dict) else values

    @classmethod
    def _read_new_defaults(cls) -> dict[str, Any]:
        """The defaults that a subclass writes anew; those of a stage as trees of values."""
        below = cls.__mro__[: cls.__mro__.index(ToxicitySettings)]
        names = {name for part in below for name in inspect.get_annotations(part)}
        fields = {name: field for name, field in cls.model_fields.items() if name in names and not field.is_required()}
        defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
        return {name: value.model_dump() if isinstance(value, Settings) else value for name, value in defaults.items()}

    @model_validator(mode="after")
    def _fits(self) -> ToxicitySettings:
        """Raise, before anything is done, for a setting that fits nothing."""
        parse_sources(self.data)
        if self.base != EMBEDDED and self.pretrain != BaseSettings():
            problem = f"is set beside --base {self.base}, but makes the embedded base alone"
            raise SettingError.because("pretrain", problem, "leave one of the two out")
        if 2 * self.align.margin >= self.responses.tokens:
            allowed = f"below {self.responses.tokens // 2}, so that texts of {self.responses.tokens} tokens have room"
            raise SettingError("align.margin", self.align.margin, allowed)
        return self
