"""Small trained toys and their pairs, made once a test session in a cache folder of its own; which files are long."""

from pathlib import Path

import pytest
import torch

from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import TrainSettings

torch.set_num_threads(1)

TESTS = Path(__file__).parent
SIZES = (256, 64, 128)
LONG = {
    "studies/test_demo.py": 200,
    "studies/test_figures.py": 100,
}
"""Seconds of a core that a file takes, where it takes 8 or more. `make test` begins with the longest, so that no core
waits for one at the end, and `make test-fast` leaves them out. A room keeps files that are not listed."""


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="leave out the files that tests/conftest.py lists as long")


def file_name(path):
    """The path of a file below this folder."""
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.name


def pytest_ignore_collect(collection_path, config):
    """True leaves a file out before it is imported; None has no say."""
    return True if config.getoption("--fast") and file_name(collection_path) in LONG else None


def pytest_collection_modifyitems(items):
    """The longest files first, the others in their order."""
    items.sort(key=lambda item: -LONG.get(file_name(item.path), 0))


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
