"""Swaps in a model with a `layer_path`: from the site's block on, the same numbers as the whole forward."""

import pytest
import torch
from engine import odd_streams
from engine.odd_streams import WIDTH
from engine.tail_cases import LONG, PARTS, SHORT, VOCABULARY, assert_same, every_cell, handle, part, with_cells

from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.tails import kept
from mas_hooks.engine.tails.generic import StreamTailRunner, find_stream_start, list_narrow_places
from mas_hooks.models.toys.transformer import TransformerModel

LAST = LONG.labels.shape[1] - 1
CELLS = {
    "one cell": lambda pairs: pairs,
    "all cells up to one": every_cell,
    "one before and one behind": lambda pairs: with_cells(
        pairs,
        Where(
            torch.arange(len(pairs)).repeat(2),
            torch.cat([pairs.target_where.columns, pairs.target_where.columns * 0 + pairs.labels.shape[1] - 1]),
        ),
    ),
}
SETS = {name: {id(pairs): make(pairs) for pairs in (LONG, SHORT)} for name, make in CELLS.items()}
SITES = {  # where a run starts, and the module after which only the wanted cells are run
    "embed": (0, "blocks.2.attention"),
    "blocks.0.hook_resid_pre": (0, "blocks.2.attention"),
    "blocks.0.attention": (0, "blocks.2.attention"),
    "blocks.0.hook_resid_post": (1, "blocks.2.attention"),
    "blocks.1.hook_resid_pre": (1, "blocks.2.attention"),
    "blocks.1.mlp.hidden": (1, "blocks.2.attention"),
    "blocks.1.hook_resid_post": (2, "blocks.2.attention"),
    "blocks.2.attention": (2, "blocks.2.attention"),
    "blocks.2.mlp.hidden": (2, "blocks.2.mlp"),
    "blocks.2.hook_resid_post": (3, "blocks.2"),
}


def toy(name, **options):
    model = TransformerModel(VOCABULARY, WIDTH, layers=3, heads=2)
    return handle(model, name, layer_path="blocks", **options)


def odd(kind, name, **options):
    return handle(getattr(odd_streams, kind)(VOCABULARY), name, layer_path="blocks", **options)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("named", PARTS)
def test_tail_equals_reference(name, cells, named):
    model, site = toy(name)
    chosen = choose_runner(model, site, SETS[cells][id(LONG)])
    assert isinstance(chosen, StreamTailRunner)
    assert (chosen.start.start.first, chosen.narrow) == SITES[name]
    parts = [part(SETS[cells][id(pairs)], index, site.width, seed) for seed, (pairs, index) in enumerate(PARTS[named])]
    assert_same(chosen, ReferenceRunner(model, site), parts)


@pytest.mark.parametrize("cost", [0, 30, None])
def test_rows_may_run_in_passes_by_their_last_wanted_column(cost):
    model, site = toy("blocks.0.hook_resid_post")
    start = find_stream_start(model, site, LONG.target_inputs[:1])
    tail, seen = StreamTailRunner(model, site, start, "blocks.2", cost), []
    given = [part(LONG, list(range(20)), WIDTH), part(LONG, list(range(10, 30)), WIDTH, 1)]
    with model.module.blocks[1].register_forward_hook(lambda _m, args, _o: seen.append(tuple(args[0].shape[:2]))):
        tail.run(given)
    ends = 1 + (torch.arange(LAST + 1) * LONG.label_mask).amax(1)[[*range(20), *range(10, 30)]]
    assert sum(rows for rows, _ in seen) == 40
    if cost == 0:
        found, counts = ends.unique(return_counts=True)
        assert sorted(seen) == sorted(zip(counts.tolist(), found.tolist(), strict=True))
    elif cost is None:
        assert seen == [(40, int(ends.max()))]
    else:
        assert 1 < len(seen) < len(ends.unique())
    assert_same(tail, ReferenceRunner(model, site), given)


def watched(model, paths):
    """What each module gives, by its path, while the handles live."""
    seen, handles = [], []
    for path in paths:
        module = model.module.get_submodule(path)
        hook = module.register_forward_hook(lambda _m, _a, out, path=path: seen.append((path, tuple(out.shape[:2]))))
        handles.append(hook)
    return seen, handles


@pytest.mark.parametrize(
    ("name", "first"), [("embed", 0), ("blocks.0.hook_resid_post", 1), ("blocks.2.hook_resid_post", 3)]
)
def test_no_block_below_runs_and_nothing_above_but_at_the_wanted_cells(name, first):
    model, site = toy(name)
    tail = choose_runner(model, site, LONG)
    given = part(LONG, [3, 8, 21], WIDTH)
    tail.run([given])
    seen, handles = watched(
        model, [f"blocks.{index}.{part}" for index in range(3) for part in ("attention", "mlp")] + ["head"]
    )
    tail.run([given, part(LONG, [8], WIDTH)])
    for one in handles:
        one.remove()
    rows = [3, 8, 21, 8]
    end = 1 + int((torch.arange(LAST + 1) * LONG.label_mask)[rows].amax())
    wanted = (1, int((LONG.label_mask | LONG.deterministic_mask)[rows].sum()))
    expected = [(f"blocks.{index}.{part}", (4, end)) for index in range(first, 3) for part in ("attention", "mlp")]
    if first < 3:
        expected = [*expected[:-1], ("blocks.2.mlp", wanted)]
    assert [*dict(expected), "head"] == [path for path, _ in seen]
    found = dict(seen)
    assert found["head"] == wanted
    for path, shape in expected[:-2]:
        assert found[path] == shape


def test_the_stored_stream_is_computed_once():
    model, site = toy("blocks.0.hook_resid_post")
    tail = StreamTailRunner(model, site, find_stream_start(model, site, LONG.target_inputs[:1]))
    seen, handles = watched(model, ["blocks.0.attention"])
    for index in ([2, 0], [0, 2, 1], [1, 2, 0]):
        tail.run([part(LONG, index, WIDTH)])
    handles[0].remove()
    assert [shape[0] for _, shape in seen] == [1, 2, 1]  # one row to learn the sizes; then those not known yet


def test_what_does_not_fit_into_memory_is_computed_again(monkeypatch):
    monkeypatch.setattr(kept, "spare_memory", lambda _device: 0)
    model, site = toy("blocks.0.hook_resid_post")
    tail = choose_runner(model, site, LONG)
    assert_same(tail, ReferenceRunner(model, site), [part(LONG, [2, 5], WIDTH), part(LONG, [5], WIDTH)])
    assert [one.fits for _, one in tail.caches.values()] == [False]


ODD = {  # of a swap at the embedding, after the first block, after the last: where the run is narrowed
    "Plain": ("blocks.2", "blocks.2", "blocks.2"),
    "Tuples": ("blocks.2", "blocks.2", "blocks.2"),
    "MeanAbove": (None, None, None),
    "SkipAbove": (None, None, None),
    "Names": ("reference",),  # its blocks give no tensor, so they are no site
    "NotCausal": ("reference", "reference", "blocks.2"),  # after the last block nothing is run that is not causal
    "EndOfRow": ("reference", "blocks.2", "blocks.2"),  # nor after the first anything that knows of places
    "Partner": ("blocks.2", "reference", "blocks.2"),  # a skipped block gives its stream alone
    "FlipAbove": ("reference", "reference", "reference"),
    "Twice": ("reference", "reference", "reference"),
    "Backwards": ("reference", "reference", "reference"),
}
ODD_SITES = ("embedding", "blocks.0.hook_resid_post", "blocks.2.hook_resid_post")


@pytest.mark.parametrize(
    ("kind", "name", "narrow"),
    [(kind, name, one) for kind, own in ODD.items() for name, one in zip(ODD_SITES, own, strict=False)],
)
def test_tail_only_where_proven(kind, name, narrow):
    model, _ = odd(kind, "embedding")
    site = model.at(name, width=WIDTH)
    chosen = choose_runner(model, site, LONG)
    assert (chosen.name if chosen.name == "reference" else chosen.narrow) == narrow
    assert_same(chosen, ReferenceRunner(model, site), [part(LONG, [5, 0, 20], WIDTH), part(LONG, [1, 8], WIDTH)])
    assert model.module(LONG.target_inputs).shape[:2] == LONG.labels.shape
    assert not any("forward" in module.__dict__ or module._forward_hooks for module in model.module.modules())


def judged(ends):
    """Rows that are swapped at their first column and judged from there to an end."""
    ids, where = LONG.target_inputs[: len(ends)], Where.one_per_row(torch.zeros(len(ends)))
    mask = torch.arange(LAST + 1) < torch.tensor(ends)[:, None]
    return Pairs.from_tensors(ids, where, ids, where, LONG.labels[: len(ends)], mask)


def test_a_proof_leaves_columns_out_where_any_pair_may():
    """Also where only one of the pairs has any behind its last wanted one."""
    model, site = odd("NotCausal", "embedding")
    assert choose_runner(model, site, judged([LAST + 1] * 30)).name == "tail"  # nothing is left out, all is seen
    assert choose_runner(model, site, judged([LAST + 1] * 7 + [5] + [LAST + 1] * 22)).name == "reference"


def test_a_proof_runs_rows_together():
    """Alone, a row whose cells are all wanted looks the same narrowed or not."""
    model, site = odd("Plain", "embedding")
    pairs = judged([5, 6, 7, 8, 9])
    chosen = choose_runner(model, site, pairs)
    assert chosen.narrow == "blocks.2"
    assert_same(chosen, ReferenceRunner(model, site), [part(pairs, [4, 0, 2], WIDTH)])


@pytest.mark.parametrize("name", ["norm", "head"])
def test_sites_above_the_blocks_are_served_by_the_whole_forward(name):
    model, site = toy(name)
    assert find_stream_start(model, site, LONG.target_inputs[:1]) is None
    assert choose_runner(model, site, LONG).name == "reference"


def test_reference_where_nothing_is_known_or_asked_for():
    model, site = toy("blocks.0.hook_resid_post")
    assert choose_runner(model, site, LONG, "tail").name == "tail"
    assert choose_runner(model, site, LONG, "reference").name == "reference"
    without, place = handle(TransformerModel(VOCABULARY, WIDTH), "blocks.0.mlp")
    assert choose_runner(without, place, LONG).name == "reference"
    named = Pairs.from_tensors(
        LONG.target_inputs,
        LONG.target_where,
        {"ids": LONG.target_inputs},
        LONG.target_where,
        LONG.labels,
        LONG.label_mask,
    )
    assert choose_runner(model, site, named).name == "reference"


def test_where_a_run_can_be_narrowed():
    for name, places in (
        ("blocks.1.hook_resid_post", ["blocks.2.attention", "blocks.2.mlp", "blocks.2"]),
        ("blocks.2.hook_resid_post", ["blocks.2"]),
    ):
        model, site = toy(name)
        assert list_narrow_places(model, find_stream_start(model, site, LONG.target_inputs[:1])) == places


def test_an_error_above_leaves_nothing_behind():
    model, site = toy("blocks.0.hook_resid_post")
    tail = choose_runner(model, site, LONG)

    def fails(*_):
        raise KeyError("mine")

    with model.module.head.register_forward_pre_hook(fails), pytest.raises(KeyError, match="mine"):
        tail.run([part(LONG, [1, 2], WIDTH)])
    for module in model.module.modules():
        assert "forward" not in module.__dict__
        assert not {**module._forward_hooks, **module._forward_pre_hooks}
