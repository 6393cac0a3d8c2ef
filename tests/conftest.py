"""Small trained toys and their pairs, made once a test session in a cache folder of its own."""

import pytest
import torch

from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import TrainSettings

torch.set_num_threads(1)

SIZES = (256, 64, 128)
LONGEST = ("test_demo.py", "test_figures.py")


def pytest_collection_modifyitems(items):
    """The longest files first, so that no core waits for them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def _settings(seed=0, cell="gru", width=16):
    training = TrainSettings(
        batch_size=64,
        learning_rate=1e-2,
        warmup=20,
        check_every=25,
        small_check=60,
        full_check=300,
        max_errors=2,
        max_steps=1_000,
        seed=seed,
    )
    return ToySettings(task_settings={"max_quantity": 6}, cell=cell, width=width, dropout=0.1, training=training)


@pytest.fixture(scope="session", autouse=True)
def toy_cache(tmp_path_factory):
    """The cache folder of this test session; the user's own is never touched."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAS_HOOKS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def small_settings():
    """Settings of a toy that trains in about a second: small_settings(seed=0, cell="gru", width=16)."""
    return _settings


@pytest.fixture(scope="session")
def small_toys(toy_cache):
    """Two trained GRUs of width 16 that count to 6. Shared by the whole session: leave them as they are."""
    return [load_toy(_settings(seed), progress=False) for seed in (0, 1)]


@pytest.fixture(scope="session")
def small_pairs(small_toys):
    """Training, validation and test pairs of the two toys, variable Full."""
    return task_pairs([one.task for one in small_toys], ["full", "full"], SIZES)


@pytest.fixture
def small_sites(small_toys):
    """The states of the two toys, freshly wrapped."""
    return [wrap(one.model, name=f"gru-{index}").at("state") for index, one in enumerate(small_toys)]
