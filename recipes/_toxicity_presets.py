"""The presets of the recipe `toxicity`, and how they fill what is not given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mas_hooks.shipped import beside

alignment: Any = beside(__file__, "_toxicity_align")

EMBEDDED = "embedded"
PAPER_BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "base": EMBEDDED,
        "data": (EMBEDDED,),
        "prompts": 400,
        "prepare": {"test": 400},
        "finetune": {
            "tokens": 48,
            "batch": 32,
            "device_batch": 32,
            "steps": 120,
            "learning_rate": 2e-3,
            "save_every": 60,
            "device": "cpu",
        },
        "responses": {"prompt_tokens": 25, "tokens": 48, "batch": 50},
        "align": alignment.TINY.model_dump(),
    },
    "paper": {
        "base": PAPER_BASE,
        "data": ("hh-rlhf", "jigsaw", "toxic-chat"),
        "prompts": 1_000,
        "least_tokens": 32,
        "prepare": {"test": 2_000},
        "finetune": {},
        "responses": {},
        "align": {"fit": {**alignment.AlignSettings().fit.model_dump(), "micro_batch": 16}},
    },
}
"""What they set; all else is the default of the stage, which is the paper's."""


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of their preset where none are given: the named one, else the paper's beside a base."""
    named = values.get("preset") or ("paper" if values.get("base", EMBEDDED) != EMBEDDED else "tiny")
    return {"preset": named, **_merged(PRESETS.get(named, {}), values)}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of values; where both have one, the second."""
    both = {name: _merged(under[name], own) for name, own in over.items() if _trees(under.get(name), own)}
    return {**under, **over, **both}


def _trees(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)
