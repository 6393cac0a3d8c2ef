"""From labelled texts to disjoint training splits of both classes and a test that none of them has seen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from mas_hooks.core.errors import DataSetError, OutputFolderError, SettingError, TooFewRowsError
from mas_hooks.core.files import GO_ON, ensure_writable, read_json, write_json
from mas_hooks.core.settings import Settings
from mas_hooks.data.text.labelled import LABELS, READERS, Label, TextRow, read_rows, write_rows

INDEX, TEST = "data.json", "test.jsonl"


class SplitSettings(Settings):
    """How labelled texts are cut. Equal settings and equal texts, in any order, give the same files.

    Example:
        >>> from mas_hooks.data.text import SplitSettings
        >>> SplitSettings(splits=2, test=10).rows is None
        True
    """

    splits: int = Field(default=3, ge=1)
    """Disjoint training splits of each class, one a fine-tune."""
    test: int = Field(default=500, ge=1)
    """Held-out texts of each class; no training text has the same text or the same prompt as one of them."""
    rows: int | None = Field(default=None, ge=1)
    """Texts in a split; None for as many as the smaller class has for each."""
    balanced: tuple[str, ...] = tuple(name for name, reader in READERS.items() if reader.balanced)
    """Data sets that are cut to as many toxic as nontoxic texts before they are joined."""
    seed: int = 0
    """Of every draw."""


@dataclass(frozen=True)
class PreparedTexts:
    """Training splits and a test that shares no text and no prompt with them.

    Attributes:
        splits: the texts by (label, number from 0), all of one length.
        test: the held-out texts.
        dropped: how many rows were empty, given twice, or given under both labels, and how many balancing left out.

    Example:
        >>> from mas_hooks.data.text import SplitSettings, make_synthetic_rows, split_texts
        >>> prepared = split_texts({"made": make_synthetic_rows(400)}, SplitSettings(splits=2, test=20))
        >>> sorted(prepared.splits), len(prepared.test)
        ([('nontoxic', 0), ('nontoxic', 1), ('toxic', 0), ('toxic', 1)], 40)
    """

    splits: Mapping[tuple[Label, int], tuple[TextRow, ...]]
    test: tuple[TextRow, ...]
    dropped: Mapping[str, int]


def split_texts(sets: Mapping[str, Iterable[TextRow]], settings: SplitSettings | None = None) -> PreparedTexts:
    """Filter, balance, join, permute and cut data sets given by name.

    No text is in two places, and no prompt both in a split and in the test. Raises SettingError without a data set, and
    TooFewRowsError for a class too small.

    Example:
        >>> from mas_hooks.data.text import SplitSettings, make_synthetic_rows, split_texts
        >>> prepared = split_texts({"made": make_synthetic_rows(400)}, SplitSettings(splits=2, test=20, rows=50))
        >>> {len(rows) for rows in prepared.splits.values()}
        {50}
    """
    settings = settings or SplitSettings()
    if not sets:
        raise SettingError("the data sets", [], f"one or more of {', '.join(READERS)}")
    dropped: Counter[str] = Counter()
    usable = _drop_unusable([(name, row) for name in sorted(sets) for row in sets[name]], dropped)
    joined = [row for name in sorted(sets) for row in _balance(name, usable.get(name, []), settings, dropped)]
    test, left = _hold_out(joined, settings, dropped)
    return PreparedTexts(_cut_splits(left, settings, dropped), test, dict(dropped))


def _drop_unusable(named: Sequence[tuple[str, TextRow]], dropped: Counter[str]) -> dict[str, list[TextRow]]:
    """The rows of each set, in an order that depends on the texts alone; without empty, repeated and ambiguous ones."""
    labels: dict[str, set[Label]] = {}
    for _, row in named:
        labels.setdefault(row.text.strip(), set()).add(row.label)
    kept: dict[str, list[TextRow]] = {}
    seen: set[str] = set()
    for name, row in sorted(named, key=lambda pair: (pair[0], pair[1].text, pair[1].prompt)):
        key = row.text.strip()
        lost = "empty" if not key else "under both labels" if len(labels[key]) > 1 else "repeated" * (key in seen)
        if lost:
            dropped[lost] += 1
            continue
        seen.add(key)
        kept.setdefault(name, []).append(row)
    return kept


def _balance(name: str, rows: Sequence[TextRow], settings: SplitSettings, dropped: Counter[str]) -> Sequence[TextRow]:
    """As many toxic as nontoxic rows, where this set asks for it."""
    if name not in settings.balanced:
        return rows
    classes = [_permute([row for row in rows if row.label == label], settings, name, label) for label in LABELS]
    most = min(len(drawn) for drawn in classes)
    dropped["left out by balancing"] += len(rows) - 2 * most
    return [row for drawn in classes for row in drawn[:most]]


def _hold_out(
    rows: Sequence[TextRow], settings: SplitSettings, dropped: Counter[str]
) -> tuple[tuple[TextRow, ...], list[TextRow]]:
    """The test, the same number of each class; and the rows that share no prompt with it.

    Where both classes answer the same prompts, the second takes the prompts of the first: fewer are lost to training.
    """
    test: list[TextRow] = []
    prompts: set[str] = set()
    for label in LABELS:
        drawn = _permute([row for row in rows if row.label == label], settings, "test", label)
        _check_count(label, len(drawn), settings, dropped)
        test += sorted(drawn, key=lambda row: row.prompt not in prompts)[: settings.test]
        prompts = {row.prompt for row in test}
    texts = {row.text for row in test}
    left = [row for row in rows if row.prompt not in prompts]
    dropped["with the prompt of a test text"] += sum(row.text not in texts for row in rows) - len(left)
    return tuple(test), left


def _cut_splits(
    rows: Sequence[TextRow], settings: SplitSettings, dropped: Counter[str]
) -> dict[tuple[Label, int], tuple[TextRow, ...]]:
    """Disjoint splits of the training rows, all of one length."""
    classes: dict[Label, list[TextRow]] = {label: [row for row in rows if row.label == label] for label in LABELS}
    for label, texts in classes.items():
        _check_count(label, len(texts), settings, dropped, test=0)
    length = settings.rows or min(len(texts) for texts in classes.values()) // settings.splits
    cut = {}
    for label, texts in classes.items():
        drawn = _permute(texts, settings, "splits", label)
        for number in range(settings.splits):
            cut[label, number] = tuple(drawn[number * length : (number + 1) * length])
    return cut


def _check_count(
    label: Label, rows: int, settings: SplitSettings, dropped: Counter[str], test: int | None = None
) -> None:
    """Raise TooFewRowsError unless the rows of a class are enough for what is still to be cut from them."""
    test = settings.test if test is None else test
    needed = settings.splits * (settings.rows or 1) + test
    if rows >= needed:
        return
    lost = ", ".join(f"{count} {what}" for what, count in sorted(dropped.items()) if count) or "none was dropped"
    also = f" and {test} test texts" if test else f" beside {settings.test} test texts"
    ask = f"{settings.splits} splits of {settings.rows or 1} or more texts{also} need {needed}"
    raise TooFewRowsError(label, rows, lost, ask, "give more texts, or ask for fewer splits, rows or test texts")


def _permute(rows: Sequence[TextRow], settings: SplitSettings, *what: str) -> list[TextRow]:
    drawn = list(rows)
    random.Random(f"{settings.seed} {' '.join(what)}").shuffle(drawn)  # a string: the same on every machine
    return drawn


def save_splits(folder: Path | str, prepared: PreparedTexts, settings: SplitSettings) -> None:
    """Write every split and the test as lines of JSON, and last the index that says they are whole.

    Args:
        folder: where, made if it is not there.
        prepared: what `split_texts` gave.
        settings: the settings it gave it for.

    Raises:
        OutputFolderError: the folder cannot be written, such as on a full disk.

    Example:
        >>> import tempfile
        >>> from mas_hooks.data.text import SplitSettings, load_splits, make_synthetic_rows, save_splits, split_texts
        >>> settings = SplitSettings(splits=1, test=5, rows=10)
        >>> prepared = split_texts({"made": make_synthetic_rows(100)}, settings)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_splits(folder, prepared, settings)
        ...     load_splits(folder) == (prepared, settings)
        True
    """
    folder = ensure_writable(folder)
    counts = {_name_file(*key): len(rows) for key, rows in prepared.splits.items()} | {TEST: len(prepared.test)}
    index = {"settings": settings.model_dump(mode="json"), "rows": counts, "dropped": dict(prepared.dropped)}
    with OutputFolderError.while_writing(folder, GO_ON):
        (folder / INDEX).unlink(missing_ok=True)
        for (label, number), rows in prepared.splits.items():
            write_rows(folder / _name_file(label, number), rows)
        write_rows(folder / TEST, prepared.test)
        write_json(folder / INDEX, index)


def load_splits(folder: Path | str) -> tuple[PreparedTexts, SplitSettings]:
    """What `save_splits` wrote. Raises CheckpointError or DataSetError where it is not whole.

    Example:
        >>> import tempfile
        >>> from mas_hooks.data.text import SplitSettings, load_splits, make_synthetic_rows, save_splits, split_texts
        >>> settings = SplitSettings(splits=1, test=5, rows=10)
        >>> prepared = split_texts({"made": make_synthetic_rows(100)}, settings)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_splits(folder, prepared, settings)
        ...     load_splits(folder) == (prepared, settings)
        True
    """
    folder, remedy = Path(folder), "delete the folder, and prepare the data again"
    index = read_json(folder / INDEX, remedy)
    if not {"settings", "rows", "dropped"} <= set(index):
        raise DataSetError(folder / INDEX, "is no index of prepared data", remedy)
    settings = SplitSettings(**index["settings"])
    files = {name: tuple(read_rows(folder / name)) for name in index["rows"]}
    short = [name for name, rows in files.items() if len(rows) != index["rows"][name]]
    if short:
        problem = f"holds {len(files[short[0]])} rows instead of {index['rows'][short[0]]}"
        raise DataSetError(folder / short[0], problem, remedy)
    keys: list[tuple[Label, int]] = [(label, number) for label in LABELS for number in range(settings.splits)]
    splits = {key: files[_name_file(*key)] for key in keys}
    return PreparedTexts(splits, files[TEST], index["dropped"]), settings


def _name_file(label: Label, number: int) -> str:
    """The file of a split; splits are counted from 1 where people read them."""
    return f"{label}-{number + 1}.jsonl"
