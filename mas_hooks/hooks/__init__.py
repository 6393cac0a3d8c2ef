"""The one room that touches someone else's model: wrapping, hook points, edits, reads, and models from folders."""

from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.loading import (
    load_folder,
    load_skeleton,
    require_package,
    silence_transformers,
    tokenizer_of,
)
from mas_hooks.hooks.names import canonical_names
from mas_hooks.hooks.read import read_site, read_sites
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

__all__ = [
    "Edit",
    "HookedModel",
    "canonical_names",
    "load_folder",
    "load_skeleton",
    "read_site",
    "read_sites",
    "require_package",
    "silence_transformers",
    "tokenizer_of",
    "wrap",
]
