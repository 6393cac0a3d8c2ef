import pytest
import torch

from mas_hooks.core.errors import SettingError
from mas_hooks.models.toys.toy_cache import ToySettings
from mas_hooks.similarity import rsa
from mas_hooks.studies.work.correlations import correlate


@pytest.fixture(scope="module")
def rows(small_settings):
    return correlate((small_settings(0), small_settings(1)), ["state"] * 2, seed=3)


def test_every_two_toys_and_their_untrained_copies(rows):
    assert [(row.measure, row.control) for row in rows] == [
        ("rsa", None),
        ("cka", None),
        ("rsa", "untrained"),
        ("cka", "untrained"),
    ]
    for row in rows:
        assert (row.source_model, row.target_model, row.source_site) == ("gru-0", "gru-1", "state")
        assert row.value_low <= row.value <= row.value_high
        assert row.seed == 3


def test_trained_toys_are_more_alike_than_untrained_ones(rows):
    assert rows[0].value > rows[2].value


def test_the_rows_are_all_positions_but_padding_and_e(small_settings, small_toys, rows, monkeypatch):
    """15 trials of each of 6 quantities, each of length 2n + 3 with its E: n from 1 to 6."""
    seen = []
    monkeypatch.setattr(
        "mas_hooks.studies.work.correlations.rsa", lambda x, y, seed: seen.append(x) or rsa(x, y, seed=seed)
    )
    correlate((small_settings(0), small_settings(1)), ["state"] * 2, seed=3)
    assert len(seen[0]) == 15 * sum(2 * n + 2 for n in range(1, 7))
    # The first trial starts with B, whose state is the same in all trials.
    ids = torch.tensor([small_toys[0].task.vocabulary.encode(["B"])])
    with torch.no_grad():
        first = small_toys[0].model.rnn(small_toys[0].model.embedding(ids))[0][0, 0]
    assert torch.allclose(seen[0][0], first, atol=1e-6)


def test_toys_of_different_tasks_are_refused():
    with pytest.raises(SettingError, match="all toys read the same trials"):
        correlate((ToySettings(), ToySettings(task="rounding")), ["state"] * 2)
