"""Where the recipe `toxicity` keeps what its stages make: folders named after all that their content depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mas_hooks.core import fingerprints
from mas_hooks.core.settings import Options
from mas_hooks.models.language import FinetuneSettings
from mas_hooks.models.toys import cache_folder
from mas_hooks.studies.toxicity import sources
from mas_hooks.studies.toxicity.settings import EMBEDDED, ToxicitySettings


@dataclass(frozen=True)
class StageFolders:
    """The folders of each stage, for one set of settings. Other settings of a later stage change no earlier folder.

    base: where the embedded base is made; finetunes and responses hold one folder a member.
    """

    base: Path
    data: Path
    finetunes: Path
    responses: Path

    @classmethod
    def of(cls, settings: ToxicitySettings, options: Options) -> StageFolders:
        """Those of a run."""
        root = cache_folder() / "toxicity"
        base = _hash_parts(_describe_base(settings))
        data = _hash_parts(sources.source_key(settings), settings.seed, settings.prepare.model_dump(mode="json"))
        tuned = _hash_parts(base, data, tuning_settings(settings, options).model_dump(mode="json"))
        said = [settings.prompts, settings.least_tokens, settings.responses.model_dump(mode="json")]
        answered = _hash_parts(tuned, said, options.device.partition(":")[0])
        return cls(
            root / f"base-{base}",
            root / f"data-{data}",
            root / f"finetune-{tuned}",
            root / f"responses-{answered}",
        )


def tuning_settings(settings: ToxicitySettings, options: Options) -> FinetuneSettings:
    """How every member is fine-tuned: on the CPU where one of the two devices says so, with the seeds added."""
    finetune = settings.finetune
    device = "cpu" if options.device == "cpu" else finetune.device
    return finetune.model_copy(update={"device": device, "seed": settings.seed + finetune.seed})


def _describe_base(settings: ToxicitySettings) -> object:
    """What the base depends on: how it is made, what is in its folder, or its name on the hub."""
    if settings.base == EMBEDDED:
        return [settings.seed, settings.pretrain.model_dump(mode="json")]
    folder = Path(settings.base).expanduser()
    return fingerprints.files_fingerprint(folder) if folder.is_dir() else settings.base


def _hash_parts(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
