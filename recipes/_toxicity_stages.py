"""The first stages of the recipe `toxicity`: data, fine-tunes and their responses, each kept by what it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mas_hooks.language.rows import LABELS, Label
from mas_hooks.shipped import Options, beside

places: Any = beside(__file__, "_toxicity_places")


@dataclass(frozen=True)
class Member:
    """One fine-tune. name: such as toxic-1. model: its folder, for `wrap`. responses: for `language.responses.load`."""

    name: str
    label: Label
    model: Path
    responses: Path


def members(settings: Any, options: Options) -> list[Member]:
    """Every fine-tune of these settings, the toxic ones first, whether it is there already or not."""
    found = places.Places.of(settings, options)
    return [
        Member(name := f"{label}-{number + 1}", label, found.finetunes / name / "model", found.responses / name)
        for label in LABELS
        for number in range(settings.prepare.splits)
    ]
