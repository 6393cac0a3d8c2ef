"""`PairRow`: two sentences and a class, as lines of JSON or from the made-up task."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mas_hooks.core.errors import DataSetError, EmptyError, SettingError
from mas_hooks.core.files import read_json_lines, write_json_lines

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
    lines = read_json_lines(path, partial(DataSetError, remedy=remedy))
    rows = [_parse_row(values, where, remedy) for where, values in lines]
    if not rows:
        raise EmptyError(str(path), remedy)
    return rows


def write_pairs(path: Path | str, rows: Iterable[PairRow]) -> None:
    """Write rows as lines of JSON, whole or not at all. Raises OutputFolderError."""
    write_json_lines(path, map(asdict, rows))


def _parse_row(values: Mapping[str, Any], where: str, remedy: str) -> PairRow:
    if lacking := [name for name in NEEDED if name not in values]:
        raise DataSetError(where, f"lacks {', '.join(lacking)}", remedy)
    text_a, text_b, label = (values[name] for name in NEEDED)
    fits = isinstance(text_a, str) and isinstance(text_b, str) and type(label) is int and label >= 0
    if not fits:
        raise DataSetError(where, "needs two texts, and a label that counts from 0", remedy)
    return PairRow(text_a, text_b, label, str(values.get("kind", "")))


Kind: TypeAlias = Literal["follows", "other word", "swapped"]
Clause: TypeAlias = tuple[str, str, str]

PEOPLE = (
    "actors", "artists", "authors", "bakers", "dancers", "doctors", "drivers", "farmers", "judges", "lawyers",
    "nurses", "pilots",
)  # fmt: skip
VERBS = ("admired", "advised", "blamed", "called", "followed", "helped", "invited", "praised")
PASSIVE = ("were", "by")
WORDS = (*PEOPLE, *VERBS, *PASSIVE)
LABELS: dict[Kind, int] = {"follows": 1, "other word": 0, "swapped": 0}


def make_overlap_rows(count: int, breaking: float = 0.0, seed: int = 0) -> list[PairRow]:
    """So many examples, half of which follow; `breaking` is the share of all that are swapped: they break the shortcut.

    Raises SettingError for an odd number, or a share outside 0 to 0.5.
    """
    if not 0 <= breaking <= 0.5:
        raise SettingError("breaking", breaking, "0 to 0.5, as half of the examples follow")
    rng, half = random.Random(f"{seed} overlap"), _half(count)
    broken = round(breaking * count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * broken, *["other word"] * (half - broken)]  # pyright: ignore
    rng.shuffle(kinds)
    return [write_example(kind, rng) for kind in kinds]


def make_shifted_rows(count: int, seed: int = 0) -> list[PairRow]:
    """The test out of distribution: the second sentence has the words of the first; half follow, half are swapped."""
    rng, half = random.Random(f"{seed} shifted"), _half(count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * half]  # pyright: ignore
    rng.shuffle(kinds)
    return [write_example(kind, rng) for kind in kinds]


def write_example(kind: Kind, rng: random.Random) -> PairRow:
    """One example of a kind."""
    doer, done_to = rng.sample(PEOPLE, 2)
    clause = (doer, rng.choice(VERBS), done_to)
    said = {"follows": clause, "swapped": (done_to, clause[1], doer)}.get(kind) or _other_word(clause, rng)
    return PairRow(write_sentence(clause, rng), write_sentence(said, rng), LABELS[kind], kind)


def write_sentence(clause: Clause, rng: random.Random) -> str:
    """A clause in the active or in the passive voice, drawn evenly."""
    doer, verb, done_to = clause
    return f"{doer} {verb} {done_to}" if rng.random() < 0.5 else f"{done_to} {PASSIVE[0]} {verb} {PASSIVE[1]} {doer}"


def _other_word(clause: Clause, rng: random.Random) -> Clause:
    """The clause with one word that it did not have."""
    words, at = list(clause), rng.randrange(3)
    words[at] = rng.choice([word for word in (VERBS if at == 1 else PEOPLE) if word not in clause])
    return words[0], words[1], words[2]


def _half(count: int) -> int:
    if count < 2 or count % 2:
        raise SettingError("the number of examples", count, "even, 2 or more")
    return count // 2
