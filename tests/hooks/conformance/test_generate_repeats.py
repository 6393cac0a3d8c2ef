"""Edits under beams, several sequences a prompt and batches of prompts are those of each prompt for itself."""

import pytest
import torch
from hooks.conformance.generating import (
    CELLS,
    FAMILIES,
    LENGTH,
    MODES,
    POST,
    STEPS,
    WHERE,
    Plan,
    beams,
    bold,
    generated,
    greedy,
    model,
    prompts,
    samples,
)

import mas_hooks as mh
from mas_hooks.data import positions


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("family", ["gpt2", "bloom"])
def test_beams_are_those_of_a_slow_search(family, where, mode):
    own, plan, inputs = mh.wrap(model(family)), Plan(POST, where), prompts()
    found = generated(own, plan, inputs, num_beams=3, num_return_sequences=2, **MODES[mode])
    assert torch.equal(found, beams(own, plan, inputs, 3, 2))
    assert not torch.equal(found, beams(own, None, inputs, 3, 2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_several_samples_of_a_prompt_are_those_of_a_slow_loop(family, where, mode):
    own, plan, inputs = mh.wrap(model(family)), Plan(POST, where), prompts()
    settings = {"do_sample": True, "num_return_sequences": 2, "top_k": 0} | MODES[mode]
    torch.manual_seed(3)
    found = generated(own, plan, inputs, **settings)
    assert torch.equal(found, samples(own, plan, inputs, 2, seed=3))
    assert not torch.equal(found, samples(own, None, inputs, 2, seed=3))


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_of_one_row_leaves_the_other(family, settings):
    own, inputs = mh.wrap(model(family)), prompts()
    repeats = settings.get("num_return_sequences", 1)
    plain = generated(own, None, inputs, **settings)
    for row in (0, 1):
        cells = [(row, LENGTH - 1), (row, LENGTH), (row, LENGTH + 1)]
        edited = generated(own, Plan(POST, cells), inputs, **settings)
        same = [torch.equal(*both) for both in zip(edited, plain, strict=True)]
        assert all(same[index] for index in range(2 * repeats) if index // repeats != row)
        assert not all(same[index] for index in range(2 * repeats) if index // repeats == row)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_alone_and_without_padding_gives_the_same(family, settings):
    own, inputs = mh.wrap(model(family)), prompts()
    site, ends = own.at(POST), positions.tokens(inputs, [0, -1])
    with own.hooks(mh.Edit(site, bold, ends)):
        together = own.generate(inputs, max_new_tokens=STEPS, do_sample=False, **settings)
    rows = len(together) // 2
    for row in (0, 1):
        ids = inputs["input_ids"][row : row + 1, inputs["attention_mask"][row].bool()]
        with own.hooks(mh.Edit(site, bold, positions.tokens(ids, [0, -1]))):
            alone = own.generate(ids, max_new_tokens=STEPS, do_sample=False, **settings)
        assert torch.equal(alone[:, -STEPS:], together[row * rows : (row + 1) * rows, -STEPS:])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("settings", [{}, {"num_return_sequences": 2, "num_beams": 3}], ids=str)
def test_each_cell_gets_its_own_vector_in_every_repeat_of_its_row(settings, mode):
    """The reference looks each cell's vector up by (row, column); the package gets them in the order of the cells."""
    own, inputs = mh.wrap(model("qwen2")), prompts()
    vectors = 3 * torch.randn(len(CELLS), own.at(POST).width, generator=torch.Generator().manual_seed(8))
    edit = mh.Edit(own.at(POST), lambda h, v: v, mh.Where(*zip(*CELLS, strict=True)), vectors)
    with own.hooks(edit):
        found = own.generate(inputs, max_new_tokens=STEPS, do_sample=False, **settings, **MODES[mode])
    wanted = []
    for row in (0, 1):
        table = {column: vectors[index] for index, (own_row, column) in enumerate(CELLS) if own_row == row}
        plan = Plan(POST, [(0, column) for column in table], fn=lambda h, table=table: laid_over(h, table))
        args = own, plan, prompts(rows=(row,))
        wanted.append(beams(*args, 3, 2) if settings else greedy(*args)[0])
    assert torch.equal(found, torch.cat(wanted))
    assert not torch.equal(found, generated(own, None, inputs, **settings))


def laid_over(h, table):
    out = h.clone()
    for column, vector in table.items():
        if column < h.shape[1]:
            out[:, column] = vector
    return out
