"""Lines of results: one flat JSON object each, in `records.jsonl`. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mas_hooks.core.errors import RecordError
from mas_hooks.core.files import read_json_lines, write_json_lines


@dataclass(frozen=True, kw_only=True)
class Record:
    """One result. A key that is None does not apply and is not written.

    `source`/`target` number the models of a direction; `*_model`, `*_site` name them. `iia`, `token_accuracy`,
    `floor`, `token_floor` and their bounds are shares in [0, 1]; `trials` and `dropped` count pairs; `seconds` is wall
    time.
    A correlational result puts its name in `measure` and its number in `value`, `value_low`, `value_high`.
    Final test rows have `split="test"`; curves have `split="valid"` and a `step`. How well a model knows its own task
    is `measure="trial_accuracy"`, `split="train"`. `dropped` counts draws that were repeated to stay in range.

    Example:
        >>> import mas_hooks as mh
        >>> row = mh.Record(method="mas", source=0, target=1, k=16, split="test", iia=0.97)
        >>> row.to_json()
        '{"method": "mas", "source": 0, "target": 1, "k": 16, "split": "test", "iia": 0.97}'
    """

    recipe: str | None = None
    comparison: str | None = None
    method: str | None = None
    variable: str | None = None
    task: str | None = None
    source_model: str | None = None
    source_site: str | None = None
    target_model: str | None = None
    target_site: str | None = None
    source: int | None = None
    target: int | None = None
    k: int | None = None
    init: str | None = None
    split: str | None = None
    selected_on: str | None = None
    iia: float | None = None
    iia_low: float | None = None
    iia_high: float | None = None
    token_accuracy: float | None = None
    floor: float | None = None
    token_floor: float | None = None
    trials: int | None = None
    dropped: int | None = None
    step: int | None = None
    seed: int | None = None
    seeds: int | None = None
    control: str | None = None
    measure: str | None = None
    layer_a: str | None = None
    layer_b: str | None = None
    value: float | None = None
    value_low: float | None = None
    value_high: float | None = None
    seconds: float | None = None

    def to_json(self) -> str:
        """This record as one line of JSON, without the keys that do not apply."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """The keys that apply, with their values."""
        return {key: value for key, value in asdict(self).items() if value is not None}


KEYS = tuple(field.name for field in fields(Record))


def _parse(values: Mapping[str, Any], where: str) -> Record:
    for key in values:
        if key not in KEYS:
            raise RecordError.unknown_key(key, KEYS, where)
    return Record(**values)


def read_records(path: Path | str) -> list[Record]:
    """Read all records of a file. Raise RecordError, with file and line, at one that cannot be read."""
    return [_parse(values, where) for where, values in read_json_lines(path, RecordError.unreadable)]


def write_records(path: Path | str, records: Iterable[Record]) -> None:
    """Write a whole file of records under a temporary name, then rename: a reader never sees half of it.

    Raises OutputFolderError when the file cannot be written, such as on a full disk.
    """
    write_json_lines(path, (record.to_dict() for record in records))


def append_records(path: Path | str, records: Iterable[Record]) -> None:
    """Add records to the end of a file, or to a new one; all of them arrive, or none."""
    path = Path(path)
    write_records(path, [*(read_records(path) if path.exists() else []), *records])
