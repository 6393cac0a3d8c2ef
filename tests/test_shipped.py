import pytest

from mas_hooks import shipped
from mas_hooks.errors import UnknownNameError
from mas_hooks.settings import Settings


@pytest.mark.parametrize(("kind", "there"), [("recipes", "demo"), ("benchmarks", "toy-step")])
def test_what_there_is_can_be_loaded(kind, there):
    assert there in shipped.names(kind)
    for name in shipped.names(kind):
        study = shipped.load(kind, name)
        assert issubclass(study.settings, Settings)
        assert study.summary.endswith(".")
        study.settings()


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no recipe 'dmeo'\. Did you mean 'demo'"):
        shipped.load("recipes", "dmeo")


def test_recipes_are_short():
    for path in shipped.folder("recipes").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 150


def test_nothing_imports_a_recipe():
    from test_layers import FILES

    for path in FILES:
        assert "import recipes" not in path.read_text()
        assert "from recipes" not in path.read_text()
