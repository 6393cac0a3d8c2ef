import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def rotation(rng):
    """A random orthogonal matrix of a given width."""
    return lambda width: np.linalg.qr(rng.normal(size=(width, width)))[0]


@pytest.fixture
def related(rng):
    """Matched rows of unequal widths that share part of their structure."""
    x = rng.normal(size=(40, 6))
    return x, np.tanh(x @ rng.normal(size=(6, 9))) + rng.normal(size=(40, 9))
