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
    """The model of a local folder in eval mode, on the CPU, in the dtype it was saved in; an adapter on its base model.

    Reads safetensors only. Raises CheckpointError, UnsupportedError or MissingPackageError.
    """
    folder = _folder(folder)
    if (folder / ADAPTER).is_file():
        return _with_adapter(folder)
    kind = _model_class(folder, _config(folder))
    check_weights(folder)
    with _describe_missing(folder, "its model"), silence_transformers():
        model, info = kind.from_pretrained(
            folder, use_safetensors=True, dtype="auto", output_loading_info=True, **LOCAL
        )
    if missing := sorted(info["missing_keys"]):
        problem = f"lacks {len(missing)} of its model's weights (such as {missing[0]})"
        raise CheckpointError(folder, problem, "save it anew with save_pretrained")
    return model.eval()


def check_weights(folder: Path) -> None:
    """Raise CheckpointError for a folder without safetensors."""
    if not any(folder.glob("*.safetensors")):
        remedy = "save it with save_pretrained (pytorch_model.bin can run code and is not read)"
        raise CheckpointError(folder, "holds no safetensors weights", remedy)


def load_skeleton(folder: Path | str) -> nn.Module:
    """The model of a folder without its weights (on the meta device): enough for names and widths."""
    import torch
    from transformers import AutoConfig

    folder = _folder(folder)
    if (folder / ADAPTER).is_file():
        folder = _base_of(folder)
    kind = _model_class(folder, _config(folder))
    with _describe_missing(folder, "its config"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        return (kind.from_config(config) if hasattr(kind, "from_config") else kind(config)).eval()


def tokenizer_of(folder: Path | str) -> Any:
    """The tokenizer that lies in a folder, or None."""
    folder = _folder(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    told = read_json(folder / TOKENIZER, "give the tokenizer") if (folder / TOKENIZER).is_file() else {}
    if "auto_map" in told:
        raise UnsupportedError(f"running the tokenizer's code in {folder}", "give a loaded one: wrap(…, tokenizer=…)")
    # By the model's type, AutoTokenizer would read a tokenizer of no class as another, which may drop every word.
    plain = told.get("tokenizer_class") in PLAIN_TOKENIZERS and (folder / "tokenizer.json").is_file()
    with _describe_missing(folder, "its tokenizer"):
        return (PreTrainedTokenizerFast if plain else AutoTokenizer).from_pretrained(folder, **LOCAL)


def require_package(package: str, extra: str, purpose: str) -> None:
    """Raise MissingPackageError, naming the extra, where an optional package cannot be imported."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(package, extra, purpose)


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Keep the bars of transformers (one for every file written) from tearing ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _folder(folder: Path | str) -> Path:
    if Path(folder).is_dir():
        return Path(folder)
    problem = "is a file" if Path(folder).exists() else "is no folder here, and nothing is downloaded"
    raise CheckpointError(folder, problem, f"give the folder of a saved Hugging Face model, or {ONESELF}")


def _config(folder: Path) -> Mapping[str, Any]:
    """What config.json says, for a model that transformers has."""
    from transformers import CONFIG_MAPPING

    if not (folder / CONFIG).is_file():
        raise CheckpointError(folder, f"holds no {CONFIG}", "give the folder of a saved Hugging Face model")
    config = read_json(folder / CONFIG, "save the model anew with save_pretrained")
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        _refuse_code(folder, config)
        raise CheckpointError(folder, f"is of model type {kind!r}, which transformers does not have", ONESELF)
    return config


def _model_class(folder: Path, config: Mapping[str, Any]) -> Any:
    """The class that the folder was saved from; the causal language model of its type where it does not say."""
    import transformers

    named = config.get("architectures") or []
    for name in named:
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if named:
        _refuse_code(folder, config)
        raise CheckpointError(folder, f"was saved from {named[0]!r}, which transformers does not have", ONESELF)
    return transformers.AutoModelForCausalLM


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    if "auto_map" in config:
        raise UnsupportedError(f"running the code that comes with {folder}", ONESELF)


def _base_of(folder: Path) -> Path:
    """The folder of the model that an adapter is for."""
    base = read_json(folder / ADAPTER, "save the adapter anew").get("base_model_name_or_path")
    if not base or not Path(base).is_dir():
        remedy = "load both yourself, PeftModel.from_pretrained(base, folder), and wrap that"
        raise CheckpointError(folder, f"is an adapter of {base!r}, which is no folder here", remedy)
    return Path(base)


def _with_adapter(folder: Path) -> nn.Module:
    require_package("peft", "language", f"loading the adapter in {folder}")
    base = _base_of(folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(folder, "holds no safetensors weights", "save the adapter anew with save_pretrained")
    from peft import PeftModel

    if (base / ADAPTER).is_file():
        raise CheckpointError(folder, f"is an adapter of an adapter, {base}", "merge that one first, or " + ONESELF)
    model = load_folder(base)
    with _describe_missing(folder, "its adapter"):
        return PeftModel.from_pretrained(model, folder, local_files_only=True).eval()  # pyright: ignore[reportArgumentType]


@contextmanager
def _describe_missing(folder: Path, what: str) -> Iterator[None]:
    """Tell what transformers (or peft) raises about a file as one sentence that names the folder."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    damaged = (SafetensorError, StrictDataclassError, OSError, ImportError, LookupError, TypeError, ValueError)
    try:
        yield
    except (*damaged, AttributeError, RuntimeError) as error:
        said = textwrap.shorten(str(error), 200, placeholder=" …")
        problem = f"{what} cannot be loaded ({type(error).__name__}: {said})"
        raise CheckpointError(folder, problem, f"save it anew with save_pretrained, or {ONESELF}") from error
