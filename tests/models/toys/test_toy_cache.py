import json
from pathlib import Path

import pytest
import torch

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError, SettingError, UnknownNameError
from mas_hooks.data.tasks import task
from mas_hooks.models import model_cache
from mas_hooks.models.model_cache import cache_folder
from mas_hooks.models.toys import toy_cache as toys
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import TrainingResult, TrainSettings

TINY = ToySettings(
    task_settings={"max_quantity": 2},
    width=6,
    training=TrainSettings(batch_size=4, check_every=5, small_check=20, full_check=20, max_steps=5),
)


def tiny(cell):
    return TINY.model_copy(update={"cell": cell})


@pytest.fixture(params=["gru", "lstm", "transformer"])
def cell(request):
    return request.param


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_args, **_keywords):
        raise AssertionError("trained again")

    monkeypatch.setattr(toys, "train_toy", refuse)


def test_a_cache_hit_is_the_same_toy(tmp_path, monkeypatch, cell):
    own = tiny(cell)
    first = load_toy(own, tmp_path, progress=False)
    monkeypatch.setattr(toys, "train_toy", None)
    again = load_toy(own, tmp_path, progress=False)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.trained == first.trained
    assert again.task == first.task == task("multi_object", max_quantity=2)
    assert (again.layer_path, first.layer_path) == (("blocks",) * 2 if cell == "transformer" else (None,) * 2)
    assert not again.model.training
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


def test_training_repeats_and_leaves_the_global_seed_alone(tmp_path, cell):
    state = torch.random.get_rng_state()
    one = load_toy(tiny(cell), tmp_path / "a", progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    two = load_toy(tiny(cell), tmp_path / "b", progress=False)
    assert all(torch.equal(tensor, two.model.state_dict()[name]) for name, tensor in one.model.state_dict().items())
    other = tiny(cell).model_copy(update={"training": TINY.training.model_copy(update={"seed": 1})})
    three = load_toy(other, tmp_path / "b", progress=False)
    assert not torch.equal(one.model.embedding.weight, three.model.embedding.weight)


@pytest.mark.parametrize(
    ("settings", "dropout", "voids"),
    [
        ({}, 0.5, 0.0),
        ({"cell": "lstm"}, 0.5, 0.0),
        ({"cell": "lstm", "task_settings": {"void_probability": 0.3}}, 0.5, 0.3),
        ({"cell": "transformer"}, 0.1, 0.2),
        ({"cell": "transformer", "dropout": 0.0}, 0.0, 0.2),
        ({"cell": "transformer", "task_settings": {"void_probability": 0.0}}, 0.1, 0.0),
        ({"cell": "transformer", "task": "arithmetic"}, 0.1, 0.0),
    ],
)
def test_what_the_kind_of_model_decides(tmp_path, monkeypatch, settings, dropout, voids):
    seen = []

    def spied(model, trials, *_args, **_keywords):
        dropouts = {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)}
        seen.append((dropouts, getattr(trials.task, "void_probability", 0.0)))
        return TrainingResult(1, 0, 1, reached=True)

    monkeypatch.setattr(toys, "train_toy", spied)
    own = ToySettings(width=6, **settings)
    made = load_toy(own, tmp_path)
    assert seen == [({dropout}, voids)]
    assert made.task == task(own.task, **own.task_settings)  # what is swapped and checked never learns of the default
    told = own.with_defaults()
    assert (told.dropout, told.task_settings.get("void_probability", 0.0)) == (dropout, voids)
    assert told.key == own.key  # written out or not, it is the same model
    assert load_toy(told, tmp_path).from_cache


def test_the_untrained_model_of_settings(tmp_path, cell):
    still = TINY.training.model_copy(update={"learning_rate": 1e-30, "floor": 0.0})
    own = tiny(cell).model_copy(update={"training": still})
    torch.manual_seed(0)
    fresh, learned = toys.untrained_toy(own), load_toy(own, tmp_path, progress=False).model
    assert type(fresh) is type(learned)
    assert torch.equal(fresh.embedding.weight, learned.embedding.weight)


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "single_object"},
        {"task_settings": {"max_quantity": 3}},
        {"cell": "lstm"},
        {"cell": "transformer"},
        {"width": 8},
        {"dropout": 0.0},
        {"training": TINY.training.model_copy(update={"seed": 1})},
        {"training": TINY.training.model_copy(update={"warmup": 3})},
    ],
)
def test_every_setting_is_in_the_key(tmp_path, changed):
    other = TINY.model_copy(update=changed)
    assert other.key != TINY.key
    load_toy(TINY, tmp_path, progress=False)
    assert not load_toy(other, tmp_path, progress=False).from_cache
    assert len(list((tmp_path / "toys").iterdir())) == 2


def test_names():
    assert (TINY.name, tiny("transformer").name) == ("gru-0", "transformer-0")
    assert TINY.key.startswith("multi_object-gru6-seed0-")


def test_an_unknown_kind_of_model_is_told():
    with pytest.raises(
        SettingError, match=r"^ToySettings\.cell is 'rnn', but must be 'gru', 'lstm' or 'transformer'\.$"
    ):
        ToySettings.model_validate({"cell": "rnn"})


def test_unknown_task_settings_are_told(tmp_path):
    with pytest.raises(UnknownNameError, match="task multi_object has no setting 'max_quantiti'"):
        load_toy(TINY.model_copy(update={"task_settings": {"max_quantiti": 3}}), tmp_path)


def test_the_cache_folder(monkeypatch, toy_cache):
    assert cache_folder() == toy_cache
    monkeypatch.delenv("MAS_HOOKS_CACHE")
    monkeypatch.setattr(model_cache, "user_cache_path", lambda *_args, **_keywords: Path("somewhere"))
    assert cache_folder() == Path("somewhere")


@pytest.fixture
def entry(tmp_path):
    load_toy(TINY, tmp_path, progress=False)
    return tmp_path / "toys" / TINY.key


def test_a_damaged_entry_is_told(tmp_path, entry, no_training):
    tensors = entry / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=f"{entry}: is damaged"):
        load_toy(TINY, tmp_path)
    tensors.unlink()
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        load_toy(TINY, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("kind", "mas_hooks.fit", "holds mas_hooks.fit, not mas_hooks.toy"),
        ("settings", {"width": 7}, "holds a model of other settings; delete it"),
    ],
)
def test_a_foreign_entry_is_told(tmp_path, entry, no_training, key, value, told):
    config = json.loads((entry / "config.json").read_text())
    (entry / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=told):
        load_toy(TINY, tmp_path)


def test_other_tensors_are_told(tmp_path, entry, no_training):
    other = TINY.model_copy(update={"width": 8})
    config = checkpoints.load_checkpoint(entry, toys.KIND)[0]
    model = toys.RecurrentModel(len(task("multi_object").vocabulary), other.width)
    checkpoints.save_checkpoint(entry, toys.KIND, config, model.state_dict())
    with pytest.raises(CheckpointError, match="holds other tensors than its settings ask for; delete it"):
        load_toy(TINY, tmp_path)


@pytest.mark.parametrize("broken", ["models.toys.toy_cache.train_toy", "core.checkpoints.save_file"])
def test_a_crash_leaves_nothing(tmp_path, monkeypatch, broken):
    def crash(*_args, **_keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"mas_hooks.{broken}", crash)
        with pytest.raises(KeyboardInterrupt):
            load_toy(TINY, tmp_path, progress=False)
    assert not (tmp_path / "toys" / TINY.key).exists()
    assert not load_toy(TINY, tmp_path, progress=False).from_cache
    assert load_toy(TINY, tmp_path).from_cache
    assert [path.name for path in (tmp_path / "toys").iterdir()] == [TINY.key]
