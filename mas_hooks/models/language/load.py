"""Language models by name: a folder, a model of the Hugging Face hub, TransformerLens' own repos, or one made here."""

from __future__ import annotations

import re
from pathlib import Path

from mas_hooks.core.errors import CheckpointError, SettingError
from mas_hooks.hooks import loading
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.small_lm import SmallModel, load_small_lm, pack_texts, untrained_small_lm

LEGACY = "NeelNanda/"
"""Repos in TransformerLens' own format, SoLU and GELU models among them: their weights come as `.pth` files, which are
read as tensors alone."""
NEEDED = ["*.safetensors", "*.json", "*.model", "*.txt"]
"""Weights that cannot run code, the config and the tokenizer; nothing from folders inside (other formats)."""
AFTER_A_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_post")


def load_language_model(
    source: str | SmallModel, *, name: str | None = None, device: str = "cpu", progress: bool = True
) -> HookedModel:
    """Load, or train, a model and wrap it; its tokenizer comes with it.

    Args:
        source: Settings of a small model (trained now if the cache does not hold it), the folder of a saved Hugging
            Face model, owner/model on the hub, or NeelNanda/… by TransformerLens.
        name: What tables call it; default that of the settings, the folder or the repo.
        device: Where its weights go.
        progress: Whether training shows a bar.

    Returns:
        The wrapped model.

    Raises:
        CheckpointError: The source is none of these, is out of reach, or has no tokenizer.
        MissingPackageError: The source needs transformer-lens, which is not installed.

    Example:
        >>> from mas_hooks.models.language import SmallModel, load_language_model
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> from tempfile import TemporaryDirectory
        >>> from mas_hooks.data.text.corpus import byte_pairs
        >>> settings = SmallModel(layers=1, width=8, heads=2, vocabulary=258)
        >>> with TemporaryDirectory() as folder:
        ...     _ = untrained_small_lm(settings).save_pretrained(folder)
        ...     _ = byte_pairs(["a text"], 258).save_pretrained(folder)
        ...     model = load_language_model(folder, name="tiny")
        >>> model.name, len(model.tokenizer)
        ('tiny', 258)
    """
    if isinstance(source, SmallModel):
        small = load_small_lm(source, progress=progress)
        model = wrap(small.module, tokenizer=small.tokenizer, name=name or source.name)
    elif source.startswith(LEGACY) and not Path(source).exists():
        model = wrap(_boot_bridge(source), name=name or source.removeprefix(LEGACY))
    else:
        folder = find_model_folder(source)
        model = wrap(folder, name=name or Path(source).name)
    _check_has_tokenizer(model)
    model.module.to(device)
    return model


def load_weightless(source: str | SmallModel) -> HookedModel:
    """The tokenizer, blocks and config of a model of `load_language_model`, without its weights.

    Nothing is trained, and weights are looked for but not read, save those of TransformerLens' own format. Raises what
    `load_language_model` raises.

    Example:
        >>> from mas_hooks.models.language import SmallModel, block_count, load_weightless
        >>> model = load_weightless(SmallModel(layers=2, width=8, heads=2, context=16, vocabulary=300))
        >>> model.name, block_count(model)
        ('gelu-2l', 2)
    """
    if isinstance(source, SmallModel):
        texts = pack_texts(source.vocabulary, source.context)
        return wrap(untrained_small_lm(source), tokenizer=texts.tokenizer, name=source.name)
    if source.startswith(LEGACY) and not Path(source).exists():
        return load_language_model(source)
    folder = find_model_folder(source)
    loading.check_weights(folder)
    model = wrap(loading.load_skeleton(folder), tokenizer=loading.tokenizer_of(folder), name=Path(source).name)
    _check_has_tokenizer(model)
    return model


def find_model_folder(named: Path | str) -> Path:
    """The folder itself where there is one; else the snapshot of the hub model of that name, downloaded once.

    Raises CheckpointError, naming the folder to give, for anything else, and where the hub is out of reach.

    Example:
        >>> from mas_hooks.models.language import find_model_folder
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     find_model_folder(folder) == Path(folder)
        True
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
        problem = f"cannot be had from the hub ({_describe_error(error)})"
        raise CheckpointError(named, problem, remedy) from error


def is_hub_name(named: Path | str) -> bool:
    """Whether this reads as owner/model, not as a path."""
    return str(named).count("/") == 1 and not str(named).startswith((".", "/", "~"))


def block_sites(model: HookedModel) -> list[str]:
    """The residual stream behind every block, by the names of its sites.

    Example:
        >>> from mas_hooks.models.language import SmallModel, block_sites
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> settings = SmallModel(layers=2, width=8, heads=2, vocabulary=300)
        >>> block_sites(wrap(untrained_small_lm(settings)))
        ['blocks.0.hook_resid_post', 'blocks.1.hook_resid_post']
    """
    return [name for name in model.hook_points() if AFTER_A_BLOCK.fullmatch(name)]


def block_count(model: HookedModel) -> int:
    """How many blocks a model has whose residual stream can be read behind them.

    Example:
        >>> from mas_hooks.models.language import SmallModel, block_count
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> block_count(wrap(untrained_small_lm(SmallModel(layers=2, width=8, heads=2, vocabulary=300))))
        2
    """
    return len(block_sites(model))


def check_blocks(model: HookedModel) -> None:
    """Raise SettingError for a model without known blocks.

    Example:
        >>> from mas_hooks.models.language import SmallModel, check_blocks
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> check_blocks(wrap(untrained_small_lm(SmallModel(layers=2, width=8, heads=2, vocabulary=300))))
    """
    if not block_count(model):
        raise SettingError(f"the number of blocks of {model.name}", 0, "1 or more, in a family that `wrap` knows")


def check_context(model: HookedModel, context: int) -> None:
    """Raise SettingError for rows of more tokens than a model has positions for, by its config.

    Example:
        >>> from mas_hooks.models.language import SmallModel, check_context
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> model = wrap(untrained_small_lm(SmallModel(context=16, width=8, heads=2, vocabulary=300)), name="small")
        >>> check_context(model, 16)
        >>> check_context(model, 17)
        Traceback (most recent call last):
        ...
        mas_hooks.core.errors.SettingError: context is 17, but must be at most 16, what small can read.
    """
    config = getattr(model.module, "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if isinstance(most, int) and context > most:
        raise SettingError("context", context, f"at most {most}, what {model.name} can read")


def check_same_tokens(a: HookedModel, b: HookedModel) -> None:
    """Raise SettingError unless the same ids are the same tokens in both models, by their tokenizers.

    Example:
        >>> from mas_hooks.models.language import SmallModel, check_same_tokens
        >>> from mas_hooks.hooks.wrap import wrap
        >>> from mas_hooks.models.language.small_lm import untrained_small_lm
        >>> from mas_hooks.data.text.corpus import byte_pairs
        >>> module = untrained_small_lm(SmallModel(layers=1, width=8, heads=2, vocabulary=258))
        >>> check_same_tokens(*[wrap(module, tokenizer=byte_pairs(["a text"], 258)) for _ in range(2)])
    """
    if a.tokenizer is not b.tokenizer and a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        problem = f"differs from that of {a.name}"
        raise SettingError.because(f"the tokenizer of {b.name}", problem, "give models that read the same ids")


def _check_has_tokenizer(model: HookedModel) -> None:
    if model.tokenizer is None:
        raise CheckpointError(model.name, "holds no tokenizer", "save the tokenizer into the same folder")


def _boot_bridge(source: str) -> object:
    """A TransformerLens bridge of a repo in its own format; goes to the hub, or to what the hub's cache holds."""
    loading.require_package("transformer_lens", "lens", f"loading {source}")
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from transformer_lens.model_bridge.sources import boot_tl_legacy

    try:
        return boot_tl_legacy(source).eval()
    except (HfHubHTTPError, HFValidationError, OSError, NotImplementedError) as error:
        remedy = "look whether the hub is within reach, or give a model folder"
        raise CheckpointError(source, f"cannot be had ({_describe_error(error)})", remedy) from error


def _describe_error(error: Exception) -> str:
    """The class of an error and the first words of its message, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
