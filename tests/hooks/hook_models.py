"""Tiny models to hook, and a slow reference of recurrent maths: a Python loop over time, layers and rows."""

import torch
from torch import nn

VOCABULARY, HIDDEN, BATCH, LENGTH = 7, 5, 3, 6


def ids(batch=BATCH, length=LENGTH, seed=0):
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Positionwise(nn.Module):
    """Embedding, two residual blocks, a head: every position for itself."""

    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, ids):
        h = self.embedding(ids)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


class Recurrent(nn.Module):
    """Embedding, a recurrent part made by the leaves, a head. Gives (logits, last states as one tensor)."""

    def __init__(self, rnn):
        super().__init__()
        torch.manual_seed(2)
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.rnn = rnn
        self.head = nn.Linear(HIDDEN, VOCABULARY)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.7)

    def forward(self, ids):
        out, last = self.states(self.embedding(ids))
        return self.head(out), torch.cat(last, -1) if isinstance(last, tuple) else last


class Fused(Recurrent):
    """One call of a fused module, from zeros or from a state of its own (`given`)."""

    def __init__(self, kind, layers=1, given=False, **options):
        rnn = kind(HIDDEN, HIDDEN, num_layers=layers, **{"batch_first": True, **options})
        super().__init__(rnn)
        self.given = values(2 if kind is nn.LSTM else 1, layers, 1, HIDDEN, seed=5) if given else None

    def start(self, batch):
        if self.given is None:
            return None
        parts = [part.expand(-1, batch, -1).contiguous() for part in self.given]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def states(self, x):
        if not self.rnn.batch_first:
            out, last = self.rnn(x.transpose(0, 1), hx=self.start(len(x)))
            return out.transpose(0, 1), last
        return self.rnn(x, self.start(len(x)))


class StepByStep(Fused):
    """The same, called once a position."""

    def states(self, x):
        state, pieces = self.start(len(x)), []
        for column in range(x.shape[1]):
            piece, state = self.rnn(x[:, column : column + 1], state)
            pieces.append(piece)
        return torch.cat(pieces, 1), state


class InPieces(Fused):
    """The same, called on the first two positions, then on the rest."""

    def states(self, x):
        first, state = self.rnn(x[:, :2], self.start(len(x)))
        rest, state = self.rnn(input=x[:, 2:], hx=state)
        return torch.cat([first, rest], 1), state


class Cells(Recurrent):
    """A loop over one or more cells."""

    def __init__(self, kind, layers=1, **options):
        super().__init__(nn.ModuleList(kind(HIDDEN, HIDDEN, **options) for _ in range(layers)))

    def states(self, x):
        states, pieces = [None] * len(self.rnn), []
        for column in range(x.shape[1]):
            below = x[:, column]
            for index, cell in enumerate(self.rnn):
                states[index] = cell(below, states[index])
                below = states[index][0] if isinstance(states[index], tuple) else states[index]
            pieces.append(below)
        last = [torch.cat(state, -1) if isinstance(state, tuple) else state for state in states]
        return torch.stack(pieces, 1), torch.stack(last)


def _step(module, suffix, x, state):
    """One step of one layer by the book; an LSTM's state is [h; c]."""
    w_ih, w_hh = (getattr(module, f"weight_{name}{suffix}") for name in ("ih", "hh"))
    b_ih, b_hh = (getattr(module, f"bias_{name}{suffix}") if module.bias else 0 for name in ("ih", "hh"))
    h = state[:, :HIDDEN]
    below, beside = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if isinstance(module, nn.GRU | nn.GRUCell):
        (r, z, n), (r2, z2, n2) = below.chunk(3, -1), beside.chunk(3, -1)
        r, z = torch.sigmoid(r + r2), torch.sigmoid(z + z2)
        return (1 - z) * torch.tanh(n + r * n2) + z * h
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        i, f, g, o = (below + beside).chunk(4, -1)
        c = torch.sigmoid(f) * state[:, HIDDEN:] + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)
    return torch.relu(below + beside) if module.nonlinearity == "relu" else torch.tanh(below + beside)


def reference(model, tokens, patches):
    """Logits, last states (layer batch width) and all states (layer batch position width) of a `Recurrent`.

    patches: {(layer, row, column): vector}, put in place of the state after that step.
    """
    is_loop = isinstance(model.rnn, nn.ModuleList)
    steps = (
        [(cell, "") for cell in model.rnn] if is_loop else [(model.rnn, f"_l{i}") for i in range(model.rnn.num_layers)]
    )
    width = HIDDEN * (2 if isinstance(steps[0][0], nn.LSTM | nn.LSTMCell) else 1)
    given = None if is_loop else model.given
    states = [torch.zeros(len(tokens), width) for _ in steps]
    if given is not None:
        states = [torch.cat([*given[:, layer]], -1).expand(len(tokens), -1) for layer in range(len(steps))]
    x, logits, passed = model.embedding(tokens), [], []
    for column in range(tokens.shape[1]):
        below = x[:, column]
        for layer, (module, suffix) in enumerate(steps):
            after = _step(module, suffix, below, states[layer])
            rows = [patches.get((layer, row, column), after[row]) for row in range(len(tokens))]
            states[layer] = torch.stack(rows)
            below = states[layer][:, :HIDDEN]
        logits.append(model.head(below))
        passed.append(torch.stack(states))
    return torch.stack(logits, 1), passed[-1], torch.stack(passed, 2)
