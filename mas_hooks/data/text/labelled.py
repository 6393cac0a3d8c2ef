"""Labelled texts: a `TextRow` is one, kept as a line of JSON, and `read_labelled` makes them of published data sets.

`READERS` is the table of data sets: the columns of each, and what its rows say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mas_hooks.core.errors import DataSetError, MissingPackageError, UnknownNameError
from mas_hooks.core.files import read_json_lines, write_json_lines
from mas_hooks.core.progress import progress_bar

Label: TypeAlias = Literal["toxic", "nontoxic"]
LABELS: tuple[Label, ...] = get_args(Label)
Columns: TypeAlias = Mapping[str, Any]

FORMATS = {"parquet": (".parquet",), "csv": (".csv", ".csv.gz"), "json": (".jsonl", ".jsonl.gz", ".json", ".json.gz")}
"""The loaders of `datasets`, and what the names of their files end in."""

TURN = "\n\nAssistant:"
INSULTS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text of one class. prompt: what a model is given to answer; the text itself where it has no answer in it.

    Example:
        >>> from mas_hooks.data.text import TextRow
        >>> TextRow("How are you? Fine.", "How are you?", "nontoxic").label
        'nontoxic'
    """

    text: str
    prompt: str
    label: Label


def write_rows(path: Path | str, rows: Iterable[TextRow]) -> None:
    """Write rows as lines of JSON, whole or not at all. Raises OutputFolderError."""
    write_json_lines(path, map(asdict, rows))


def read_rows(path: Path | str) -> list[TextRow]:
    """The rows of a file that `write_rows` wrote. Raises DataSetError, naming the line, for anything else."""
    refuse = partial(DataSetError, remedy="delete it, and prepare the data again")
    rows = []
    for where, values in read_json_lines(path, refuse):
        try:
            rows.append(TextRow(**values))
        except TypeError as error:
            raise refuse(where, f"is no row of text, prompt and label ({error})") from error
    return rows


@dataclass(frozen=True)
class Reader:
    """How a published data set becomes labelled texts.

    Attributes:
        columns: what a row must have.
        rows: the texts of one row, none where it is not labelled; raises ValueError, saying what it got, for a foreign
            value.
        hub: its name on the Hugging Face hub, if `datasets` can read it from there.
        config: which of its versions; files of a local folder whose path names that version are then the only ones
            read.
        balanced: toxic texts are so rare in it that `split_texts` keeps as many of each class.
    """

    columns: tuple[str, ...]
    rows: Callable[[Columns], Iterator[TextRow]]
    hub: str | None = None
    config: str | None = None
    balanced: bool = False


def _read_answers(row: Columns) -> Iterator[TextRow]:
    """Both answers of a dialogue: the preferred one is nontoxic, the rejected one toxic."""
    for column, label in zip(("rejected", "chosen"), LABELS, strict=True):
        text = row[column] or ""
        end = text.rfind(TURN)
        yield TextRow(text, text[: end + len(TURN)] if end >= 0 else text, label)


def _read_comment(row: Columns) -> Iterator[TextRow]:
    """A comment is toxic by any of six labels. Those of the unscored test comments are all -1, and say nothing."""
    flags = [_flag(row[name], name, unknown=True) for name in INSULTS]
    if None not in flags:
        text = row["comment_text"] or ""
        yield TextRow(text, text, LABELS[0] if any(flags) else LABELS[1])


def _read_chat(row: Columns) -> Iterator[TextRow]:
    """A jailbreak counts as toxic, so that none is on the nontoxic side."""
    text = row["user_input"] or ""
    toxic = _flag(row["toxicity"], "toxicity") or _flag(row["jailbreaking"], "jailbreaking")
    yield TextRow(text, text, LABELS[0] if toxic else LABELS[1])


def _read_plain(row: Columns) -> Iterator[TextRow]:
    """A user's own text: the label by name or as 1 and 0, the prompt if there is one."""
    text, label = row["text"] or "", row["label"]
    if label not in LABELS:
        label = LABELS[0] if _flag(label, "label") else LABELS[1]
    yield TextRow(text, row.get("prompt") or text, label)


def _flag(value: Any, name: str, *, unknown: bool = False) -> bool | None:
    """A label of a row as yes, no or (-1, where allowed) unknown."""
    if value in (0, 1):
        return bool(value)
    if unknown and value == -1:
        return None
    allowed = "toxic, nontoxic, 1 or 0" if name == "label" else "1 or 0"
    raise ValueError(f"{name} is {value!r}, not {allowed}")


READERS: dict[str, Reader] = {
    "hh-rlhf": Reader(("chosen", "rejected"), _read_answers, hub="Anthropic/hh-rlhf"),
    "jigsaw": Reader(("comment_text", *INSULTS), _read_comment, balanced=True),
    "toxic-chat": Reader(
        ("user_input", "toxicity", "jailbreaking"),
        _read_chat,
        hub="lmsys/toxic-chat",
        config="toxicchat0124",
        balanced=True,
    ),
    "own": Reader(("text", "label"), _read_plain),
}


def read_labelled(name: str, source: Path | str | None = None, *, progress: bool = False) -> list[TextRow]:
    """All labelled texts of a data set, of all its parts (`split_texts` makes its own), in the order of the files.

    No code of a data set is ever run.

    Args:
        name: a row of READERS; `own` for a user's texts, with columns `text`, `label` and perhaps `prompt`.
        source: a local file or folder (parquet, CSV, JSON lines), a name on the Hugging Face hub, or None for the
            published one.
        progress: whether to show a progress bar.

    Returns:
        The texts.

    Raises:
        MissingPackageError: `datasets` is not installed.
        UnknownNameError: there is no such reader.
        DataSetError: there is nothing to read, columns are missing, a label is foreign, or the hub cannot be reached.

    Example:
        >>> from mas_hooks.data.text import READERS, read_labelled
        >>> sorted(READERS)
        ['hh-rlhf', 'jigsaw', 'own', 'toxic-chat']
        >>> rows = read_labelled("own", "my_texts.csv")  # doctest: +SKIP
    """
    if name not in READERS:
        raise UnknownNameError("data set", name, READERS, "mas_hooks.data.text")
    reader = READERS[name]
    _require_datasets(name)
    labelled: list[TextRow] = []
    for where, part in _load_parts(name, reader, source):
        missing = [column for column in reader.columns if column not in part.column_names]
        if missing:
            raise DataSetError.columns(where, name, part.column_names, reader.columns)
        with progress_bar(part.num_rows, f"reading {name}", shown=progress) as bar:
            for texts in _read_part(where, part, reader):
                labelled += texts
                bar.update()
    return labelled


def _require_datasets(name: str) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("datasets", "language", f"reading {name}") from error


def _read_part(where: str, part: Any, reader: Reader) -> Iterator[list[TextRow]]:
    """The labelled texts of each row of one part of a data set."""
    extra = [column for column in ("prompt",) if column in part.column_names and column not in reader.columns]
    for number, row in enumerate(part.select_columns([*reader.columns, *extra]), 1):
        try:
            yield list(reader.rows(row))
        except (ValueError, TypeError, AttributeError) as error:
            remedy = f"give the data set with the columns {', '.join(reader.columns)} as published"
            raise DataSetError(where, f"row {number} cannot be read ({error})", remedy) from error


def _load_parts(name: str, reader: Reader, source: Path | str | None) -> Iterator[tuple[str, Any]]:
    """Every part (file or published split) of a data set, with what to call it."""
    path = None if source is None else Path(source).expanduser()
    if path is not None and path.exists():
        for file, kind in _find_files(path, reader):
            yield str(file), _load_set(str(file), kind, data_files=str(file))["train"]
        return
    hub = reader.hub if source is None else str(source)
    if hub is None or hub.count("/") != 1 or hub.startswith((".", "/", "~")):
        problem = "is not on the hub in a form that can be read" if source is None else "is no file or folder here"
        raise DataSetError(source or name, problem, _remedy(reader))
    parts = _load_set(hub, hub, reader.config if hub == reader.hub else None, remedy=_remedy(reader))
    for split, part in parts.items():
        yield f"{hub} ({split})", part


def _load_set(where: str, *what: Any, remedy: str = "download it again, or give another file", **how: Any) -> Any:
    """What `datasets` reads, as a mapping of splits. Raises DataSetError in place of what it raises."""
    import datasets
    from datasets.exceptions import DatasetsError

    shown = datasets.is_progress_bar_enabled()
    try:
        datasets.disable_progress_bars()  # one for every file, and not ours
        return datasets.load_dataset(*what, **how)
    except StopIteration as error:  # what `datasets` raises of a file without a line
        raise DataSetError(where, "holds no rows", remedy) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:150]
        raise DataSetError(where, f"cannot be read ({type(error).__name__}: {said})", remedy) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _find_files(path: Path, reader: Reader) -> list[tuple[Path, str]]:
    """The data files of a folder, or the one file, each with its loader, always in the same order."""
    listed = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    kinds = [(file, kind) for file in listed if (kind := _find_loader(file)) is not None]
    if not kinds:
        raise DataSetError(path, "holds no parquet, CSV or JSON lines file", _remedy(reader))
    version = (reader.config or "").removeprefix("toxicchat")
    chosen = [(file, kind) for file, kind in kinds if version and version in file.relative_to(path).parts]
    return chosen or kinds


def _find_loader(file: Path) -> str | None:
    """The loader for a file, or None for something else, such as the card of a data set."""
    if file.name.startswith(".") or file.name in ("dataset_infos.json", "dataset_info.json", "state.json"):
        return None
    return next((kind for kind, ends in FORMATS.items() if file.name.lower().endswith(ends)), None)


def _remedy(reader: Reader) -> str:
    columns = ", ".join(reader.columns)
    return f"give a local folder or file (parquet, CSV or JSON lines) with the columns {columns}"
