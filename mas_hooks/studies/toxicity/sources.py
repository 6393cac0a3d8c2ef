"""The data sets of the recipe `toxicity`: named on the command line, checked, and read as labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mas_hooks.core import fingerprints
from mas_hooks.core.errors import DataSetError
from mas_hooks.core.progress import say
from mas_hooks.data.text import MOST, TextRow, labelled, make_synthetic_rows
from mas_hooks.hooks import require_package
from mas_hooks.models.language import texts_apart
from mas_hooks.studies.toxicity.settings import EMBEDDED, ToxicitySettings, parse_sources


def check_sources(settings: ToxicitySettings) -> None:
    """Raise what would fail in the middle of reading: a package, or a place for a set that is not on the hub."""
    for name, source in parse_sources(settings.data).items():
        if name == EMBEDDED:
            continue
        require_package("datasets", "language", f"reading {name}")
        if source is None and labelled.READERS[name].hub is None:
            others = [entry for entry in settings.data if entry.partition("=")[0] != name] or [EMBEDDED]
            remedy = f"say where it is, --data {name}=FOLDER …, or leave it out, --data {' '.join(others)}"
            raise DataSetError(name, "cannot be read from the hub", remedy)
        if (
            source is not None
            and not _is_local(source)
            and (source.count("/") != 1 or source.startswith((".", "/", "~")))
        ):
            raise DataSetError(source, "is no file or folder here", f"give the one that holds {name}")


def source_key(settings: ToxicitySettings) -> list[object]:
    """What the texts depend on: the names and the files of their sets, and which embedded rows are left out."""
    parts: list[object] = []
    for name, source in sorted(parse_sources(settings.data).items()):
        local = source is not None and _is_local(source)
        parts.append([name, fingerprints.files_fingerprint(Path(str(source)).expanduser()) if local else source])
    if EMBEDDED in parse_sources(settings.data):
        parts.append([settings.seed, settings.pretrain.rows if settings.base == EMBEDDED else 0])
    return parts


def read_sources(settings: ToxicitySettings, *, progress: bool = True) -> Mapping[str, Sequence[TextRow]]:
    """The labelled texts of every set. Embedded ones that an embedded base is trained on are not among them."""
    texts: dict[str, Sequence[TextRow]] = {}
    for name, source in parse_sources(settings.data).items():
        if name != EMBEDDED:
            texts[name] = labelled.read_labelled(name, source, progress=progress)
        elif settings.base == EMBEDDED:
            texts[name] = texts_apart(settings.pretrain, settings.seed)[1]
        else:
            texts[name] = make_synthetic_rows(MOST, settings.seed)
        say(f"data: {len(texts[name])} texts of {name}{'' if source is None else f' from {source}'}")
    return texts


def _is_local(source: str) -> bool:
    return Path(source).expanduser().exists()
