"""Models that treat positions in ways a tail cannot know of, and some that it can."""

import torch
from torch import nn


class Base(nn.Module):
    """Embedding, GRU, linear head; the leaves change one thing each."""

    def __init__(self, vocabulary, width=10, layers=1, batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.rnn = nn.GRU(width, width, num_layers=layers, batch_first=batch_first)
        self.head = nn.Linear(width, vocabulary)
        self.place = nn.Embedding(40, width)

    def states(self, x):
        return self.rnn(x)[0]

    def forward(self, ids):
        return self.head(self.states(self.embedding(ids)))


class Plain(Base):
    pass


class TimeFirst(Base):
    def __init__(self, vocabulary):
        super().__init__(vocabulary, batch_first=False)

    def states(self, x):
        return self.rnn(x.transpose(0, 1))[0].transpose(0, 1)


class PlaceBelow(Base):
    def states(self, x):
        return self.rnn(x + self.place(torch.arange(x.shape[1])))[0]


class PlaceAbove(Base):
    def states(self, x):
        found = self.rnn(x)[0]
        return found + self.place(torch.arange(found.shape[1]))


class MeanAbove(Base):
    """The head sees the mean of all states so far."""

    def states(self, x):
        found = self.rnn(x)[0]
        return found.cumsum(1) / torch.arange(1, found.shape[1] + 1)[:, None]


class SkipAbove(Base):
    """The head sees the embedding of the position beside its state."""

    def states(self, x):
        return self.rnn(x)[0] + x


class ReverseBeside(Base):
    """A second recurrence reads backwards, so a position knows what comes after it."""

    def states(self, x):
        return self.rnn(x)[0] + x.flip(1).cumsum(1).flip(1)


class Stacked(Base):
    def __init__(self, vocabulary):
        super().__init__(vocabulary, layers=2)


class CellLoop(Base):
    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self.rnn = nn.GRUCell(10, 10)

    def states(self, x):
        state, found = x.new_zeros(len(x), 10), []
        for column in range(x.shape[1]):
            state = self.rnn(x[:, column], state)
            found.append(state)
        return torch.stack(found, 1)
