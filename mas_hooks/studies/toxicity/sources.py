"""The data sets of the recipe `toxicity`: named on the command line, checked, and read as labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mas_hooks.core import fingerprints
from mas_hooks.core.errors import DataSetError, SettingError, UnknownNameError
from mas_hooks.core.progress import say
from mas_hooks.data.text import labelled
from mas_hooks.data.text.labelled import TextRow
from mas_hooks.data.text.synthetic_toxicity import MOST, make_synthetic_rows
from mas_hooks.hooks import loading
from mas_hooks.models.language import texts_apart

EMBEDDED = "embedded"


def parse_sources(data: Sequence[str]) -> dict[str, str | None]:
    """Where each data set is read from, by name; None for the published one. Raises for what is no data set."""
    found: dict[str, str | None] = {}
    for one in data:
        name, given, source = one.partition("=")
        if name not in (EMBEDDED, *labelled.READERS):
            raise UnknownNameError("data set", name, [EMBEDDED, *labelled.READERS], "the recipe toxicity")
        if name in found or (given and not source) or (given and name == EMBEDDED):
            raise SettingError("data", tuple(data), "different names, each alone or with a place (hh-rlhf=FOLDER)")
        found[name] = source or None
    if not found:
        raise SettingError("data", (), f"one or more of {EMBEDDED}, {', '.join(labelled.READERS)}")
    return found


def check_sources(settings: Any) -> None:
    """Raise what would fail in the middle of reading: a package, or a place for a set that is not on the hub."""
    for name, source in parse_sources(settings.data).items():
        if name == EMBEDDED:
            continue
        loading.require_package("datasets", "language", f"reading {name}")
        if source is None and labelled.READERS[name].hub is None:
            others = [one for one in settings.data if one.partition("=")[0] != name] or [EMBEDDED]
            remedy = f"say where it is, --data {name}=FOLDER …, or leave it out, --data {' '.join(others)}"
            raise DataSetError(name, "cannot be read from the hub", remedy)
        if source is not None and not _there(source) and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
            raise DataSetError(source, "is no file or folder here", f"give the one that holds {name}")


def source_key(settings: Any) -> list[object]:
    """What the texts depend on: the names and the files of their sets, and which embedded rows are left out."""
    found: list[object] = []
    for name, source in sorted(parse_sources(settings.data).items()):
        there = source is not None and _there(source)
        found.append([name, fingerprints.files_fingerprint(Path(str(source)).expanduser()) if there else source])
    if EMBEDDED in parse_sources(settings.data):
        found.append([settings.seed, settings.pretrain.rows if settings.base == EMBEDDED else 0])
    return found


def read_sources(settings: Any, *, progress: bool = True) -> Mapping[str, Sequence[TextRow]]:
    """The labelled texts of every set. Embedded ones that an embedded base is trained on are not among them."""
    found: dict[str, Sequence[TextRow]] = {}
    for name, source in parse_sources(settings.data).items():
        if name != EMBEDDED:
            found[name] = labelled.read_labelled(name, source, progress=progress)
        elif settings.base == EMBEDDED:
            found[name] = texts_apart(settings.pretrain, settings.seed)[1]
        else:
            found[name] = make_synthetic_rows(MOST, settings.seed)
        say(f"data: {len(found[name])} texts of {name}{'' if source is None else f' from {source}'}")
    return found


def _there(source: str) -> bool:
    return Path(source).expanduser().exists()
