"""The folder of a base model: one that is here, or one of the Hugging Face hub, kept in the hub's own cache."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.errors import CheckpointError

NEEDED = ["*.safetensors", "*.json", "*.model", "*.txt"]
"""Weights that cannot run code, the config and the tokenizer; nothing from folders inside (other formats)."""


def model_folder(named: Path | str) -> Path:
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
