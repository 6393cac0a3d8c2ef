"""`TextRow`: one labelled text, kept as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mas_hooks.errors import DataSetError

Label: TypeAlias = Literal["toxic", "nontoxic"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text of one class. prompt: what a model is given to answer; the text itself where it has no answer in it."""

    text: str
    prompt: str
    label: Label


def write_rows(path: Path | str, rows: Iterable[TextRow]) -> None:
    """Write rows as lines of JSON under a temporary name, then rename: a reader never sees half of them."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), "utf-8")
    temporary.replace(path)


def read_rows(path: Path | str) -> list[TextRow]:
    """The rows of a file that `write_rows` wrote. Raises DataSetError, naming the line, for anything else."""
    remedy = "delete it, and prepare the data again"
    try:
        lines = Path(path).read_text("utf-8").split("\n")  # a text may hold what splitlines() takes for an end
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(path, f"cannot be read ({error})", remedy) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                row = TextRow(**json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise DataSetError(
                    f"{path}:{number}", f"is no row of text, prompt and label ({error})", remedy
                ) from error
            rows.append(row)
    return rows
