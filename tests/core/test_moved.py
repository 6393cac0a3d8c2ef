"""Old import paths say where a module went."""

import importlib
import importlib.util
import re

import pytest

import mas_hooks as mh
from mas_hooks.core.moved import MOVED

ROOMS_NOW = {"alignment", "cli", "engine.store", "report.page"}
"""Old modules whose name is that of a folder now: importing one is no mistake."""
NAMES_NOW = set(mh.__all__) | ROOMS_NOW


def test_every_new_path_is_there():
    assert {new for new in MOVED.values() if importlib.util.find_spec(f"mas_hooks.{new}") is None} == set()


@pytest.mark.parametrize("old", MOVED, ids=str)
def test_an_old_path_names_the_new_one(old):
    if old in ROOMS_NOW:
        assert importlib.import_module(f"mas_hooks.{old}").__file__.endswith("__init__.py")
        return
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"mas_hooks.{old}")
    assert str(caught.value) == f"mas_hooks.{old} is now mas_hooks.{MOVED[old]}; import it from there"


@pytest.mark.parametrize("old", [old for old in MOVED if "." not in old and old not in NAMES_NOW])
def test_an_old_module_as_an_attribute_names_the_new_one(old):
    new = re.escape(f"mas_hooks.{MOVED[old]}")
    with pytest.raises(AttributeError, match=f"has no attribute '{old}'; mas_hooks.{old} is now {new}$"):
        getattr(mh, old)


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("import mas_hooks.fit_loop", "training.loop"),
        ("from mas_hooks import fit_loop", "training.loop"),
        ("from mas_hooks.fit_loop import Loop", "training.loop"),
        ("from mas_hooks.language.told import hashed", "core.fingerprints"),
        ("import mas_hooks.maps.starts as starts", "alignment.maps.init"),
        ("from mas_hooks.hooks import handle", "hooks.hooked_model"),
    ],
)
def test_every_way_to_import_names_the_new_place(line, new):
    with pytest.raises(ImportError, match=f"is now mas_hooks.{re.escape(new)}; import it from there"):
        exec(line, {})


def test_other_wrong_names_stay_what_they_were():
    with pytest.raises(AttributeError, match=r"^module 'mas_hooks' has no attribute 'nothing'$"):
        mh.nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'mas_hooks\.nothing'"):
        importlib.import_module("mas_hooks.nothing")
    with pytest.raises(ModuleNotFoundError, match=r"^mas_hooks\.language is now mas_hooks\.models\.language;"):
        importlib.import_module("mas_hooks.language.nothing")
