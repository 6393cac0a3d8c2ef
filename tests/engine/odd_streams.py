"""Models with a list of blocks that treat it, or the positions, in ways a tail cannot know of, and some that it can."""

import torch
from torch import nn

WIDTH = 12


class Mixing(nn.Module):
    """A block of no known family: each position gets the mean of all up to it, then a layer of its own."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.own = nn.Linear(WIDTH, WIDTH)

    def mean(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]

    def forward(self, x):
        x = x + self.mix(self.mean(x))
        return x + self.own(x).tanh()


class Seeing(Mixing):
    """A position sees those behind it too."""

    def mean(self, x):
        return x.mean(1, keepdim=True)


class Pair(Mixing):
    """Gives its stream with something else, which the next block does not need."""

    def forward(self, x):
        return super().forward(x), self.mix(x)


class Named(Mixing):
    """Gives its stream under a name."""

    def forward(self, x):
        return {"stream": super().forward(x)}


class Plain(nn.Module):
    """Embedding, three blocks, a head; the leaves change one thing each."""

    block = Mixing

    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Embedding(40, WIDTH)
        self.blocks = nn.ModuleList(self.block() for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary)

    def below(self, ids):
        return self.embedding(ids) + self.place(torch.arange(ids.shape[1]))

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def above(self, x):
        return self.head(self.norm(x))

    def forward(self, ids):
        return self.above(self.through(self.below(ids)))


class Tuples(Plain):
    block = Pair

    def through(self, x):
        for block in self.blocks:
            x, _ = block(x)
        return x


class Names(Plain):
    block = Named

    def through(self, x):
        for block in self.blocks:
            x = block(x)["stream"]
        return x


class NotCausal(Plain):
    block = Seeing


class MeanAbove(Plain):
    """The head sees the mean of all positions so far."""

    def above(self, x):
        return super().above(x.cumsum(1))


class FlipAbove(Plain):
    """The head sees what comes after."""

    def above(self, x):
        return super().above(x + x.flip(1))


class SkipAbove(Plain):
    """The head sees the embedding beside the stream."""

    def forward(self, ids):
        x = self.below(ids)
        return self.above(self.through(x) + x)


class Twice(Plain):
    def through(self, x):
        return super().through(super().through(x))


class Backwards(Plain):
    def through(self, x):
        for block in reversed(self.blocks):
            x = block(x)
        return x


class Partner(Tuples):
    """A block uses what the one below gives beside the stream."""

    def through(self, x):
        beside = None
        for block in self.blocks:
            x, beside = block(x if beside is None else x + beside.tanh())
        return x


class EndOfRow(Plain):
    """Places are counted from the end."""

    def below(self, ids):
        return self.embedding(ids) + self.place(torch.arange(ids.shape[1]).flip(0))
