"""A trained matrix with orthonormal columns (or rows, where it is wider than tall)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Parametrization = Literal["matrix_exp", "cayley", "householder"]


class _Weight(nn.Module):
    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(rows, columns, dtype=torch.float32))


_SAVED_NAME = "own"  # part of the keys of saved alignments, which keep loading


class OrthogonalMatrix(nn.Module):
    """rows × columns, by torch's orthogonal parametrizations. The sign of a square determinant is that of the start.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        parametrization: which of torch's three keeps it orthonormal.
    """

    def __init__(self, rows: int, columns: int, parametrization: Parametrization) -> None:
        super().__init__()
        with _same_chance(torch.device("cpu")):
            constrained = parametrizations.orthogonal(_Weight(rows, columns), orthogonal_map=parametrization)
        self.add_module(_SAVED_NAME, constrained)

    def matrix(self) -> Float[Tensor, "rows columns"]:
        """The matrix, rebuilt from its parameters at every call, in float32 whatever autocast says."""
        device = next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            weight = self._constrained.weight
        assert isinstance(weight, Tensor)
        return weight

    def start(self, matrix: Float[Tensor, "rows columns"]) -> None:
        """Begin at the orthonormal matrix nearest to `matrix` (its polar factor)."""
        before = self.matrix()
        with _same_chance(before.device):
            nearest = nearest_orthonormal(matrix.detach().to(before.device))
            self._constrained.weight = nearest.to(before).contiguous()

    @property
    def _constrained(self) -> nn.Module:
        return self.get_submodule(_SAVED_NAME)


@contextmanager
def _same_chance(device: torch.device) -> Iterator[None]:
    """torch completes a rectangular start to a square basis at random: here always alike, leaving the global state."""
    on_cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=on_cuda):
        torch.default_generator.manual_seed(0)
        for cuda in on_cuda:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(0)
        yield


def nearest_orthonormal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """U Vᵀ of the singular value decomposition, in float64."""
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ vh
