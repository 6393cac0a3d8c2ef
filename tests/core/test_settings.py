"""Settings speak plainly; and every error class says one whole sentence."""

import inspect
import re
import sys
from pickle import dumps, loads
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from mas_hooks.core import errors
from mas_hooks.core.errors import MasHooksError, SettingError, UnknownNameError
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
        ({}, "Outer.name is missing; give it a value."),
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


def written_to_a_full_disk():
    """The error that a block raises when the disk is full."""
    with pytest.raises(errors.OutputFolderError) as caught, errors.OutputFolderError.while_writing("runs/a", ROOM):
        raise OSError(28, "No space left on device")
    return caught.value


ROOM = "make room there"
SENTENCES = [
    (errors.UnknownNameError("site", "blok", ["block", "embed"], "GPT"), "GPT has no site 'blok'. Did you mean "
     "'block'? There is: block, embed."),
    (errors.UnknownNameError("site", "?", [str(i) for i in range(15)], "GPT"), "GPT has no site '?'. There is: 0, 1, "
     "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (3 more)."),
    (errors.UnknownNameError("recipe", "dmeo", ["demo", "toxicity"], "mas-hooks"), "mas-hooks has no recipe 'dmeo'. "
     "Did you mean 'demo'? There is: demo, toxicity."),
    (errors.SettingError("batch_size", 0, "1 or more"), "batch_size is 0, but must be 1 or more."),
    (errors.SettingError("FitSettings.select_by", "acc", "'iia' or 'loss'"), "FitSettings.select_by is 'acc', but must "
     "be 'iia' or 'loss'."),
    (errors.SettingError.because("the tokenizer of b", "differs from that of a", "compare models of one tokenizer"),
     "the tokenizer of b differs from that of a; compare models of one tokenizer."),
    (errors.SettingError.because("Plan.method", "is missing", "give it a value"), "Plan.method is missing; give it a "
     "value."),
    (errors.RankError(9, 8, "GRU:state"), "rank 9 does not fit GRU:state: choose 1 to 8 dims."),
    (errors.RankError(9, 8, "both maps"), "rank 9 does not fit both maps: choose 1 to 8 dims."),
    (errors.ShapeError("an activation", (2, 3), "(n, 4)"), "an activation has shape (2, 3), but (n, 4) is needed."),
    (errors.ShapeError("the source of a swap", (2, 3), "one row for each of the 4 targets"), "the source of a swap has "
     "shape (2, 3), but one row for each of the 4 targets is needed."),
    (errors.NotFiniteError("the table of pairs", 2), "the table of pairs holds 2 values that are NaN or infinite; "
     "remove those rows first."),
    (errors.NotFiniteError("the curve 'CKA'", 1), "the curve 'CKA' holds 1 value that is NaN or infinite; remove those "
     "rows first."),
    (errors.EmptyError("the list of sites", "give at least one, from model.at(name)"), "the list of sites is empty; "
     "give at least one, from model.at(name)."),
    (errors.PositionError(1, 9, "the inputs of gru-0", "rows run 0 to 3, positions 0 to 4"), "position 9 of row 1 is "
     "not in the inputs of gru-0: rows run 0 to 3, positions 0 to 4."),
    (errors.PositionError(1, 9, "the real tokens of the inputs", "that row has 5, counted 0 to 4 or -5 to -1"),
     "position 9 of row 1 is not in the real tokens of the inputs: that row has 5, counted 0 to 4 or -5 to -1."),
    (errors.DeviceError.several({"a": "cpu", "b": "cuda:0"}), "the models lie on different devices (a on cpu, b on "
     "cuda:0); move them to one with .to(device) before aligning."),
    (errors.DeviceError.missing("cuda"), "device 'cuda' is not available here; use 'cpu', or 'auto' for the best there "
     "is."),
    (errors.NoTensorError("attn", "a dict"), "site 'attn' gives a dict, not a floating (batch, position, width) or "
     "(batch, width) tensor; choose a site inside it, listed by hook_points()."),
    (errors.NoLogitsError("a tuple of 2 (Tensor, Tensor)"), "cannot tell which part of a tuple of 2 (Tensor, Tensor) "
     "holds the logits; pass wrap(model, logits=lambda out: …)."),
    (errors.UnreachedSiteError("gru-0:state", 3, "its module passed 2 positions, asked was position 4"), "site "
     "'gru-0:state' was never reached at 3 of the asked cells: its module passed 2 positions, asked was position 4."),
    (errors.UnsupportedError("a swap into recording 'area 7a'", "swap into models, as methods.unimas() does"), "a swap "
     "into recording 'area 7a' is not supported; swap into models, as methods.unimas() does."),
    (errors.UnsupportedError("swapping 'extra' from a:state to b:state, which differ in width,", "name a subspace"),
     "swapping 'extra' from a:state to b:state, which differ in width, is not supported; name a subspace."),
    (errors.MissingPackageError("peft", "language", "loading the adapter in runs/a"), "loading the adapter in runs/a "
     "needs peft, which is not installed; pip install 'mas-hooks[language]'."),
    (errors.CheckpointError("runs/a", "holds no model.safetensors", "give a folder written by save_pretrained"),
     "runs/a: holds no model.safetensors; give a folder written by save_pretrained."),
    (errors.CheckpointError("runs", "holds no run of demo to resume", "name the folder of one with --out"), "runs: "
     "holds no run of demo to resume; name the folder of one with --out."),
    (errors.OutputFolderError("runs/a", "it already holds a run", "choose another folder with --out"), "cannot write "
     "to runs/a: it already holds a run; choose another folder with --out."),
    (written_to_a_full_disk(), "cannot write to runs/a: no space left on device; make room there."),
    (errors.RecipeError("my.py", "defines no main", "define it as the recipes do"), "my.py: defines no main; define it "
     "as the recipes do."),
    (errors.RecipeError.at_line("my.py", 3, "rank = rnak", NameError("name 'rnak' is not defined")), "my.py:3: in the "
     "line `rank = rnak`, NameError: name 'rnak' is not defined; correct it and run the recipe again."),
    (errors.RecipeError.at_line("my.py", None, "", ImportError("no\n module")), "my.py: ImportError: no module; "
     "correct it and run the recipe again."),
    (errors.RecordError.unknown_key("iaa", ["iia"], "f:3"), "f:3: records have no key 'iaa'. Did you mean 'iia'?"),
    (errors.RecordError.unknown_key("?", ["iia"], "f:3"), "f:3: records have no key '?'."),
    (errors.RecordError.unreadable("f:3", "holds a list instead of an object"), "f:3 is not a line of results: it "
     "holds a list instead of an object."),
    (errors.DivergedError("the loss of mas", 7), "the loss of mas stopped being a finite number at step 7; lower the "
     "learning rate."),
    (errors.DataSetError("a.csv", "holds no rows", "give another file"), "a.csv: holds no rows; give another file."),
    (errors.DataSetError.columns("a.csv", "hh-rlhf", ["id", "body"], ["chosen", "rejected"]), "a.csv: has the columns "
     "id, body, but hh-rlhf is read from chosen, rejected; give the data set as published, or write your own rows with "
     "text and label."),
    (errors.TooFewRowsError("toxic", 5, "4 empty", "3 splits of 1 or more texts and 3 test texts need 6", "give more "
     "texts"), "the class 'toxic' has 5 usable rows (4 empty), but 3 splits of 1 or more texts and 3 test texts need "
     "6; give more texts."),
    (errors.TooFewRowsError("toxic", 1, "4 empty", "3 splits need 6", "give more texts"), "the class 'toxic' has 1 "
     "usable row (4 empty), but 3 splits need 6; give more texts."),
    (errors.TooFewRowsError("toxic", 0, "none was dropped", "3 splits need 6", "give more texts"), "the class 'toxic' "
     "has no usable row (none was dropped), but 3 splits need 6; give more texts."),
    (errors.MemoryPlanError("35.0 GiB for the stage align in each of 2 processes (--jobs)", "24.0 GiB", "cuda", "try "
     "--lora, which takes 20.1 GiB"), "35.0 GiB for the stage align in each of 2 processes (--jobs) are needed, but "
     "cuda has 24.0 GiB free; try --lora, which takes 20.1 GiB."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=lambda value: type(value).__name__)
def test_what_every_error_says(error, sentence):
    assert str(error) == sentence
    assert isinstance(error, errors.MasHooksError)


@pytest.mark.parametrize("said", [str(error) for error, _ in SENTENCES])
def test_what_every_error_says_reads_as_a_sentence(said):
    assert re.match(r"[a-z0-9]|GPT |[A-Z]\w+\.[a-z]", said), "begins with a small letter, or with a name"
    assert re.search(r"[^.][.?]$", said), "ends with one full stop"
    assert not re.search(r"\.\.|\s\s|\n|\(\)\.\.| [,;:?]| \.\W|;;|,;", said)
    assert not re.search(r"is '[^']* [^']*', but must be|'another one'|\bNone\b", said), "a phrase is no value"


def test_no_error_is_left_out():
    said = {type(error) for error, _ in SENTENCES}
    declared = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MasHooksError)}
    assert declared - said == {MasHooksError}


def test_no_constructor_is_left_out():
    table = inspect.getsource(sys.modules[__name__])
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        for member, value in vars(kind).items():
            if isinstance(value, classmethod) and issubclass(kind, MasHooksError):
                assert f"{name}.{member}(" in table, f"{name}.{member}"


def test_a_sentence_travels_whole():
    error = SettingError.because("the pairs", "need one cell each", "give others")
    assert str(loads(dumps(error))) == str(error) == "the pairs need one cell each; give others."
