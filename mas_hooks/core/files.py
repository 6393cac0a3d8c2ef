"""Write files whole or not at all; read JSON, or say in one sentence what the file holds instead."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mas_hooks.core.errors import CheckpointError, MasHooksError, OutputFolderError

GO_ON = "make room there and go on with --resume: what was finished before is kept"


def ensure_writable(folder: Path | str) -> Path:
    """Make a folder, or check that it can be written to. Raise OutputFolderError before any long work starts."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a new name each time: several processes may ask at once
            pass
    except OSError as error:
        problem = (error.strerror or "not writable").lower()
        raise OutputFolderError(folder, problem, "choose another folder with --out") from error
    return folder


@contextmanager
def replace_file(path: Path | str, remedy: str = GO_ON) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename what is written there into place when the block ends.

    After an error the temporary file is gone and an older `path` stays as it was. Raises OutputFolderError, with the
    remedy, when the file cannot be written, such as on a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with OutputFolderError.while_writing(path.parent, remedy):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # it is gone already where all went well


def write_file(path: Path | str, content: str | bytes, remedy: str = GO_ON) -> Path:
    """Write text (UTF-8) or bytes, whole or not at all.

    Args:
        path: the file.
        content: what it holds from now on.
        remedy: what the error tells the reader to do.

    Returns:
        The path.

    Raises:
        OutputFolderError: the file cannot be written, such as on a full disk.
    """
    with replace_file(path, remedy) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)
    return Path(path)


def write_json(path: Path | str, content: Any, remedy: str = GO_ON) -> Path:
    """Write an object as indented JSON, whole or not at all.

    Args:
        path: the file.
        content: what `json.dumps` takes.
        remedy: what the error tells the reader to do.

    Returns:
        The path.

    Raises:
        OutputFolderError: the file cannot be written, such as on a full disk.
    """
    return write_file(path, json.dumps(content, indent=2) + "\n", remedy)


def write_json_lines(path: Path | str, rows: Iterable[Mapping[str, Any]], remedy: str = GO_ON) -> Path:
    """Write one JSON object per line, whole or not at all.

    Args:
        path: the file.
        rows: the objects, in order.
        remedy: what the error tells the reader to do.

    Returns:
        The path.

    Raises:
        OutputFolderError: the file cannot be written, such as on a full disk.
    """
    return write_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), remedy)


def read_json(path: Path, remedy: str = "give a settings.json of an earlier run") -> dict[str, Any]:
    """Read a JSON object from a file. Raise CheckpointError, with the remedy, when it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", remedy) from error
    if not isinstance(content, dict):
        raise CheckpointError(path, "holds no settings", remedy)
    return content


def read_json_lines(
    path: Path | str, refuse: Callable[[str, str], MasHooksError]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line of a JSON lines file that is not blank: where it stands (FILE:LINE), and the object it holds.

    refuse: makes the error to raise from (where, problem), for a file that cannot be read or a line that is no object.
    """
    try:
        lines = Path(path).read_text("utf-8").split("\n")  # a text may hold what splitlines() takes for an end
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(str(path), f"cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                content = json.loads(line)
            except json.JSONDecodeError as error:
                raise refuse(where, f"is no JSON ({error})") from error
            if not isinstance(content, dict):
                raise refuse(where, f"holds a {type(content).__name__} instead of an object")
            yield where, content
