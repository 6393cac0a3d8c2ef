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
    """Check the base and its fine-tuning before anything starts.

    Returns:
        The folder of the base; None for the embedded one, which may not be there yet.

    Raises:
        MissingPackageError: Fine-tuning needs a package that is not installed.
        UnsupportedError: The device names one card by its number.
        SettingError: The batch cannot be made of smaller passes, or the tokenizer has no pad token.
        CheckpointError: The base is no model, or has no tokenizer.
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
        remedy = "set one and save it with the base: tokenizer.pad_token = tokenizer.eos_token does for most"
        raise SettingError.because(f"the tokenizer in {base}", "has no pad token", remedy)
    return base


def prepare_base(settings: ToxicitySettings, folders: StageFolders, options: Options) -> Path:
    """Find the base; train the embedded one if it is not there yet.

    Args:
        settings: Which base, and how the embedded one is made.
        folders: Where the embedded one is kept.
        options: Whether to show bars.

    Returns:
        The folder of the base.
    """
    if settings.base != EMBEDDED:
        return find_model_folder(settings.base)
    make = partial(load_tiny_base, settings=settings.pretrain, seed=settings.seed, progress=options.progress)
    # One job runs on one thread, whatever the machine has: the weights do not depend on it.
    ((_, folder),) = parallel.run_parallel(make, [folders.base], 1)
    return folder


def draw_prompts(settings: ToxicitySettings, model: Path, ready: PreparedTexts) -> tuple[str, ...]:
    """Draw different prompts of the test texts that are long enough for the tokens of a model.

    Args:
        settings: How many prompts, their fewest tokens, and the seed.
        model: The folder whose tokenizer counts the tokens.
        ready: The prepared texts.

    Returns:
        The prompts in the order drawn.

    Raises:
        SettingError: There are fewer such prompts.
    """
    tokenizer = tokenizer_of(model)
    different = sorted({row.prompt for row in ready.test})
    random.Random(f"{settings.seed} prompts").shuffle(different)
    ids = tokenizer(different)["input_ids"]
    able = [prompt for prompt, tokens in zip(different, ids, strict=True) if len(tokens) >= settings.least_tokens]
    if len(able) < settings.prompts:
        have = f"{len(able)} or fewer, the different prompts of {settings.least_tokens} tokens or more in the test"
        raise SettingError("prompts", settings.prompts, f"{have} (--prepare.test sets its size)")
    return tuple(able[: settings.prompts])
