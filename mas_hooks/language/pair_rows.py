"""`PairRow`: two sentences and a class, as lines of JSON or from the made-up task."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mas_hooks.errors import DataSetError, EmptyError

NEEDED = ("text_a", "text_b", "label")


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two sentences and the class of the pair, counted from 0. kind: which sort of example it is, where told."""

    text_a: str
    text_b: str
    label: int
    kind: str = ""


def read_pairs(path: Path | str) -> list[PairRow]:
    """The rows of a JSON lines file with `text_a`, `text_b`, `label` and perhaps `kind`.

    Raises DataSetError, naming the line, for anything else; EmptyError for a file without rows.
    """
    remedy = 'give lines such as {"text_a": "…", "text_b": "…", "label": 0}'
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(path, f"cannot be read ({error})", remedy) from error
    rows = [_parsed(line, f"{path}:{number}", remedy) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise EmptyError(str(path), remedy)
    return rows


def write_pairs(path: Path | str, rows: Iterable[PairRow]) -> None:
    """Write rows as lines of JSON under a temporary name, then rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), "utf-8")
    temporary.replace(path)


def _parsed(line: str, where: str, remedy: str) -> PairRow:
    try:
        told = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataSetError(where, f"is no JSON ({error})", remedy) from error
    lacking = [name for name in NEEDED if not isinstance(told, dict) or name not in told]
    if lacking:
        raise DataSetError(where, f"lacks {', '.join(lacking)}", remedy)
    text_a, text_b, label = (told[name] for name in NEEDED)
    fits = isinstance(text_a, str) and isinstance(text_b, str) and type(label) is int and label >= 0
    if not fits:
        raise DataSetError(where, "needs two texts, and a label that counts from 0", remedy)
    return PairRow(text_a, text_b, label, str(told.get("kind", "")))
