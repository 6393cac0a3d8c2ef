"""Language models and the responses they wrote, loaded once in a process, with the pairs between all of them."""

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
"""A model that no comparison needs now stays loaded while its device has this many times its size to spare."""


class TextModel(Settings):
    """A model folder (for `wrap`), the folder of its responses (of `generate_responses`), and its name.

    Example:
        >>> from mas_hooks.models.language import TextModel
        >>> TextModel(name="a", model="runs/a/model", responses="runs/a/responses").model.name
        'model'
    """

    name: str
    model: Path
    responses: Path


class TextSettings(Settings):
    """Models that answered the same prompts, and the pairs that are drawn between all of them.

    Attributes:
        models: At least one, each of another name.
        sizes: Training, validation and test pairs of a direction.
        margin: As in `text_pairs`.
        dtype: Of the models; `auto` is bfloat16 on a GPU and their own elsewhere.
        device: Where the models go.
        seed: Of the pairs.

    Example:
        >>> from mas_hooks.models.language import TextModel, TextSettings
        >>> models = [TextModel(name=name, model=f"{name}/model", responses=f"{name}/responses") for name in "ab"]
        >>> settings = TextSettings(models=models, sizes=(100, 10, 10))
        >>> settings.margin, settings.dtype
        (10, 'auto')
    """

    models: tuple[TextModel, ...] = Field(min_length=1)
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    margin: int = Field(default=10, ge=0)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "cpu"
    seed: int = 0

    @model_validator(mode="after")
    def _check_names(self) -> TextSettings:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise SettingError("the names of the models", names, "all different")
        return self


@dataclass(eq=False)
class TextModels:
    """What comparisons of the same models share in a process: loaded models, sites, pairs and activations.

    A direction has the same pairs in every comparison, as pairs are drawn between all models at once.
    """

    settings: TextSettings
    activations: SharedActivations = field(default_factory=SharedActivations)
    _models: dict[int, HookedModel] = field(default_factory=dict)
    _sites: dict[tuple[int, str], Site] = field(default_factory=dict)
    _pairs: tuple[DirectedPairs, DirectedPairs, DirectedPairs] | None = None

    def sites(self, chosen: Sequence[int], name: str) -> list[Site]:
        """The sites of that name in the chosen models, which are loaded now; others leave where memory is scarce."""
        for number in [number for number in self._models if number not in chosen]:
            self._make_room(number)
        for number in chosen:
            if number not in self._models:
                self._models[number] = self._load_model(number)
            if (number, name) not in self._sites:
                self._sites[number, name] = self._models[number].at(name)
        return [self._sites[number, name] for number in chosen]

    def states(self, number: int, name: str, ids: Tensor, where: Where) -> Float[Tensor, "n width"]:
        """The activations of a model at some cells of a site while it reads ids.

        Args:
            number: The model's place in the settings.
            name: Of the site.
            ids: (batch, position).
            where: The cells.

        Returns:
            One row a cell, (n, width), float32.
        """
        (site,) = self.sites([number], name)
        return gather_site(self._models[number], site, ids, where, CHUNK)

    def pairs(self, chosen: Sequence[int]) -> list[DirectedPairs]:
        """Training, validation and test pairs between the chosen models, numbered as they are chosen."""
        if self._pairs is None:
            settings = self.settings
            self._pairs = text_pairs(self.responses(), settings.sizes, settings.seed, margin=settings.margin)
        numbers = list(enumerate(chosen))
        return [{(i, j): split[a, b] for i, a in numbers for j, b in numbers} for split in self._pairs]

    def responses(self) -> list[ResponseTokens]:
        """The responses of every model. Raises SettingError for tokenizers that differ."""
        models = self.settings.models
        vocabularies = [_read_vocabulary(model) for model in models]
        for model, vocabulary in zip(models, vocabularies, strict=True):
            if vocabulary != vocabularies[0]:
                problem, remedy = f"differs from that of {models[0].name}", "give models that read the same tokens"
                raise SettingError.because(f"the tokenizer of {model.name}", problem, remedy)
        stored = [generate.load_responses(model.responses) for model in models]
        return [ResponseTokens(each.ids, each.next_tokens, len(vocabularies[0]), each.mask) for each in stored]

    def _load_model(self, number: int) -> HookedModel:
        settings, member = self.settings, self.settings.models[number]
        model = wrap(member.model, name=member.name)
        dtype = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
        if settings.dtype == "auto" and torch.device(settings.device).type == "cuda":
            dtype = torch.bfloat16
        model.module.to(device=settings.device, dtype=dtype)
        return model

    def _make_room(self, number: int) -> None:
        module = self._models[number].module
        size = sum(parameter.nbytes for parameter in module.parameters())
        if free_bytes(torch.device(self.settings.device)) >= ROOM * size:
            return
        for key in [key for key in self._sites if key[0] == number]:
            self.activations.forget(self._sites.pop(key))
        del self._models[number]


def _read_vocabulary(model: TextModel) -> dict[str, int]:
    """Raises SettingError for a folder without a tokenizer."""
    tokenizer = tokenizer_of(model.model)
    if tokenizer is None:
        raise SettingError(f"the tokenizer of {model.name}", None, f"saved in its folder, {model.model}")
    return tokenizer.get_vocab()


_LOADED = ProcessCache[TextModels]()


def load_text_models(settings: TextSettings) -> TextModels:
    """The models of these settings, kept until others are asked for in this process.

    Nothing is read before it is needed.

    Example:
        >>> from mas_hooks.models.language import TextModel, TextSettings, load_text_models
        >>> models = [TextModel(name=name, model=f"{name}/model", responses=f"{name}/responses") for name in "ab"]
        >>> settings = TextSettings(models=models)
        >>> load_text_models(settings) is load_text_models(settings)
        True
    """
    return _LOADED.get(settings.model_dump_json(), lambda: TextModels(settings))
