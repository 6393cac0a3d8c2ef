"""Small trained toys and their pairs, made once a test session in a cache folder of its own; how long files take."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import TrainSettings

torch.set_num_threads(1)

TESTS = Path(__file__).parent
SECONDS = TESTS / "seconds.json"
"""What each file took when `make test-seconds` ran last; `make test` begins with the longest, so that no core waits for
it at the end, and `make test-fast` runs the shortest."""
FAST = 80
"""Seconds that the files of `make test-fast` take in sum."""
SIZES = (256, 64, 128)


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="only the shortest files, some of every room")
    parser.addoption("--write-seconds", action="store_true", help="write what each file took to tests/seconds.json")


def file_seconds():
    """What each test file took, the shortest first; one that is not listed is new, and short until it is measured."""
    known = json.loads(SECONDS.read_text(encoding="utf-8"))
    names = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))
    return dict(sorted(((name, known.get(name, 0.5)) for name in names), key=lambda pair: pair[1]))


def fast_files():
    """The shortest file of every room, then the shortest of all for as long as they fit into FAST."""
    seconds = file_seconds()
    rooms = {}
    for name in seconds:
        rooms.setdefault(name.partition("/")[0], name)
    chosen = set(rooms.values())
    for name in seconds:
        if sum(seconds[file] for file in chosen | {name}) <= FAST:
            chosen.add(name)
    return chosen


def pytest_configure(config):
    config.fast_files = fast_files() if config.getoption("--fast") else None


def pytest_ignore_collect(collection_path, config):
    """True leaves a file out before anything is imported for it; None has no say."""
    if config.fast_files is None or not (collection_path.is_relative_to(TESTS) and collection_path.match("test_*.py")):
        return None
    return True if collection_path.relative_to(TESTS).as_posix() not in config.fast_files else None


def pytest_collection_modifyitems(items):
    """The longest files first, the others in their order."""
    seconds = {TESTS / name: -spent for name, spent in file_seconds().items() if spent >= 5}
    items.sort(key=lambda item: seconds.get(item.path, 0))


def pytest_terminal_summary(terminalreporter, config):
    """The ten longest files, below the longest tests of `--durations`; all of them into seconds.json if asked."""
    spent = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                spent[report.nodeid.partition("::")[0].removeprefix("tests/")] += report.duration
    if config.getoption("durations"):
        terminalreporter.section("longest files")
        for name, seconds in spent.most_common(10):
            terminalreporter.write_line(f"{seconds:.1f}s {name}")
    if config.getoption("--write-seconds"):
        listed = {name: round(seconds, 1) for name, seconds in spent.most_common()}
        SECONDS.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


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
