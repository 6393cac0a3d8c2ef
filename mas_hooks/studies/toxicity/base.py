"""The base model of the recipe `toxicity`, checked before anything is done, and the prompts that its kin answer."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from mas_hooks.core import parallel
from mas_hooks.core.errors import CheckpointError, SettingError, UnsupportedError
from mas_hooks.core.progress import say
from mas_hooks.core.settings import Options
from mas_hooks.data.text import PreparedTexts
from mas_hooks.hooks import require_package, tokenizer_of
from mas_hooks.models.language import accumulation_steps, find_model_folder, load_tiny_base
from mas_hooks.studies.toxicity import places
from mas_hooks.studies.toxicity.places import StageFolders
from mas_hooks.studies.toxicity.settings import EMBEDDED, ToxicitySettings, parse_sources


def check_base(settings: ToxicitySettings, options: Options) -> Path | None:
    """The folder of the base, None for the embedded one, which may not be there yet.

    Raises what would fail in the middle of fine-tuning: packages, device, batch, the base or its tokenizer.
    """
    for package in ("accelerate", *(["peft"] if settings.finetune.lora else [])):
        require_package(package, "language", "fine-tuning")
    if options.device.startswith("cuda:"):
        remedy = "choose the card by CUDA_VISIBLE_DEVICES, with --device cuda"
        raise UnsupportedError(f"fine-tuning on {options.device}", remedy)
    accumulation_steps(places.tuning_settings(settings, options))
    if settings.base == EMBEDDED:
        others = [name for name in parse_sources(settings.data) if name != EMBEDDED]
        if others:
            say(f"the embedded base has read embedded texts alone: name a --base that knows those of {others[0]}")
        return None
    base = find_model_folder(settings.base)
    tokenizer = tokenizer_of(base)
    if tokenizer is None:
        raise CheckpointError(base, "holds no tokenizer", "save it beside the model, with save_pretrained")
    if tokenizer.pad_token_id is None:
        remedy = "set, and saved with the base: tokenizer.pad_token = tokenizer.eos_token does for most"
        raise SettingError(f"the pad token of the tokenizer in {base}", None, remedy)
    return base


def prepare_base(settings: ToxicitySettings, folders: StageFolders, options: Options) -> Path:
    """The folder of the base: the embedded one is trained if it is not there yet."""
    if settings.base != EMBEDDED:
        return find_model_folder(settings.base)
    make = partial(load_tiny_base, settings=settings.pretrain, seed=settings.seed, progress=options.progress)
    ((_, folder),) = parallel.run_parallel(
        make, [folders.base], 1
    )  # on one thread, so that its weights do not depend on the rest

    return folder


def draw_prompts(settings: ToxicitySettings, model: Path, ready: PreparedTexts) -> tuple[str, ...]:
    """So many different prompts of the test texts, drawn with the seed, all long enough for the tokens of a model."""
    tokenizer = tokenizer_of(model)
    different = sorted({row.prompt for row in ready.test})
    random.Random(f"{settings.seed} prompts").shuffle(different)
    ids = tokenizer(different)["input_ids"]
    able = [prompt for prompt, tokens in zip(different, ids, strict=True) if len(tokens) >= settings.least_tokens]
    if len(able) < settings.prompts:
        have = f"{len(able)} or fewer, the different prompts of {settings.least_tokens} tokens or more in the test"
        raise SettingError("prompts", settings.prompts, f"{have} (--prepare.test sets its size)")
    return tuple(able[: settings.prompts])
