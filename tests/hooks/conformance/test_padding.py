"""Left, right and no padding give the same numbers, read and edited; positions in padding are refused."""

from contextlib import contextmanager
from functools import cache
from itertools import combinations

import pytest
import torch
from hooks.conformance.batches import distance, moved
from hooks.conformance.tiny import TINY
from tiny_tokenizers import words

import mas_hooks as mh
from mas_hooks.core.errors import PositionError, SettingError
from mas_hooks.data import positions

CLOSE = 1e-5
TEXTS = ["the cat sat on the mat", "the cat", "aaa the dog ate the cat twice"]
SIDES = pytest.mark.parametrize("side", ["left", "right"])
TOKENIZERS = {side: words(side) for side in ("left", "right")}

PLACED = {
    "tokens": lambda inputs, texts, tokenizer: positions.tokens(inputs, [1, -2]),
    "last": lambda inputs, texts, tokenizer: positions.last(inputs),
    "spans": lambda inputs, texts, tokenizer: positions.spans(inputs, 1, -1),
    "every": lambda inputs, texts, tokenizer: positions.every(inputs),
    "text": lambda inputs, texts, tokenizer: positions.text(inputs, tokenizer, texts, "cat"),
    "the word every": lambda inputs, texts, tokenizer: "every",
    "the word prompt": lambda inputs, texts, tokenizer: "prompt",
}
SITES = ["embed", "blocks.1.attn.hook_z[2]", "blocks.1.hook_attn_out", "blocks.1.hook_resid_post"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@cache
def handle(family, side="left"):
    return mh.wrap(model(family), tokenizer=TOKENIZERS[side])


@cache
def model(family):
    """The tiny model, made once a session; leave it as it is."""
    return TINY[family]()


def plain(own, inputs, texts):
    """Logits and activations without an edit."""
    logits, found = own.run_with_cache(inputs, SITES)
    return [logits, *found.values()]


def edited(place):
    """Logits and activations under one edit, put there by `place`."""

    def run(own, inputs, texts):
        edit = mh.Edit(own.at("blocks.1.hook_resid_post"), moved, PLACED[place](inputs, texts, own.tokenizer))
        with own.hooks(edit):
            _, found = own.run_with_cache(inputs, ["blocks.2.hook_resid_post"])
        return [own.run_with_hooks(inputs, edit), *found.values()]

    return run


def one_by_one(family, run):
    """What `run` gives for each text alone, so without any padding: a list per text of (position, width)."""
    own = handle(family)
    return [[value[0] for value in run(own, own.encode([text]), [text])] for text in TEXTS]


def assert_as_alone(family, side, run):
    own = handle(family, side)
    inputs = own.encode(TEXTS)
    real = inputs["attention_mask"].bool()
    assert not real.all()
    together = run(own, inputs, TEXTS)
    for row, alone in enumerate(one_by_one(family, run)):
        for index, (found, wanted) in enumerate(zip(together, alone, strict=True)):
            assert distance(found[row][real[row]], wanted) < CLOSE, (row, index)


@SIDES
@pytest.mark.parametrize("family", TINY)
def test_logits_and_activations_of_real_tokens_are_those_of_the_sentence_alone(family, side):
    assert_as_alone(family, side, plain)


@SIDES
@pytest.mark.parametrize("place", PLACED)
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "bloom", "opt", "bert"])
def test_edits_are_those_of_the_sentence_alone(family, side, place):
    assert_as_alone(family, side, edited(place))


@SIDES
@pytest.mark.parametrize("family", TINY)
def test_an_edit_of_the_last_token_is_that_of_the_sentence_alone_in_every_family(family, side):
    assert_as_alone(family, side, edited("last"))


def test_each_place_has_an_effect_of_its_own():
    """What the tests above compare is not the same whatever is edited."""
    own = handle("gpt2")
    args = own, own.encode(TEXTS[:1]), TEXTS[:1]
    logits = {place: edited(place)(*args)[0] for place in ("tokens", "last", "spans", "every", "text")}
    logits["none"] = plain(*args)[0]
    for one, other in combinations(logits, 2):
        assert distance(logits[one], logits[other]) > 1e-3, (one, other)


@pytest.mark.parametrize("family", ["gpt2", "opt", "bert"])
def test_without_positions_that_skip_padding_the_numbers_are_wrong(family):
    """What the handle saves the user from: the plain call on the left-padded batch differs, with position_ids not."""
    own = handle(family)
    inputs = own.encode(TEXTS)
    real = inputs["attention_mask"]
    skipping = (real.cumsum(-1) - 1).clamp(min=0)
    assert distance(model(family)(**inputs, position_ids=skipping).logits, own.forward(inputs), real) < CLOSE
    if family != "opt":  # it makes such positions by itself
        assert distance(model(family)(**inputs).logits, own.forward(inputs), real) > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "opt", "bert"])
def test_position_ids_of_the_user_are_respected(family):
    own = handle(family)
    inputs = own.encode(TEXTS)
    real = inputs["attention_mask"]
    ids = (real.cumsum(-1) - 1).clamp(min=0) * 2 + 3  # stretched, as a rotary model does not see a mere shift
    wanted = model(family)(**inputs, position_ids=ids).logits
    assert distance(own.forward(inputs | {"position_ids": ids}), wanted, real) < CLOSE
    edit = mh.Edit(own.at("blocks.1.hook_resid_post"), lambda h: h, positions.last(inputs))
    assert distance(own.run_with_hooks(inputs | {"position_ids": ids}, edit), wanted, real) < CLOSE
    assert distance(own.forward(inputs), wanted, real) > 1e-3


@SIDES
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_cells_in_padding_are_refused_wherever_they_are_used(family, side):
    own = handle(family, side)
    inputs = own.encode(TEXTS)
    column = 0 if side == "left" else inputs["input_ids"].shape[1] - 1
    where = mh.Where([2, 0, 1], [3, 3, column])
    begin, end = rf"position {column} of row 1 is not in the inputs", r".*: that cell is padding \(attention_mask 0\); "
    early, at_the_site = f"{begin} of {own.name}{end}", f"{begin} at {own.name}:{end}"
    for name in (*SITES, "blocks.0.attn.hook_z"):
        edit = mh.Edit(own.at(name), moved, where)
        with pytest.raises(PositionError, match=early):
            own.run_with_cache(inputs, [name], positions=where)
        with pytest.raises(PositionError, match=rf"position {column} of row [01] is not in the inputs"):
            own.run_with_cache(inputs, [name], positions=[column])
        with pytest.raises(PositionError, match=early):
            own.run_with_hooks(inputs, edit)
        with unchanged(own), pytest.raises(PositionError, match=at_the_site), own.hooks(edit):
            own.forward(inputs)


@contextmanager
def unchanged(own):
    """A block after which the model gives what it gave before."""
    inputs = own.encode(TEXTS)
    before = own.forward(inputs)
    yield
    assert torch.equal(own.forward(inputs), before)


@SIDES
@pytest.mark.parametrize("scope", ["every", "prompt"])
def test_an_edit_of_every_position_does_not_see_padding(side, scope):
    own = handle("qwen2", side)
    inputs = own.encode(TEXTS)
    seen = []
    own.run_with_hooks(inputs, mh.Edit(own.at("embed"), lambda h: seen.append(h) or h, scope))
    wanted = own.run_with_cache(inputs, ["embed"], positions=positions.every(inputs))[1]["embed"]
    assert torch.equal(seen[0], wanted)
    assert len(wanted) == inputs["attention_mask"].sum() < inputs["attention_mask"].numel()


def test_where_there_is_no_padding_to_be_told_scopes_that_need_it_are_refused():
    own = handle("gpt2")
    ids = own.encode(TEXTS[:1])["input_ids"]
    for scope in ("prompt", "generated"):
        with (
            pytest.raises(SettingError, match=rf"where of an edit at .* is '{scope}', but must be 'every' or a Where"),
            own.hooks(mh.Edit(own.at("embed"), moved, scope)),
        ):
            model("gpt2")(ids)
