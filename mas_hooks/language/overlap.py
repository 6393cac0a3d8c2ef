"""A made-up task of two sentences with a shortcut: does the second say what the first says, or only use its words?

After the lexical-overlap part of HANS (McCoy 2019). Both sentences are one clause, active or passive. In training, a
second sentence that does not follow mostly has a word of its own, so that counting words is enough; an example that
breaks this shortcut has the same words in other roles.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

from mas_hooks.errors import SettingError
from mas_hooks.language.pair_rows import PairRow

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


def overlap_rows(count: int, breaking: float = 0.0, seed: int = 0) -> list[PairRow]:
    """So many examples, half of which follow; `breaking` is the share of all that are swapped: they break the shortcut.

    Raises SettingError for an odd number, or a share outside 0 to 0.5.
    """
    if not 0 <= breaking <= 0.5:
        raise SettingError("breaking", breaking, "0 to 0.5, as half of the examples follow")
    rng, half = random.Random(f"{seed} overlap"), _half(count)
    broken = round(breaking * count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * broken, *["other word"] * (half - broken)]  # pyright: ignore
    rng.shuffle(kinds)
    return [example(kind, rng) for kind in kinds]


def shifted_rows(count: int, seed: int = 0) -> list[PairRow]:
    """The test out of distribution: the second sentence has the words of the first; half follow, half are swapped."""
    rng, half = random.Random(f"{seed} shifted"), _half(count)
    kinds: list[Kind] = [*["follows"] * half, *["swapped"] * half]  # pyright: ignore
    rng.shuffle(kinds)
    return [example(kind, rng) for kind in kinds]


def example(kind: Kind, rng: random.Random) -> PairRow:
    """One example of a kind."""
    doer, done_to = rng.sample(PEOPLE, 2)
    clause = (doer, rng.choice(VERBS), done_to)
    said = {"follows": clause, "swapped": (done_to, clause[1], doer)}.get(kind) or _other_word(clause, rng)
    return PairRow(sentence(clause, rng), sentence(said, rng), LABELS[kind], kind)


def sentence(clause: Clause, rng: random.Random) -> str:
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
