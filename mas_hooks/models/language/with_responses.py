"""Language models with what they wrote, as data; loaded once in a process, with the pairs between all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from mas_hooks.core.errors import SettingError
from mas_hooks.core.memory import ProcessCache, free_bytes
from mas_hooks.core.settings import Settings
from mas_hooks.core.sites import Site, Where
from mas_hooks.data.text_pairs import DirectedPairs, ResponseTokens, text_pairs
from mas_hooks.engine.cache import SharedActivations, gather_site
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.loading import tokenizer_of
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language import generate

CHUNK = 64
ROOM = 4
"""A model that no comparison needs now stays loaded while its device has so many times its size to spare."""


class TextModel(Settings):
    """A model folder (for `wrap`), the folder of its responses (of `language.responses.respond`), and its name."""

    name: str
    model: Path
    responses: Path


class TextSettings(Settings):
    """Models that answered the same prompts, and the pairs that are drawn between all of them.

    sizes: training, validation and test pairs of a direction. margin: as in `text_pairs`. dtype: of the models, `auto`
    for bfloat16 on a GPU and their own elsewhere. seed: of the pairs.
    """

    models: tuple[TextModel, ...] = Field(min_length=1)
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    margin: int = Field(default=10, ge=0)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "cpu"
    seed: int = 0

    @model_validator(mode="after")
    def _names_of(self) -> TextSettings:
        names = [own.name for own in self.models]
        if len(set(names)) < len(names):
            raise SettingError("the names of the models", names, "all different")
        return self


@dataclass(eq=False)
class TextModels:
    """What comparisons of the same models share in a process: loaded models, sites, pairs and activations.

    The pairs are those between all models, so that a direction has the same pairs in every comparison.
    """

    settings: TextSettings
    activations: SharedActivations = field(default_factory=SharedActivations)
    _models: dict[int, HookedModel] = field(default_factory=dict)
    _sites: dict[tuple[int, str], Site] = field(default_factory=dict)
    _pairs: tuple[DirectedPairs, DirectedPairs, DirectedPairs] | None = None

    def sites(self, chosen: Sequence[int], name: str) -> list[Site]:
        """The sites of that name in some models, which are loaded now; others make room where it is scarce."""
        for number in [number for number in self._models if number not in chosen]:
            self._make_room(number)
        for number in chosen:
            if number not in self._models:
                self._models[number] = self._load_models(number)
            if (number, name) not in self._sites:
                self._sites[number, name] = self._models[number].at(name)
        return [self._sites[number, name] for number in chosen]

    def states(self, number: int, name: str, ids: Tensor, where: Where) -> Float[Tensor, "n width"]:
        """What a model holds at some cells of a site while it reads ids, float32."""
        (site,) = self.sites([number], name)
        return gather_site(self._models[number], site, ids, where, CHUNK)

    def pairs(self, chosen: Sequence[int]) -> list[DirectedPairs]:
        """Training, validation and test pairs between some models, numbered as they are chosen."""
        if self._pairs is None:
            own = self.settings
            self._pairs = text_pairs(self.responses(), own.sizes, own.seed, margin=own.margin)
        numbers = list(enumerate(chosen))
        return [{(i, j): split[a, b] for i, a in numbers for j, b in numbers} for split in self._pairs]

    def responses(self) -> list[ResponseTokens]:
        """What every model wrote. Raises SettingError for tokenizers that differ."""
        known = [_vocabulary(own) for own in self.settings.models]
        for own, vocabulary in zip(self.settings.models, known, strict=True):
            if vocabulary != known[0]:
                allowed = f"that of {self.settings.models[0].name}: every model must read the others' tokens"
                raise SettingError(f"the tokenizer of {own.name}", "another one", allowed)
        found = [generate.load_responses(own.responses) for own in self.settings.models]
        return [ResponseTokens(one.ids, one.next_tokens, len(known[0]), one.mask) for one in found]

    def _load_models(self, number: int) -> HookedModel:
        own, settings = self.settings.models[number], self.settings
        made = wrap(own.model, name=own.name)
        dtype = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
        if settings.dtype == "auto" and torch.device(settings.device).type == "cuda":
            dtype = torch.bfloat16
        made.module.to(device=settings.device, dtype=dtype)
        return made

    def _make_room(self, number: int) -> None:
        module = self._models[number].module
        size = sum(parameter.nbytes for parameter in module.parameters())
        if free_bytes(torch.device(self.settings.device)) >= ROOM * size:
            return
        for key in [key for key in self._sites if key[0] == number]:
            self.activations.forget(self._sites.pop(key))
        del self._models[number]


def _vocabulary(own: TextModel) -> dict[str, int]:
    """Raises SettingError for a folder without a tokenizer."""
    tokenizer = tokenizer_of(own.model)
    if tokenizer is None:
        raise SettingError(f"the tokenizer of {own.name}", None, f"saved in its folder, {own.model}")
    return tokenizer.get_vocab()


_LOADED = ProcessCache[TextModels]()


def load_text_models(settings: TextSettings) -> TextModels:
    """Those of these settings, kept until others are asked for in this process."""
    return _LOADED.get(settings.model_dump_json(), lambda: TextModels(settings))
