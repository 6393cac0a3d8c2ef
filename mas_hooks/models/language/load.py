"""The folder of a base model: one that is here, or one of the Hugging Face hub, kept in the hub's own cache."""

from __future__ import annotations

import re
from pathlib import Path

from mas_hooks.core.errors import CheckpointError, SettingError
from mas_hooks.hooks import loading
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.small_lm import SmallModel, load_small_lm, pack_texts, untrained_small_lm

NEEDED = ["*.safetensors", "*.json", "*.model", "*.txt"]
"""Weights that cannot run code, the config and the tokenizer; nothing from folders inside (other formats)."""


def find_model_folder(named: Path | str) -> Path:
    """The folder itself where there is one; else the snapshot of the hub model of that name, downloaded once.

    Raises CheckpointError, naming the folder to give, for what is neither, and where the hub cannot be reached.
    """
    folder = Path(named).expanduser()
    if folder.is_dir():
        return folder
    remedy = "give the folder of a saved Hugging Face model (config.json, safetensors weights and tokenizer)"
    if not is_hub_name(named):
        raise CheckpointError(named, "is no folder here and no name on the hub (owner/model)", remedy)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(named), allow_patterns=NEEDED, ignore_patterns=["*/*"]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # no network is an OSError of theirs
        said = " ".join(str(error).split())[:150]
        raise CheckpointError(named, f"cannot be had from the hub ({type(error).__name__}: {said})", remedy) from error


def is_hub_name(named: Path | str) -> bool:
    """Whether this reads as owner/model, not as a path."""
    return str(named).count("/") == 1 and not str(named).startswith((".", "/", "~"))


LEGACY = "NeelNanda/"
"""Repos in TransformerLens' own format, SoLU and GELU models among them: their weights come as `.pth` files, which are
read as tensors alone."""
AFTER_A_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_post")


def load_language_model(
    source: str | SmallModel, *, name: str | None = None, device: str = "cpu", progress: bool = True
) -> HookedModel:
    """Load, or train, a model and wrap it; its tokenizer comes with it.

    source: settings of a small model (trained now if the cache does not hold it), the folder of a saved Hugging Face
    model, owner/model on the hub, or NeelNanda/… by TransformerLens. name: default that of the settings or the repo.
    Raises CheckpointError for what is none of these, cannot be had, or has no tokenizer; MissingPackageError without
    transformer-lens where it is needed.
    """
    if isinstance(source, SmallModel):
        small = load_small_lm(source, progress=progress)
        made = wrap(small.module, tokenizer=small.tokenizer, name=name or source.name)
    elif source.startswith(LEGACY) and not Path(source).exists():
        made = wrap(_bridge(source), name=name or source.removeprefix(LEGACY))
    else:
        folder = find_model_folder(source)
        made = wrap(folder, name=name or Path(source).name)
    _check_tokenizer(made)
    made.module.to(device)
    return made


def load_weightless(source: str | SmallModel) -> HookedModel:
    """What can be told of a model of `load_language_model` at once: its tokenizer, blocks and config, without its weights.

    Nothing is trained, and weights are looked for but not read, save those of TransformerLens' own format. Raises what
    `load_language_model` raises.
    """
    if isinstance(source, SmallModel):
        own = pack_texts(source.vocabulary, source.context)
        return wrap(untrained_small_lm(source), tokenizer=own.tokenizer, name=source.name)
    if source.startswith(LEGACY) and not Path(source).exists():
        return load_language_model(source)
    folder = find_model_folder(source)
    loading.check_weights(folder)
    made = wrap(loading.load_skeleton(folder), tokenizer=loading.tokenizer_of(folder), name=Path(source).name)
    _check_tokenizer(made)
    return made


def block_count(model: HookedModel) -> int:
    """How many blocks a model has whose residual stream can be read behind them."""
    return sum(AFTER_A_BLOCK.fullmatch(name) is not None for name in model.hook_points())


def check_blocks(model: HookedModel) -> None:
    """Raise SettingError for a model without blocks that are known."""
    if not block_count(model):
        raise SettingError(f"the blocks of {model.name}", 0, "1 or more, of a family that `wrap` knows")


def check_context(model: HookedModel, context: int) -> None:
    """Raise SettingError for rows of more tokens than a model has positions for, as far as its config tells."""
    config = getattr(model.module, "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if isinstance(most, int) and context > most:
        raise SettingError("context", context, f"at most {most}, what {model.name} can read")


def check_same_tokens(a: HookedModel, b: HookedModel) -> None:
    """Raise SettingError unless the same ids are the same tokens in both models, by their tokenizers."""
    if a.tokenizer is not b.tokenizer and a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise SettingError(f"the tokenizer of {b.name}", "another one", f"that of {a.name}: both read the same ids")


def _check_tokenizer(model: HookedModel) -> None:
    if model.tokenizer is None:
        raise CheckpointError(model.name, "holds no tokenizer", "save the tokenizer into the same folder")


def _bridge(source: str) -> object:
    """A TransformerLens bridge of a repo in its own format; goes to the hub, or to what the hub's cache holds."""
    loading.require_package("transformer_lens", "lens", f"loading {source}")
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from transformer_lens.model_bridge.sources import boot_tl_legacy

    try:
        return boot_tl_legacy(source).eval()
    except (HfHubHTTPError, HFValidationError, OSError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:150]
        remedy = "look whether the hub is within reach, or give a model folder"
        raise CheckpointError(source, f"cannot be had ({type(error).__name__}: {said})", remedy) from error
