"""The tail of decoders: how rows are split into passes, what is kept, what is put back, and when it is not taken."""

import itertools

import pytest
import torch
from hooks.conformance.cases import model
from hooks.conformance.tail_pairs import numbers, pairs, part
from hooks.conformance.tiny import TINY

import mas_hooks as mh
from mas_hooks.core import memory
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.tails import decoder, kept
from mas_hooks.engine.tails.decoder import PASS_COST, BlockTailRunner, split_by_position


def handle(family="qwen2"):
    return mh.wrap(model(family).requires_grad_(False))


def price(groups, begins, end, cost):
    return sum(cost + len(group) * (end - int(begins[group].min())) for group in groups)


def every_split(columns):
    """All ways to cut sorted columns into runs."""
    for cuts in itertools.product((False, True), repeat=len(columns) - 1):
        runs = [[columns[0]]]
        for column, cut in zip(columns[1:], cuts, strict=True):
            runs += [[column]] if cut else []
            runs[-1] += [] if cut else [column]
        yield runs


@pytest.mark.parametrize("cost", [0, 3, 10, 1000])
def test_rows_are_split_at_the_least_price(cost):
    generator = torch.Generator().manual_seed(cost)
    for _ in range(20):
        begins = torch.randint(0, 12, (9,), generator=generator)
        groups = split_by_position(begins, 12, cost)
        assert sorted(torch.cat(groups).tolist()) == list(range(9))
        columns = begins.unique().tolist()
        least = min(
            sum(cost + sum(int((begins == one).sum()) for one in run) * (12 - run[0]) for run in runs)
            for runs in every_split(columns)
        )
        assert price(groups, begins, 12, cost) == least


def test_rows_of_very_different_positions_run_in_passes_of_their_own(monkeypatch):
    own = handle()
    site = own.at("blocks.1.hook_resid_mid")
    data = pairs("none", columns=[1, 8, 8])
    monkeypatch.setitem(PASS_COST, "cpu", 1)
    tail, seen = choose_runner(own, site, data), []
    watched = own.module.model.layers[2].register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[:2]))
    try:
        found, gradient = numbers(tail, [part(data, site.width)])
    finally:
        watched.remove()
    assert sorted(map(tuple, seen)) == [(1, 9), (2, 2)]
    wanted, expected = numbers(ReferenceRunner(own, site), [part(data, site.width)])
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_an_unedited_row_is_computed_once():
    own = handle()
    site, data = own.at("blocks.1.hook_resid_post"), pairs("left")
    tail, seen = BlockTailRunner(own, site, decoder.find_tail_start(own, site)), []
    lowest = own.module.model.layers[0].input_layernorm
    watched = lowest.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    try:
        for index in ([2, 0], [0, 2, 1], [1, 2, 0]):
            tail.run([part(data, site.width, index)])
    finally:
        watched.remove()
    assert seen == [1, 2, 1]  # one row to learn the sizes; then rows 0 and 2, then row 1, then nothing


def test_nothing_above_the_stream_is_run_to_store_it():
    own = handle()
    start, seen = decoder.find_tail_start(own, own.at("blocks.1.hook_resid_post")), []
    prompt = kept.make_prompt(own, pairs("left").target_inputs)
    watched = [
        layer.register_forward_hook(lambda *_, at=at: seen.append(at))
        for at, layer in enumerate(own.module.model.layers)
    ]
    try:
        alone = decoder.read_base(own, start, prompt, prefixes=False)
        assert seen == [0, 1]
        whole = decoder.read_base(own, start, prompt, prefixes=True)
    finally:
        for one in watched:
            one.remove()
    assert seen[2:] == list(range(len(watched)))
    torch.testing.assert_close(alone.stream, whole.stream)


STREAM = 3 * 10 * 32 * 4  # bytes of the stream of all rows; keys and values of two blocks take four times as many


@pytest.mark.parametrize(
    ("room", "fits", "reuses"), [(20 * STREAM, True, True), (2 * STREAM, True, False), (0, False, False)]
)
def test_what_does_not_fit_into_memory_is_computed_again(monkeypatch, room, fits, reuses):
    monkeypatch.setattr(kept, "spare_memory", lambda _device: room)
    own = handle("gpt2")
    site, data = own.at("blocks.0.hook_resid_post"), pairs("right")
    tail = choose_runner(own, site, data)
    found, gradient = numbers(tail, [part(data, site.width)])
    (_, rows), *_ = tail.caches.values()
    assert (rows.fits, rows.prefixes) == (fits, reuses)
    wanted, expected = numbers(ReferenceRunner(own, site), [part(data, site.width)])
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_however_many_ask_the_passes_keep_their_reserve(monkeypatch):
    """A store takes its share of what is free; after many of them a fifth of all memory is still there."""
    total = free = 1_000.0
    monkeypatch.setattr(memory, "total_bytes", lambda _device: total)
    monkeypatch.setattr(memory, "free_bytes", lambda _device: free)
    taken = []
    for _ in range(36):
        taken.append(max(0.0, kept.spare_memory(torch.device("cpu"))))
        free -= taken[-1]
    assert taken[0] == 400.0
    assert free == pytest.approx(memory.RESERVE * total)


def test_a_forward_that_somebody_put_into_a_block_is_put_back():
    own = mh.wrap(TINY["llama"]().requires_grad_(False))
    site, data = own.at("blocks.1.hook_resid_post"), pairs("left")
    block, calls = own.module.model.layers[0], []
    original = block.forward

    def mine(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    block.forward = mine
    tail = choose_runner(own, site, data)
    tail.run([part(data, site.width)])
    assert block.__dict__["forward"] is mine
    assert "forward" not in own.module.model.layers[1].__dict__
    calls.clear()
    tail.run([part(data, site.width)])
    assert not calls
    own.forward(data.target_inputs)
    assert calls


def test_an_error_above_leaves_nothing_behind():
    own = mh.wrap(TINY["gpt_neo"]().requires_grad_(False))
    site, data = own.at("blocks.0.hook_resid_post"), pairs("left")
    tail = choose_runner(own, site, data)

    def fails(*_):
        raise KeyError("mine")

    broken = own.module.transformer.h[2].register_forward_pre_hook(fails)
    with pytest.raises(KeyError, match="mine"):
        tail.run([part(data, site.width)])
    broken.remove()
    assert all("forward" not in module.__dict__ for module in own.module.modules())
    assert all(not (module._forward_hooks or module._forward_pre_hooks) for module in own.module.modules())


@pytest.mark.parametrize("wrong", ["stream", "positions", "cells"])
def test_a_tail_that_gives_other_logits_is_not_taken(monkeypatch, wrong):
    own = handle("qwen2")
    site, data = own.at("blocks.1.hook_resid_post"), pairs("left")
    run_from = decoder.run_decoder_tail

    def bad(model, start, base, prompt, edit, cells, begin=0):
        if wrong == "stream":
            base = decoder.Base(base.stream * 1.01, base.keys, base.values)
        if wrong == "positions":
            prompt = decoder.Prompt(prompt.ids, prompt.mask, prompt.positions.flip(1))
        if wrong == "cells":
            edit = mh.Edit(edit.site, edit.fn, mh.Where(edit.where.rows, edit.where.columns + 1), edit.vectors)
        return run_from(model, start, base, prompt, edit, cells, begin)

    assert choose_runner(own, site, data).name == "tail"
    monkeypatch.setattr("mas_hooks.engine.tails.decoder.run_decoder_tail", bad)
    assert choose_runner(own, site, data).name == "reference"


def test_sites_outside_the_blocks_are_served_by_the_whole_forward():
    own = handle()
    for name in ("model.norm", "lm_head"):
        site = own.at(name, width=32)
        assert decoder.find_tail_start(own, site) is None
        assert choose_runner(own, own.at("model.norm", width=32), pairs("none")).name == "reference"
    own_path, other = (
        mh.wrap(own.module, layer_path="model.layers"),
        mh.wrap(TINY["bloom"](), layer_path="transformer.h"),
    )
    assert decoder.find_tail_start(own_path, own_path.at("blocks.1.hook_resid_post")) == decoder.TailStart(
        2, whole=True
    )
    assert other.hook_points() == mh.wrap(TINY["bloom"]()).hook_points()
    strange = mh.wrap(torch.nn.Sequential(own.module.model.layers), layer_path="0")
    assert decoder.find_tail_start(strange, strange.at("blocks.1.hook_resid_post", width=32)) is None


def test_native_paths_have_the_same_tail():
    own = handle()
    assert decoder.find_tail_start(own, own.at("model.layers.1", width=32)) == decoder.TailStart(2, whole=True)
    assert decoder.find_tail_start(own, own.at("model.layers.1", "input", width=32)) == decoder.TailStart(1, whole=True)
    assert decoder.find_tail_start(own, own.at("model.layers.1.mlp.up_proj")) == decoder.TailStart(1, whole=False)
    assert decoder.find_tail_start(own, own.at("embed")) == decoder.TailStart(0, whole=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(dtype):
    own = mh.wrap(TINY["qwen2"]().requires_grad_(False).to(dtype))
    site, data = own.at("blocks.1.hook_resid_post"), pairs("left")
    tail = choose_runner(own, site, data)
    assert tail.name == "tail"
    (found, gradient), (wanted, expected) = (
        numbers(one, [part(data, site.width)]) for one in (tail, ReferenceRunner(own, site))
    )
    assert found.logits.dtype == dtype
    torch.testing.assert_close(found.logits, wanted.logits, rtol=0.05, atol=0.1)
    torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("columns", [[0, 0, 0], [0, 3, 0]])
def test_no_prefix_is_kept_where_every_row_is_edited_from_its_start(columns, monkeypatch):
    """Rows then run in passes by their ends; with one row that begins later, its prefix is kept as ever."""
    own = handle()
    site, data = own.at("embed"), pairs("none", columns=columns)
    short = data.label_mask.clone()
    short[0, 4:] = False
    data = Pairs.from_tensors(
        data.source_inputs, data.source_where, data.target_inputs, data.target_where, data.labels, short
    )
    monkeypatch.setitem(PASS_COST, "cpu", 1)
    tail, seen = choose_runner(own, site, data), []
    watched = own.module.model.layers[2].register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[:2]))
    try:
        found, gradient = numbers(tail, [part(data, site.width)])
    finally:
        watched.remove()
    ((_, store),) = tail.caches.values()
    assert store.prefixes == (columns != [0, 0, 0])
    if not store.prefixes:
        assert sorted(shape[1] for shape in seen) == sorted({4, data.labels.shape[1]})
    expected, wanted = numbers(ReferenceRunner(own, site), [part(data, site.width)])
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
