"""Settings: named, typed, frozen; an unknown name or a wrong value is one clear sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from mas_hooks.core.errors import CheckpointError, SettingError, UnknownNameError


def check_same_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], folder: Path, remedy: str, verb: str = "was begun"
) -> None:
    """Raise CheckpointError when the work in a folder began with other settings than now; name what differs.

    Args:
        before: the settings in the folder.
        now: the settings of this run.
        folder: what the error names.
        remedy: what the error tells the reader to do.
        verb: how the error says that the work began.

    Raises:
        CheckpointError: any setting differs.
    """
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise CheckpointError(folder, f"{verb} with other settings ({', '.join(changed)})", remedy)


class Settings(BaseModel):
    """Base of every settings class: frozen, and closed against unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _speak_plainly(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Turn pydantic's first complaint into one of our own errors."""
        try:
            return handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise UnknownNameError("setting", name, cls.model_fields, cls.__name__) from error
            if first["type"] == "missing":
                raise SettingError.because(f"{cls.__name__}.{name}", "is missing", "give it a value") from error
            allowed = first["msg"].removeprefix("Input should be ")
            raise SettingError(f"{cls.__name__}.{name}", first["input"], allowed) from error


@dataclass(frozen=True)
class Options:
    """What every recipe and benchmark takes beside its settings; its numbers do not depend on them.

    jobs: processes for independent pieces of work. device: where models run. progress: show bars.
    """

    jobs: int = 1
    device: str = "cpu"
    progress: bool = True
