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


class BelowTheInput(Base):
    """A nonlinear layer between the embedding and the recurrence."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self.lift = nn.Linear(10, 10)

    def states(self, x):
        return self.rnn(self.lift(x).tanh())[0]


class TwoRecurrences(Base):
    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self.second = nn.GRU(10, 10, batch_first=True)

    def states(self, x):
        return self.second(self.rnn(x)[0])[0]


class OwnStart(Base):
    """The recurrence begins with a state that was learned."""

    def __init__(self, vocabulary):
        super().__init__(vocabulary)
        self.begin = nn.Parameter(torch.zeros(1, 1, 10))

    def states(self, x):
        return self.rnn(x, self.begin.expand(1, len(x), -1).contiguous())[0]


class StartOfTheFirstToken(Base):
    """The recurrence begins with a state that depends on what is read."""

    def states(self, x):
        return self.rnn(x, x[None, :, 0].contiguous())[0]


class PackedInside(Base):
    """Packs its sequences by itself."""

    def states(self, x):
        lengths = torch.full((len(x),), x.shape[1])
        found, _ = self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        return nn.utils.rnn.pad_packed_sequence(found, batch_first=True)[0]
