"""Panels of bars as a paper would show them, with made-up numbers."""

from mas_hooks.report import Group, GroupBar, GroupPanel

PAIRS = ("GRU × GRU", "GRU × LSTM", "GRU × transformer", "transformer × transformer")


def bar(key, value, seeds=1, **given):
    values = tuple(value + 0.03 * (index - (seeds - 1) / 2) for index in range(seeds))
    low, high = value - 0.03, min(1.0, value + 0.03)
    return GroupBar(given.pop("label", key), values, given.pop("low", low), given.pop("high", high), key=key, **given)


def embeddings(top, seeds):
    return Group(
        "embeddings",
        (
            bar("MAS Last Value", top, seeds, floor=0.12, reference=0.985),
            bar("untrained", 0.08, seeds, control=True, floor=0.1),
            bar("shuffled labels", 0.13, seeds, control=True, floor=0.12),
            bar("RSA", top - 0.3, seeds, axis="right"),
            bar("CKA", 0.96, seeds, axis="right"),
        ),
    )


def hidden(top, seeds):
    return Group(
        "hidden state",
        (
            bar("MAS Full", top, seeds, floor=0.06, reference=0.99),
            bar("MAS Count", 0.3 * top, seeds, floor=0.09, reference=0.97),
            bar("untrained", 0.04, seeds, control=True, floor=0.02),
            bar("shuffled labels", 0.06, seeds, control=True, floor=0.06),
            bar("RSA", -0.12, seeds, axis="right"),
            bar("CKA", 0.61, seeds, axis="right"),
        ),
    )


def paper(count=4, seeds=1, each=6):
    tops = [0.98, 0.09, 0.62, 0.95] * 2
    return [
        GroupPanel(title, (Group("embeddings", embeddings(top, seeds).bars[:each]), hidden(top, seeds)))
        for title, top in zip((PAIRS * 2)[:count], tops, strict=False)
    ]


def pairs_of_two(count=8):
    names = ("GRU → LSTM", "Multi-Object → Same-Object", "1 → 2", "a-rather-long-name-of-a-network → another")
    return [
        GroupPanel(
            "", tuple(Group(names[i % 4], (bar("MAS", 1 - 0.1 * i), bar("linear map", 0.9))) for i in range(count))
        )
    ]


def labelled():
    bars = tuple(bar(f"k {k}", 0.9, label=f"a subspace of {k} dims out of all that there are") for k in (1, 2, 4))
    return [GroupPanel("UniMAS", (Group("GRU", bars), Group("LSTM", bars)))]


CASES = {
    "one seed": lambda: paper(4, 1),
    "three seeds": lambda: paper(4, 3),
    "seven": lambda: paper(7, 3, each=2),
    "pairs": pairs_of_two,
    "two bars": lambda: [GroupPanel("GRU × GRU", (Group("hidden state", (bar("MAS", 0.97), bar("DAS", 0.9))),))],
    "one bar": lambda: [GroupPanel("", (Group("", (bar("MAS", 0.0),)),))],
    "labels": labelled,
}
