"""Settings speak plainly; and every error class says one whole sentence."""

import inspect
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from mas_hooks.core import errors
from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.core.settings import Settings


class Inner(Settings):
    rate: float = Field(default=0.1, gt=0)


class Outer(Settings):
    name: str
    mode: Literal["Fast", "Slow"] = "Fast"
    inner: Inner = Inner()
    sizes: tuple[int, int] = (1, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "x", "mode": "fast"}, "Outer.mode is 'fast', but must be 'Fast' or 'Slow'."),
        ({"name": 3}, "Outer.name is 3, but must be a valid string."),
        ({"name": "x", "inner": {"rate": -1}}, "Inner.rate is -1, but must be greater than 0."),
        (
            {"name": "x", "sizes": ("a", 2)},
            "Outer.sizes.0 is 'a', but must be a valid integer, unable to parse string ",
        ),
        ({}, "Outer.name is None, but must be given."),
    ],
)
def test_a_wrong_value_is_one_sentence(given, message):
    with pytest.raises(SettingError) as caught:
        Outer(**given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_an_unknown_name_names_the_nearest_at_its_own_level():
    with pytest.raises(
        UnknownNameError, match=r"^Outer has no setting 'nmae'\. Did you mean 'name'\? There is: name, mo"
    ):
        Outer(name="x", nmae="y")
    with pytest.raises(
        UnknownNameError, match=r"^Inner has no setting 'rat'\. Did you mean 'rate'\? There is: rate\.$"
    ):
        Outer(name="x", inner={"rat": 1})
    with pytest.raises(UnknownNameError, match=r"^Inner has no setting 'qqqqqq'\. There is: rate\.$"):
        Inner(qqqqqq=1)


def test_settings_are_frozen_compared_and_round_tripped():
    one = Outer(name="x", inner={"rate": 0.5})
    with pytest.raises(ValidationError, match="frozen"):
        one.name = "y"
    assert Outer.model_validate_json(one.model_dump_json()) == one
    assert one != Outer(name="x")
    assert {one: 1}[Outer(name="x", inner=Inner(rate=0.5))] == 1


SENTENCES = [
    (errors.UnknownNameError("site", "blok", ["block", "embed"], "GPT"), "GPT has no site 'blok'. Did you mean "
     "'block'? There is: block, embed."),
    (errors.UnknownNameError("site", "?", [str(i) for i in range(15)], "GPT"), "GPT has no site '?'. There is: 0, 1, "
     "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (3 more)."),
    (errors.SettingError("batch_size", 0, "1 or more"), "batch_size is 0, but must be 1 or more."),
    (errors.RecipeError("my.py", "defines no main", "copy a recipe"), "my.py: defines no main; copy a recipe."),
    (errors.RankError(9, 8, "GRU:state"), "rank 9 does not fit GRU:state: choose 1 to 8 dims."),
    (errors.ShapeError("x", (2, 3), "(n, 4)"), "x has shape (2, 3), but (n, 4) is needed."),
    (errors.NotFiniteError("x", 2), "x holds 2 values that are NaN or infinite; remove those rows first."),
    (errors.EmptyError("the list", "give one"), "the list is empty; give one."),
    (errors.PositionError(1, 9, "the inputs", "there are 5"), "position 9 of row 1 is not in the inputs: there are 5."),
    (errors.DeviceError.several({"a": "cpu", "b": "cuda:0"}), "the models lie on different devices (a on cpu, b on "
     "cuda:0); move them to one with .to(device) before aligning."),
    (errors.DeviceError.missing("cuda"), "device 'cuda' is not available here; use 'cpu', or 'auto' for the best there "
     "is."),
    (errors.NoTensorError("attn", "a dict"), "site 'attn' gives a dict, not a floating (batch, position, width) or "
     "(batch, width) tensor; choose a site inside it, listed by hook_points()."),
    (errors.NoLogitsError("a tuple"), "cannot tell which part of a tuple holds the logits; pass wrap(..., "
     "logits=lambda out: …)."),
    (errors.UnreachedSiteError("state", 3, "it ran 2 steps"), "site 'state' was never reached at 3 of the asked cells: "
     "it ran 2 steps."),
    (errors.UnsupportedError("a pyramid", "use a GRU"), "a pyramid is not supported; use a GRU."),
    (errors.MissingPackageError("peft", "language", "loading an adapter"), "loading an adapter needs peft, which is "
     "not installed; pip install 'mas-hooks[language]'."),
    (errors.CheckpointError("runs/a", "is damaged", "make it anew"), "runs/a: is damaged; make it anew."),
    (errors.OutputFolderError("runs/a", "no space", "make room"), "cannot write to runs/a: no space; make room."),
    (errors.RecordError.unknown_key("iaa", ["iia"], "f:3"), "f:3: records have no key 'iaa'. Did you mean 'iia'?"),
    (errors.RecordError.unreadable("f:3", "a list"), "f:3 is not a line of results: a list."),
    (errors.DivergedError("the loss of mas", 7), "the loss of mas stopped being a finite number at step 7; lower the "
     "learning rate."),
    (errors.DataSetError("a.csv", "is empty", "give another"), "a.csv: is empty; give another."),
    (errors.DataSetError.columns("a.csv", "hh-rlhf", ["id", "body"], ["chosen", "rejected"]), "a.csv: has the columns "
     "id, body, but hh-rlhf is read from chosen, rejected; give the data set as published, or write your own rows with "
     "text and label."),
    (errors.TooFewRowsError("toxic", 5, "9 read", "3 splits need 6", "give more"), "the class 'toxic' has 5 usable "
     "rows (9 read), but 3 splits need 6; give more."),
    (errors.TooFewRowsError("toxic", 0, "9 read", "3 splits need 6", "give more"), "the class 'toxic' has no usable "
     "row (9 read), but 3 splits need 6; give more."),
    (errors.MemoryPlanError("35 GiB", "24 GiB", "cuda", "train adapters"), "35 GiB are needed, but cuda has 24 GiB "
     "free; train adapters."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=lambda value: type(value).__name__)
def test_what_every_error_says(error, sentence):
    assert str(error) == sentence
    assert isinstance(error, errors.MasHooksError)


def test_no_error_is_left_out():
    said = {type(error) for error, _ in SENTENCES}
    declared = {one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.MasHooksError)}
    assert declared - said == {errors.MasHooksError}
