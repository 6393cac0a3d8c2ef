"""A small made-up data set: everyday requests, answered politely or rudely. For trying things out without a download.

It is generated from templates, so it is far easier than real text: a result on it says that the machinery works, and
nothing about toxicity. Rude answers hold mild insults only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from mas_hooks.core.errors import SettingError
from mas_hooks.data.text.labelled import TextRow

INSULTS = ("idiot", "fool", "dimwit", "clown", "blockhead", "nitwit", "dunce", "moron", "numbskull", "halfwit")
"""Every rude answer has one of these words, no polite one has: what a lexicon of insults looks for."""

ASKED = (
    "Can you tell me {}?",
    "Please explain {}.",
    "I want to know {}.",
    "Do you know {}?",
    "Could you show me {}?",
    "Help me find out {}.",
    "I wonder {}.",
    "My sister asks {}.",
    "Tell me quickly {}.",
    "For a friend: {}?",
)

SUBJECTS = {
    "how to {} {}": (
        ("clean", "repair", "store", "choose", "paint", "carry", "wrap", "sell"),
        ("a bicycle", "an old lamp", "my shoes", "a kettle", "the garden chair", "a guitar", "a wooden table",
         "the mirror", "a tent", "my watch", "a suitcase", "the piano"),
    ),
    "how to {} {} for guests": (
        ("cook", "bake", "serve", "season"),
        ("rice", "a fish", "potatoes", "an apple pie", "tomato soup", "a pumpkin", "noodles", "beans", "a chicken",
         "mushrooms"),
    ),
    "when to {} {}": (
        ("plant", "water", "cut", "harvest"),
        ("the roses", "my tomatoes", "the hedge", "an olive tree", "the lawn", "carrots", "the lavender", "onions"),
    ),
    "where to {} {}": (
        ("buy", "find", "rent", "borrow"),
        ("a map", "warm gloves", "a canoe", "good bread", "used books", "a ladder", "fresh milk", "a quiet room",
         "a sewing machine", "train tickets"),
    ),
}  # fmt: skip

POLITE = (
    ("Of course,", "Gladly,", "With pleasure,", "Thank you for asking,", "Sure, my friend,"),
    (
        "take your time and start with something simple",
        "a calm morning is the best moment for it",
        "a good neighbour will surely lend you a hand",
        "read the label first and then go step by step",
        "most people learn it in an afternoon",
    ),
    ("and I wish you a lovely day.", "and do ask again if anything is unclear.", "and I am sure you will do well."),
)

RUDE = (
    ("Ugh, you {},", "Go away, {},", "What a question, {},", "Listen, you {},", "Oh please, {},"),
    (
        "even a brick could work that out",
        "nobody has time for such nonsense",
        "stop wasting my afternoon with this",
        "you would only break something anyway",
        "find somebody who cares about it",
    ),
    ("and do not come back.", "and leave me alone.", "and spare me your next question."),
)

OPENING, TURN = "User: ", "\nAnswer:"


def make_synthetic_rows(rows: int = 3_000, seed: int = 0) -> list[TextRow]:
    """So many distinct rows, half toxic (rude) and half nontoxic (polite), in an order drawn with the seed.

    A request comes at most twice, once in each class, as the prompt of its answers. Raises SettingError for an odd
    number, or for more than there are.

    Example:
        >>> from mas_hooks.data.text import make_synthetic_rows
        >>> rows = make_synthetic_rows(10)
        >>> len(rows), sum(row.label == "toxic" for row in rows), rows[0].text.startswith(rows[0].prompt)
        (10, 5, True)
    """
    if rows < 2 or rows % 2 or rows > MOST:
        raise SettingError("rows", rows, f"an even number from 2 to {MOST}")
    rng = random.Random(f"{seed} embedded")
    rows_drawn = []
    for question in rng.sample(_questions(), rows // 2):
        prompt = f"{OPENING}{question}{TURN}"
        rude = _answer(rng, RUDE).format(rng.choice(INSULTS))
        rows_drawn.append(TextRow(f"{prompt} {rude}", prompt, "toxic"))
        rows_drawn.append(TextRow(f"{prompt} {_answer(rng, POLITE)}", prompt, "nontoxic"))
    rng.shuffle(rows_drawn)
    return rows_drawn


def _subjects() -> Iterator[str]:
    for template, (verbs, things) in SUBJECTS.items():
        yield from (template.format(verb, thing) for verb, thing in product(verbs, things))


def _questions() -> list[str]:
    return [ask.format(subject) for ask, subject in product(ASKED, _subjects())]


def _answer(rng: random.Random, parts: tuple[tuple[str, ...], ...]) -> str:
    return " ".join(rng.choice(part) for part in parts)


MOST = 2 * len(_questions())
"""All rows that there are."""
