"""A model is trained once, kept whole, and refused where the cache holds another one."""

import pytest
import torch
from sentences import refused
from torch import nn

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError
from mas_hooks.models.model_cache import load_or_train

KIND, SETTINGS = "mas_hooks.test", {"width": 3}


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.last = nn.Linear(width, width)
        self.last.weight = self.first.weight


def trained(model):
    def train():
        with torch.no_grad():
            model.first.weight.fill_(7.0)
        return {"loss": 0.5}

    return train


@pytest.fixture
def folder(tmp_path):
    model = Tied()
    assert load_or_train(tmp_path / "a" / "key", KIND, SETTINGS, model, trained(model)) == ({"loss": 0.5}, False)
    return tmp_path / "a" / "key"


def test_it_is_trained_once_and_comes_back_the_same(folder):
    model = Tied()
    assert load_or_train(folder, KIND, SETTINGS, model, None) == ({"loss": 0.5}, True)
    assert model.first.weight.eq(7.0).all()
    assert model.last.weight is model.first.weight
    assert not model.training
    assert [path.name for path in folder.parent.iterdir()] == ["key"]


def test_a_tied_weight_is_kept_once(folder):
    assert sorted(checkpoints.load_checkpoint(folder, KIND)[1]) == ["first.bias", "first.weight", "last.bias"]


@pytest.mark.parametrize(
    ("kind", "settings", "width", "problem"),
    [
        (KIND, {"width": 4}, 3, "holds a model of other settings; delete it, and the model is trained again"),
        (KIND, SETTINGS, 4, "holds other tensors than its settings ask for; delete it, and the model is trained again"),
        ("mas_hooks.other", SETTINGS, 3, "holds mas_hooks.test, not mas_hooks.other"),
    ],
)
def test_another_model_is_refused(folder, kind, settings, width, problem):
    with refused(CheckpointError, problem):
        load_or_train(folder, kind, settings, Tied(width), None)
