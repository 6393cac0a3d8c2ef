"""Models from the folders that Hugging Face libraries save: no network, safetensors only, no code from the folder."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mas_hooks.core.errors import CheckpointError, MissingPackageError, UnsupportedError
from mas_hooks.core.files import read_json

CONFIG, ADAPTER, TOKENIZER = "config.json", "adapter_config.json", "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
ONESELF = "load the model yourself and wrap the object"


def load_folder(folder: Path | str) -> nn.Module:
    """Load the model of a local folder: in eval mode, on the CPU, in the dtype it was saved in.

    An adapter comes on its base model. Only safetensors are read.

    Raises:
        CheckpointError: There is no folder, or it holds no whole model that transformers has.
        UnsupportedError: The model comes with code of its own.
        MissingPackageError: The folder holds an adapter, and PEFT is not installed.

    Example:
        >>> import tempfile
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from mas_hooks.hooks import load_folder
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=4, n_embd=4, n_layer=1, n_head=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(folder)
        ...     type(load_folder(folder)).__name__
        'GPT2LMHeadModel'
    """
    folder = _check_folder(folder)
    if (folder / ADAPTER).is_file():
        return _load_adapter(folder)
    kind = _find_class(folder, _read_config(folder))
    check_weights(folder)
    with _reword_errors(folder, "its model"), silence_transformers():
        model, info = kind.from_pretrained(
            folder, use_safetensors=True, dtype="auto", output_loading_info=True, **LOCAL
        )
    if missing := sorted(info["missing_keys"]):
        problem = f"lacks {len(missing)} of its model's weights (such as {missing[0]})"
        raise CheckpointError(folder, problem, "save it again with save_pretrained")
    return model.eval()


def check_weights(folder: Path) -> None:
    """Raise CheckpointError when a folder holds no safetensors."""
    if not any(folder.glob("*.safetensors")):
        remedy = "save it with save_pretrained (pytorch_model.bin can run code and is not read)"
        raise CheckpointError(folder, "holds no safetensors weights", remedy)


def load_skeleton(folder: Path | str) -> nn.Module:
    """Build the model of a folder without its weights (on the meta device): enough for names and widths.

    Raises:
        CheckpointError: There is no folder, or it holds no configuration of a model that transformers has.
        UnsupportedError: The model comes with code of its own.

    Example:
        >>> import tempfile
        >>> from transformers import GPT2Config
        >>> from mas_hooks.hooks import load_skeleton
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     GPT2Config(vocab_size=8, n_positions=4, n_embd=4, n_layer=1, n_head=1).save_pretrained(folder)
        ...     load_skeleton(folder).device.type
        'meta'
    """
    import torch
    from transformers import AutoConfig

    folder = _check_folder(folder)
    if (folder / ADAPTER).is_file():
        folder = _find_base(folder)
    kind = _find_class(folder, _read_config(folder))
    with _reword_errors(folder, "its config"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        return (kind.from_config(config) if hasattr(kind, "from_config") else kind(config)).eval()


def tokenizer_of(folder: Path | str) -> Any:
    """Load the tokenizer of a folder; None where it has none.

    Raises:
        CheckpointError: There is no folder, or its tokenizer cannot be loaded.
        UnsupportedError: The tokenizer comes with code of its own.

    Example:
        >>> import tempfile
        >>> from mas_hooks.hooks import tokenizer_of
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tokenizer_of(folder) is None
        True
    """
    folder = _check_folder(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    settings = read_json(folder / TOKENIZER, "give the tokenizer") if (folder / TOKENIZER).is_file() else {}
    if "auto_map" in settings:
        raise UnsupportedError(f"running the tokenizer's code in {folder}", "give a loaded one: wrap(…, tokenizer=…)")
    # AutoTokenizer goes by the model's type: it would read a tokenizer of no class as another and may drop every word.
    plain = settings.get("tokenizer_class") in PLAIN_TOKENIZERS and (folder / "tokenizer.json").is_file()
    with _reword_errors(folder, "its tokenizer"):
        return (PreTrainedTokenizerFast if plain else AutoTokenizer).from_pretrained(folder, **LOCAL)


def require_package(package: str, extra: str, purpose: str) -> None:
    """Check that an optional package is installed.

    Args:
        package: What is imported.
        extra: The extra of mas-hooks that installs it.
        purpose: What it is needed for, as the subject of the error's sentence.

    Raises:
        MissingPackageError: It is not installed.

    Example:
        >>> from mas_hooks.hooks import require_package
        >>> require_package("torch", "language", "reading a model")
    """
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(package, extra, purpose)


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Turn off the progress bars of transformers inside the block: one for every file written would tear ours.

    Example:
        >>> from transformers.utils import logging
        >>> from mas_hooks.hooks import silence_transformers
        >>> with silence_transformers():
        ...     logging.is_progress_bar_enabled()
        False
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_folder(folder: Path | str) -> Path:
    if Path(folder).is_dir():
        return Path(folder)
    problem = "is a file" if Path(folder).exists() else "is no folder here, and nothing is downloaded"
    raise CheckpointError(folder, problem, f"give the folder of a saved Hugging Face model, or {ONESELF}")


def _read_config(folder: Path) -> Mapping[str, Any]:
    """Read config.json. Raises CheckpointError when it is not that of a model that transformers has."""
    from transformers import CONFIG_MAPPING

    if not (folder / CONFIG).is_file():
        raise CheckpointError(folder, f"holds no {CONFIG}", "give the folder of a saved Hugging Face model")
    config = read_json(folder / CONFIG, "save the model again with save_pretrained")
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        _refuse_code(folder, config)
        raise CheckpointError(folder, f"is of model type {kind!r}, which transformers does not have", ONESELF)
    return config


def _find_class(folder: Path, config: Mapping[str, Any]) -> Any:
    """Find the class that the folder was saved from; the causal language model of its type where it does not say."""
    import transformers

    named = config.get("architectures") or []
    for name in named:
        kind = getattr(transformers, name, None)
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            return kind
    if named:
        _refuse_code(folder, config)
        raise CheckpointError(folder, f"was saved from {named[0]!r}, which transformers does not have", ONESELF)
    return transformers.AutoModelForCausalLM


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    if "auto_map" in config:
        raise UnsupportedError(f"running the code that comes with {folder}", ONESELF)


def _find_base(folder: Path) -> Path:
    """Find the folder of the model that an adapter is for."""
    base = read_json(folder / ADAPTER, "save the adapter again").get("base_model_name_or_path")
    if not base or not Path(base).is_dir():
        remedy = "load both yourself, PeftModel.from_pretrained(base, folder), and wrap that"
        raise CheckpointError(folder, f"is an adapter of {base!r}, which is no folder here", remedy)
    return Path(base)


def _load_adapter(folder: Path) -> nn.Module:
    require_package("peft", "language", f"loading the adapter in {folder}")
    base = _find_base(folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(folder, "holds no safetensors weights", "save the adapter again with save_pretrained")
    from peft import PeftModel

    if (base / ADAPTER).is_file():
        raise CheckpointError(folder, f"is an adapter of an adapter, {base}", "merge that one first, or " + ONESELF)
    model = load_folder(base)
    with _reword_errors(folder, "its adapter"):
        return PeftModel.from_pretrained(model, folder, local_files_only=True).eval()  # pyright: ignore[reportArgumentType]


@contextmanager
def _reword_errors(folder: Path, what: str) -> Iterator[None]:
    """Reword what transformers (or peft) raises about a file as one sentence that names the folder."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    damaged = (SafetensorError, StrictDataclassError, OSError, ImportError, LookupError, TypeError, ValueError)
    try:
        yield
    except (*damaged, AttributeError, RuntimeError) as error:
        said = textwrap.shorten(str(error), 200, placeholder=" …")
        problem = f"{what} cannot be loaded ({type(error).__name__}: {said})"
        raise CheckpointError(folder, problem, f"save it again with save_pretrained, or {ONESELF}") from error
