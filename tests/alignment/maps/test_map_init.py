import time

import numpy as np
import pytest
import torch

from mas_hooks.alignment.maps.base import complete_basis
from mas_hooks.alignment.maps.init import identity_frame, pca_frame, procrustes_frames, random_frame


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def is_orthonormal(frame, tolerance=1e-6):
    return torch.allclose(frame.mT @ frame, torch.eye(frame.shape[1], dtype=frame.dtype), atol=tolerance)


def test_random_frames_are_seeded():
    assert torch.equal(random_frame(6, 3, gen(1)), random_frame(6, 3, gen(1)))
    assert not torch.allclose(random_frame(6, 3, gen(1)), random_frame(6, 3, gen(2)), atol=0.1)


def test_random_frames_are_uniform():
    """Every entry of a uniform frame has mean 0 and square 1/width, and no two are correlated."""
    generator = gen()
    frames = torch.stack([random_frame(4, 3, generator) for _ in range(4000)])
    assert is_orthonormal(frames[0])
    flat = frames.flatten(1)
    assert flat.mean(0).abs().max() < 0.04
    second = flat.mT @ flat / len(flat)
    assert (second - torch.eye(12) / 4).abs().max() < 0.03
    signs = torch.linalg.det(torch.stack([random_frame(3, 3, generator) for _ in range(1000)])).sign()
    assert abs(signs.mean()) < 0.15


def test_random_frames_lie_where_their_generator_does():
    with torch.device("meta"):
        assert random_frame(4, 2, gen()).device.type == "cpu"
        assert complete_basis(torch.zeros(4, 2, device="cpu")).device.type == "cpu"


def test_the_identity_frame():
    assert torch.equal(identity_frame(4, 2), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]))


@pytest.mark.parametrize(("rows", "width", "rank"), [(50, 6, 3), (50, 6, 6), (4, 6, 3), (3, 6, 5), (1, 4, 4)])
def test_pca_equals_the_svd_up_to_sign(rows, width, rank):
    x = torch.randn(rows, width, generator=gen()) * torch.arange(1, width + 1) + 5
    frame = pca_frame(x, rank)
    assert frame.shape == (width, rank)
    assert is_orthonormal(frame)
    centred = (x - x.mean(0)).double().numpy()
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    told = min(rank, int((sizes > 1e-6).sum()))  # beyond the rank of the data any direction is as good
    cosines = np.abs(np.sum(directions[:told] * frame.double().numpy().T[:told], axis=1))
    assert np.allclose(cosines, 1, atol=1e-5)


def test_pca_of_many_rows_needs_no_room_for_their_square():
    began = time.perf_counter()
    assert is_orthonormal(pca_frame(torch.randn(30_000, 4, generator=gen()), 2))
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(("width", "rank"), [(6, 2), (5, 5), (4, 1)])
def test_completing_a_frame(width, rank):
    for frame in (random_frame(width, rank, gen()).double(), torch.eye(width, rank).flip(0).double()):
        basis = complete_basis(frame)
        assert torch.allclose(basis[:, :rank], frame, atol=1e-6)
        assert is_orthonormal(basis, 1e-6)
    assert torch.equal(complete_basis(torch.eye(width, rank)), torch.eye(width))


def rotated_copies(widths, rank_of_data=3, rows=12):
    shared = torch.randn(rows, rank_of_data, generator=gen()) * torch.tensor([3.0, 2, 1])[:rank_of_data] + 4
    return [shared @ random_frame(width, rank_of_data, gen(10 + index)).mT for index, width in enumerate(widths)]


@pytest.mark.parametrize("widths", [(6, 6), (6, 9), (5, 7, 6)])
@pytest.mark.parametrize("rank", [2, 3, 5])
def test_procrustes_gives_rotated_copies_the_same_coordinates(widths, rank):
    means = rotated_copies(widths)
    frames = procrustes_frames(means, rank)
    read = [(m - m.mean(0)) @ frame for m, frame in zip(means, frames, strict=True)]
    for frame, width, coordinates in zip(frames, widths, read, strict=True):
        assert frame.shape == (width, rank)
        assert is_orthonormal(frame)
        assert torch.allclose(coordinates, read[0], atol=1e-5)
    kept = read[0].square().sum() / (means[0] - means[0].mean(0)).square().sum()
    assert kept > (0.999 if rank >= 3 else 0.85)


def test_procrustes_beats_separate_principal_directions_on_noisy_copies():
    def distance(frames):
        read = [(m - m.mean(0)) @ frame for m, frame in zip(means, frames, strict=True)]
        return (read[0] - read[1]).norm() / read[0].norm()

    means = [m + 0.3 * torch.randn(m.shape, generator=gen(5 + i)) for i, m in enumerate(rotated_copies((8, 10)))]
    assert distance(procrustes_frames(means, 3)) < 0.7 * distance([pca_frame(m, 3) for m in means])


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_procrustes_from_fewer_means_than_dims_is_orthonormal_all_the_same(rows):
    means = [m[:rows] for m in rotated_copies((8, 6))]
    frames = procrustes_frames(means, 5)
    assert all(is_orthonormal(frame) for frame in frames)
    read = [(m - m.mean(0)) @ frame for m, frame in zip(means, frames, strict=True)]
    assert torch.allclose(read[0], read[1], atol=1e-5)


def test_procrustes_of_one_model_keeps_its_principal_subspace():
    means = rotated_copies((6,))[0]
    frame, pca = procrustes_frames([means], 2)[0], pca_frame(means, 2)
    assert torch.allclose(frame @ frame.mT, pca @ pca.mT, atol=1e-5)
