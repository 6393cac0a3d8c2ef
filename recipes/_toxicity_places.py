"""Where the recipe `toxicity` keeps what its stages make: folders named after all that their content depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mas_hooks.shipped import Options
from mas_hooks.trained import cache_folder


@dataclass(frozen=True)
class Places:
    """The folders of each stage, for one set of settings. Other settings of a later stage change no earlier folder."""

    base: Path
    data: Path
    finetunes: Path
    responses: Path

    @classmethod
    def of(cls, settings: Any, options: Options) -> Places:
        """Those of a run."""
        root = cache_folder() / "toxicity"
        base = _key(settings.base, settings.seed)
        data = _key(settings.data, settings.seed, settings.prepare.model_dump(mode="json"))
        tuned = _key(base, data, settings.finetune.model_dump(mode="json"), options.device)
        said = _key(tuned, settings.prompts, settings.responses.model_dump(mode="json"))
        return cls(root / f"base-{base}", root / f"data-{data}", root / f"finetune-{tuned}", root / f"responses-{said}")


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
