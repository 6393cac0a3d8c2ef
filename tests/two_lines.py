"""Models of two lines, pairs written by hand, and what every method makes of them in plain numpy.

A model's h is the embedding of each token, and what it says next is read from the sum of all h so far: a swap at one
position is felt at every later one.
"""

import numpy as np
import torch
from torch import nn

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.sites import Where
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.settings import FitSettings

WIDTH, TOKENS = 3, 6
WHOLE = FitSettings(batch_size=64)
PLAIN = MapSpec(rank=2)
STANDARD = MapSpec(rank=2, zscore=True, scale="learned")


class TwoLines(nn.Module):
    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Embedding.from_pretrained(torch.randn(TOKENS, WIDTH, generator=generator))
        self.head, self.site = nn.Linear(WIDTH, TOKENS, bias=False), nn.Identity()
        self.head.weight.data = torch.randn(TOKENS, WIDTH, generator=generator)

    def forward(self, ids):
        return self.head(self.site(self.embedding(ids)).cumsum(1))


def three_sites():
    """Three models, unlike each other."""
    return [wrap(TwoLines(seed).eval(), name=f"lines {seed}").at("site", width=WIDTH) for seed in (1, 2, 3)]


SOURCE = torch.tensor([[1, 2, 3, 4], [5, 3, 1, 2], [2, 2, 4, 1]])
TARGET = torch.tensor([[3, 1, 5, 2], [4, 4, 2, 1], [1, 5, 3, 3]])
LABELS = torch.tensor([[0, 2, 4, 1], [3, 3, 5, 2], [1, 0, 2, 4]])
SCORED = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 0]]).bool()  # unequal numbers: means over trials differ
ONE = (Where([0, 1, 2], [2, 3, 0]), Where([0, 1, 2], [1, 3, 1]))
STEPS = (Where([0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 3, 0, 1]),) * 2
STATES = [7, 8, 9]  # what each pair should leave behind; no natural cell has a 9

NATURAL = NaturalCells(
    "by hand", torch.tensor([[5, 4, 0], [1, 3, 2]]), Where([0, 0, 1], [1, 0, 2]), {"state": np.array([8, 5, 7])}
)


def pairs(stepwise=False):
    source, target = STEPS if stepwise else ONE
    expected = {"state": np.repeat(STATES, torch.bincount(target.rows).numpy())}
    return Pairs.from_tensors(SOURCE, source, TARGET, target, LABELS, SCORED, expected=expected)


def moved(plan, sites, seed=0):
    """An alignment away from its start: weights that are not orthonormal, scales that are not 1."""
    alignment = Alignment.from_plan(plan, sites, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in alignment.named_parameters():
            noise = 0.4 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.tril(-1) if name.endswith("original") else noise)
    return alignment


class ByHand:
    """The formulas of the papers, in loops over pairs, cells and labels, in float64."""

    def __init__(self, alignment, own):
        self.alignment, self.pairs = alignment, own
        modules = [model.module for model in alignment.models]
        self.embedding = [module.embedding.weight.double().numpy() for module in modules]
        self.head = [module.head.weight.detach().double().numpy() for module in modules]
        cells = zip(own.source_where.rows, own.source_where.columns, strict=True)
        given = [int(SOURCE[row, column]) for row, column in cells]
        self.mean = [table[given].mean(0) for table in self.embedding]
        self.std = [table[given].std(0) for table in self.embedding]

    def standard(self, index, h, spec):
        h = h - self.mean[index] if spec.centre or spec.zscore else h
        return h / self.std[index] if spec.zscore else h

    def frame(self, index):
        """U of the thin QR with diag R > 0, and the scale."""
        one = self.alignment.site_maps[index]
        q, r = np.linalg.qr(one.weight.detach().double().numpy())
        return q * np.sign(np.diag(r)), 1.0 if one.log_scale is None else float(one.log_scale.detach().exp())

    def swap(self, source, target, h_t, h_s):
        """Eq. 4 in x = (h − μ) / σ: h_t + σ_t U_t ((s_s / s_t) U_sᵀ x_s − U_tᵀ x_t); a stitch replaces h_t."""
        if self.alignment.plan.transport is not None:
            return self.stitched(source, target, h_s)
        spec = self.alignment.spec
        (u_t, s_t), (u_s, s_s) = self.frame(target), self.frame(source)
        x_t, x_s = self.standard(target, h_t, spec), self.standard(source, h_s, spec)
        change = u_t @ (s_s / s_t * (u_s.T @ x_s) - u_t.T @ x_t)
        return h_t + (self.std[target] * change if spec.zscore else change)

    def stitched(self, source, target, h_s):
        spec = self.alignment.plan.transport
        own = {name: t.detach().double().numpy() for name, t in self.parameters(source, target).items()}
        if spec.kind == "orthogonal":
            matrix = (
                self.alignment.direction_transports[Direction(source, target)].weight.matrix().detach().double().numpy()
            )
            assert np.allclose(matrix.T @ matrix, np.eye(WIDTH), atol=1e-5)
        else:
            matrix = own["second"] @ own["first"] if spec.rank else own["weight"]
        found = matrix @ self.standard(source, h_s, spec) + own.get("bias", 0.0)
        if spec.layer_norm == "after":
            found = (found - found.mean()) / np.sqrt(found.var() + 1e-5) * own["norm.weight"] + own["norm.bias"]
        return found * self.std[target] + self.mean[target] if spec.zscore else found

    def parameters(self, source, target):
        return dict(self.alignment.direction_transports[Direction(source, target)].named_parameters())

    def put(self, source, target):
        """Per pair, {column: what is there after the swap}."""
        found = [{} for _ in SOURCE]
        own = self.pairs
        cells = torch.stack([own.source_where.columns, own.target_where.rows, own.target_where.columns])
        for given, row, column in cells.T.tolist():
            h_t, h_s = self.embedding[target][TARGET[row, column]], self.embedding[source][SOURCE[row, given]]
            found[row][column] = self.swap(source, target, h_t, h_s)
        return found

    def surprises(self, source, target):
        """Per pair, −log p of each scored label."""
        found = []
        for row, there in enumerate(self.put(source, target)):
            total, own = np.zeros(WIDTH), []
            for column in range(TARGET.shape[1]):
                total = total + there.get(column, self.embedding[target][TARGET[row, column]])
                logits = self.head[target] @ total
                if SCORED[row, column]:
                    own.append(np.log(np.exp(logits).sum()) - logits[LABELS[row, column]])
            found.append(own)
        return found

    def behaviour(self, source, target):
        """Eq. 5: the mean over a trial's labels, then over trials."""
        return np.mean([np.mean(own) for own in self.surprises(source, target)])

    def latent(self, source, target, over_dims=np.sum):
        """Eq. 8: the mean of ½‖h_v − h_CL‖² − ½ cos(h_v, h_CL) over the pairs that have an h_CL."""
        found = []
        for state, there in zip(STATES, self.put(source, target), strict=True):
            places = (NATURAL.variables["state"] == state).nonzero()[0]
            if len(places):
                token = NATURAL.inputs[NATURAL.where.rows[places[0]], NATURAL.where.columns[places[0]]]
                natural, (swapped,) = self.embedding[target][token], there.values()
                cosine = swapped @ natural / np.linalg.norm(swapped) / np.linalg.norm(natural)
                found.append((over_dims((swapped - natural) ** 2) - cosine) / 2)
        assert len(found) == 2
        return np.mean(found)
