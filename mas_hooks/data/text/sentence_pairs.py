"""Pairs of sentences with a class: a `PairRow` is one, read from lines of JSON or made up.

The made-up task asks whether the second sentence follows from the first: it does where it says the same in the active
or the passive voice, and not where one word is another, or doer and done-to are swapped. Counting the words they share
is a shortcut that only the swapped ones break.
"""

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


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two sentences and the class of the pair, counted from 0. kind: which sort of example it is, if known.

    Example:
        >>> from mas_hooks.data.text import PairRow
        >>> PairRow("doctors helped bakers", "bakers were helped by doctors", 1).label
        1
    """

    text_a: str
    text_b: str
    label: int
    kind: str = ""


def read_pairs(path: Path | str) -> list[PairRow]:
    """The rows of a JSON lines file with `text_a`, `text_b`, `label` and perhaps `kind`.

    Raises DataSetError, naming the line, for anything else; EmptyError for a file without rows.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mas_hooks.data.text import make_overlap_rows, read_pairs, write_pairs
        >>> rows = make_overlap_rows(10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pairs(Path(folder) / "pairs.jsonl", rows)
        ...     read_pairs(Path(folder) / "pairs.jsonl") == rows
        True
    """
    remedy = 'give lines such as {"text_a": "…", "text_b": "…", "label": 0}'
    lines = read_json_lines(path, partial(DataSetError, remedy=remedy))
    rows = [_parse_row(values, where, remedy) for where, values in lines]
    if not rows:
        raise EmptyError(str(path), remedy)
    return rows


def write_pairs(path: Path | str, rows: Iterable[PairRow]) -> None:
    """Write rows as lines of JSON, whole or not at all. Raises OutputFolderError.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mas_hooks.data.text import make_overlap_rows, read_pairs, write_pairs
        >>> rows = make_overlap_rows(10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pairs(Path(folder) / "pairs.jsonl", rows)
        ...     read_pairs(Path(folder) / "pairs.jsonl") == rows
        True
    """
    write_json_lines(path, map(asdict, rows))


def _parse_row(values: Mapping[str, Any], where: str, remedy: str) -> PairRow:
    if lacking := [name for name in NEEDED if name not in values]:
        raise DataSetError(where, f"lacks {', '.join(lacking)}", remedy)
    text_a, text_b, label = (values[name] for name in NEEDED)
    fits = isinstance(text_a, str) and isinstance(text_b, str) and type(label) is int and label >= 0
    if not fits:
        raise DataSetError(where, "needs two texts, and a label that counts from 0", remedy)
    return PairRow(text_a, text_b, label, str(values.get("kind", "")))


def make_overlap_rows(count: int, breaking: float = 0.0, seed: int = 0) -> list[PairRow]:
    """So many examples, half of which follow.

    Args:
        count: how many, an even number.
        breaking: share of all that are swapped: they break the shortcut. The other ones that do not follow have
            another word.
        seed: of the draws.

    Returns:
        The examples, in an order drawn with the seed.

    Raises:
        SettingError: the number is odd, or the share outside 0 to 0.5.

    Example:
        >>> from collections import Counter
        >>> from mas_hooks.data.text import make_overlap_rows
        >>> sorted(Counter(row.kind for row in make_overlap_rows(20, breaking=0.1)).items())
        [('follows', 10), ('other word', 8), ('swapped', 2)]
    """
    if not 0 <= breaking <= 0.5:
        raise SettingError("breaking", breaking, "0 to 0.5, as half of the examples follow")
    rng, half = random.Random(f"{seed} overlap"), _halve(count)
    broken = round(breaking * count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * broken, *["other word"] * (half - broken)]  # pyright: ignore
    rng.shuffle(kinds)
    return [write_example(kind, rng) for kind in kinds]


def make_shifted_rows(count: int, seed: int = 0) -> list[PairRow]:
    """The test out of distribution: the second sentence has the words of the first; half follow, half are swapped.

    Raises SettingError for an odd number.

    Example:
        >>> from mas_hooks.data.text import make_shifted_rows
        >>> sorted(row.kind for row in make_shifted_rows(4))
        ['follows', 'follows', 'swapped', 'swapped']
    """
    rng, half = random.Random(f"{seed} shifted"), _halve(count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * half]  # pyright: ignore
    rng.shuffle(kinds)
    return [write_example(kind, rng) for kind in kinds]


def write_example(kind: Kind, rng: random.Random) -> PairRow:
    """One example of a kind.

    Example:
        >>> import random
        >>> from mas_hooks.data.text import write_example
        >>> write_example("follows", random.Random(0)).label
        1
    """
    doer, done_to = rng.sample(PEOPLE, 2)
    clause = (doer, rng.choice(VERBS), done_to)
    second = {"follows": clause, "swapped": (done_to, clause[1], doer)}.get(kind) or _other_word(clause, rng)
    return PairRow(write_sentence(clause, rng), write_sentence(second, rng), LABELS[kind], kind)


def write_sentence(clause: Clause, rng: random.Random) -> str:
    """A clause in the active or in the passive voice, drawn evenly."""
    doer, verb, done_to = clause
    return f"{doer} {verb} {done_to}" if rng.random() < 0.5 else f"{done_to} {PASSIVE[0]} {verb} {PASSIVE[1]} {doer}"


def _other_word(clause: Clause, rng: random.Random) -> Clause:
    """The clause with one word that it did not have."""
    words, at = list(clause), rng.randrange(3)
    words[at] = rng.choice([word for word in (VERBS if at == 1 else PEOPLE) if word not in clause])
    return words[0], words[1], words[2]


def _halve(count: int) -> int:
    if count < 2 or count % 2:
        raise SettingError("the number of examples", count, "an even number, 2 or more")
    return count // 2
