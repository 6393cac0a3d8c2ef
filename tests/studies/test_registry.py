import pytest

from mas_hooks.core.errors import UnknownNameError
from mas_hooks.core.settings import Settings
from mas_hooks.studies import registry


@pytest.mark.parametrize(("kind", "there"), [("recipes", "demo"), ("benchmarks", "toy-step")])
def test_what_there_is_can_be_loaded(kind, there):
    assert there in registry.study_names(kind)
    for name in registry.study_names(kind):
        study = registry.load_study(kind, name)
        assert issubclass(study.settings, Settings)
        assert study.summary.endswith(".")
        study.settings()


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no recipe 'dmeo'\. Did you mean 'demo'"):
        registry.load_study("recipes", "dmeo")


def test_recipes_are_thin():
    for path in registry.shipped_folder("recipes").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120
