"""Tiny fine-tunes in folders, as the stages of the toxicity recipe leave them: models, tokenizers and responses."""

import copy
from types import SimpleNamespace

import torch
from models.language.small_language import model, tokenizer

from mas_hooks.core import checkpoints
from mas_hooks.models.language import generate
from mas_hooks.models.language.with_responses import TextModel, TextSettings

SEQUENCES, LENGTH, PROMPT = 30, 16, 6


def nudged(base, seed):
    """A copy of a model, every weight of it moved a little."""
    made, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.005 * torch.randn(parameter.shape, generator=generator))
    return made


def written(one, vocabulary, seed):
    """Rows of random tokens, some shorter and some padded on the left, with the model's own argmax after each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocabulary, (SEQUENCES, LENGTH), generator=generator)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[::4, :2] = False
    mask[1::5, LENGTH - 2 :] = False
    ids = ids.masked_fill(~mask, 0)
    with torch.no_grad():
        own = one(ids, attention_mask=mask.long()).logits.argmax(-1)
    return {"ids": ids, "mask": mask, "own": own.masked_fill(~mask, generate.NO_TOKEN)}


def members(folder, splits=2):
    """Toxic ones first, as `_toxicity_stages.Member`."""
    words, base, made = tokenizer(), model(seed=0), []
    for label in ("toxic", "nontoxic"):
        for number in range(splits):
            name, seed = f"{label}-{number + 1}", len(made)
            one = nudged(base, seed)
            one.save_pretrained(folder / name / "model")
            words.save_pretrained(folder / name / "model")
            told = {"prompt_tokens": PROMPT, "agreement": 1.0}
            said = folder / "said" / name
            checkpoints.save_checkpoint(said / generate.WHOLE, generate.KIND, told, written(one, len(words), seed))
            made.append(SimpleNamespace(name=name, label=label, model=folder / name / "model", responses=said))
    return made


def text_settings(made, **changed):
    """These members as a study, with few and short pairs."""
    models = tuple(TextModel(name=one.name, model=one.model, responses=one.responses) for one in made)
    return TextSettings(**{"models": models, "sizes": (24, 6, 10), "margin": 3, **changed})
