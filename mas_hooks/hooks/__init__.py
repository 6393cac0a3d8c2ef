"""The one room that touches someone else's model: wrapping, hook points, edits and reads."""

from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.loading import load_folder, load_skeleton, require_package, tokenizer_of
from mas_hooks.hooks.read import read_site, read_sites
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

__all__ = [
    "Edit",
    "HookedModel",
    "load_folder",
    "load_skeleton",
    "read_site",
    "read_sites",
    "require_package",
    "tokenizer_of",
    "wrap",
]
