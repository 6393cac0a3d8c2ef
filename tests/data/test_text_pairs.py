"""Pairs from texts: cell by cell on small ids, the laws of the splits, and a fit of two language models at `embed`."""

import pytest
import torch
from sentences import refused
from transformers import Qwen2Config, Qwen2ForCausalLM

import mas_hooks as mh
from mas_hooks.training.controls import ShuffledLabels, shuffle_labels
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnsupportedError
from mas_hooks.training.loop import FitLoop
from mas_hooks.data.text_pairs import ResponseTokens

VOCABULARY, N, LENGTH = 60, 40, 16
SPLITS = ("train", "valid", "test")


def tagged(n=N, length=LENGTH, model=0, lengths=None, side="left"):
    """Responses whose tokens say whose they are: 10,000 · model + 100 · row + position; the argmax adds 1,000,000."""
    ids = 10_000 * model + 100 * torch.arange(n)[:, None] + torch.arange(length)
    lengths = torch.full((n,), length) if lengths is None else lengths
    mask = (torch.arange(length) < lengths[:, None]).long()
    argmax = ids + 1_000_000
    if side == "left":
        shift = (torch.arange(length) - (length - lengths[:, None])) % length
        ids, argmax, mask = (own.gather(1, shift) for own in (ids, argmax, mask))
    junk = 7 * (1 - mask)
    return ResponseTokens(ids * mask + junk, argmax * mask + junk, 2_000_000, mask)


def told(pairs, i):
    """What one pair says: swapped columns, what both sides read, wanted labels by column."""
    columns = pairs.target_where.columns[pairs.target_where.rows == i].tolist()
    wanted = {c: int(pairs.labels[i, c]) for c in pairs.label_mask[i].nonzero()[:, 0].tolist()}
    return columns, pairs.source_inputs[i].tolist(), pairs.target_inputs[i].tolist(), wanted


def owner(token):
    """(model, row, position) of a token."""
    return token // 10_000, token // 100 % 100, token % 100


def ragged(model, seed, low=6):
    lengths = torch.randint(low, LENGTH + 1, (N,), generator=torch.Generator().manual_seed(seed))
    lengths[::5] = LENGTH
    return lengths


@pytest.mark.parametrize("sides", [("left", "right"), ("right", "right"), ("left", "left")])
def test_every_cell_label_and_mask(sides):
    lengths = [ragged(0, 0), ragged(1, 1)]
    both = [tagged(model=m, lengths=lengths[m], side=side) for m, side in enumerate(sides)]
    for made in mh.text_pairs(both, (60, 20, 20), margin=3):
        assert set(made) == {(0, 0), (0, 1), (1, 0), (1, 1)}
        for (source, target), pairs in made.items():
            assert pairs.target_inputs.shape == pairs.labels.shape == (len(pairs), LENGTH)
            assert torch.equal(pairs.label_mask, pairs.deterministic_mask)
            for i in range(len(pairs)):
                columns, given, read, wanted = told(pairs, i)
                giver, row, first = owner(given[0])
                taker, other, _ = owner(read[0])
                u, end = columns[-1], int(lengths[source][row])
                assert (giver, taker, first) == (source, target, 0)
                assert columns == list(range(u + 1))
                assert 3 <= u < end - 3
                assert given[: u + 1] == [10_000 * source + 100 * row + c for c in range(u + 1)]
                assert read[: u + 1] == [10_000 * target + 100 * other + c for c in range(u + 1)]
                assert read[u + 1 : end] == [10_000 * source + 100 * row + c for c in range(u + 1, end)]
                assert not any(read[end:])
                assert wanted == {c: 1_000_000 + 10_000 * source + 100 * row + c for c in range(u, end)}
                assert other != row
                assert lengths[target][other] >= u + 1


@pytest.mark.parametrize("counts", [(N, N), (N, N - 13)], ids=["as many", "fewer"])
def test_no_sequence_is_in_two_splits(counts):
    both = [tagged(n, model=m) for m, n in enumerate(counts)]
    seen = {}
    for split, made in zip(SPLITS, mh.text_pairs(both, (400, 200, 200), margin=2), strict=True):
        rows = [
            owner(int(t))[1]
            for pairs in made.values()
            for t in (*pairs.source_inputs[:, 0], *pairs.target_inputs[:, 0])
        ]
        seen[split] = set(rows)
    assert not seen["train"] & seen["valid"]
    assert not seen["train"] & seen["test"]
    assert not seen["valid"] & seen["test"]
    assert [len(seen[split]) for split in SPLITS] == [29, 3, 8]  # a fifth of 40, a tenth of the others


def test_last_positions_are_uniform_and_targets_too():
    made = mh.text_pairs([tagged(model=m) for m in range(2)], (6000, 1, 1), margin=4)[0][0, 1]
    _, last = made.target_where.rows, torch.bincount(made.target_where.rows) - 1
    counts = torch.bincount(last, minlength=LENGTH)
    assert counts.nonzero()[:, 0].tolist() == list(range(4, LENGTH - 4))
    assert (counts[4:12] - 750).abs().max() < 130  # 5 standard deviations
    for tokens in (made.source_inputs[:, 0], made.target_inputs[:, 0]):
        rows = torch.bincount(tokens // 100 % 100)
        found = rows[rows > 0]
        assert len(found) == 29
        assert (found - 6000 / 29).abs().max() < 75


def test_directions_of_one_source_share_what_they_can():
    made = mh.text_pairs([tagged(model=m) for m in range(3)], (30, 5, 5), margin=4)[0]
    for target in (1, 2):
        own, other = made[0, 0], made[0, target]
        for part in ("source_inputs", "source_where", "target_where", "labels", "label_mask", "source_key"):
            assert getattr(own, part) is getattr(other, part), part
        assert own.source_where is own.target_where
        assert not torch.equal(own.target_inputs, other.target_inputs)
    assert not torch.equal(made[0, 0].source_inputs[:, 0] % 10_000, made[1, 0].source_inputs[:, 0] % 10_000)


def test_draws_follow_the_seed():
    both = [tagged(model=m) for m in range(2)]
    first, again, other = (mh.text_pairs(both, (20, 5, 5), seed, margin=4) for seed in (0, 0, 1))
    for split in range(3):
        for way in first[split]:
            assert first[split][way].fingerprint == again[split][way].fingerprint
            assert torch.equal(first[split][way].target_inputs, again[split][way].target_inputs)
            assert first[split][way].fingerprint != other[split][way].fingerprint


def test_keys_are_those_of_what_was_read():
    """Equal over models as long as their texts are, and never else."""
    one, two = tagged(), tagged(side="right")
    changed = two.ids.clone()
    changed[:, 6] = 5
    made = mh.text_pairs([one, ResponseTokens(changed, two.argmax, 2_000_000)], (300, 5, 5), margin=4)[0]
    known = {}
    for source in range(2):
        pairs = made[source, 0]
        cells = zip(pairs.source_where.rows.tolist(), pairs.source_where.columns.tolist(), strict=True)
        for (row, column), key in zip(cells, pairs.source_key.tolist(), strict=True):
            known.setdefault(tuple(pairs.source_inputs[row, : column + 1].tolist()), set()).add(key)
    assert all(len(keys) == 1 for keys in known.values())
    assert len({key for keys in known.values() for key in keys}) == len(known)
    shared = set(made[0, 0].source_key.tolist()) & set(made[1, 0].source_key.tolist())
    assert {
        len(read) for read, (key,) in ((read, tuple(keys)) for read, keys in known.items()) if key in shared
    } == set(range(1, 7))


def test_a_position_is_no_further_than_every_target_has_read():
    short = torch.full((N,), 9)
    both = [tagged(), tagged(model=1, lengths=short)]
    train, _, _ = mh.text_pairs(both, (300, 20, 20), margin=3)
    assert int(train[0, 1].target_where.columns.max()) == 8
    assert int(train[1, 0].target_where.columns.max()) == 5


# --- what is refused -------------------------------------------------------------------------------------------------


def test_tokenizers_must_agree():
    ids = torch.ones(N, LENGTH, dtype=torch.long)
    with refused(SettingError, "vocabulary sizes is [60, 61]", "the tokenizers must be the same"):
        mh.text_pairs([ResponseTokens(ids, ids, 60), ResponseTokens(ids, ids, 61)])


def test_responses_that_do_not_fit_are_refused():
    ids, gaps = torch.ones(2, 4, dtype=torch.long), torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])
    with refused(ShapeError, "the ids of responses has shape (4,)"):
        ResponseTokens(ids[0], ids[0], 9)
    with refused(ShapeError, "the argmax of responses has shape (2, 3)"):
        ResponseTokens(ids, ids[:, 1:], 9)
    with refused(ShapeError, "the mask of responses has shape (2, 2)"):
        ResponseTokens(ids, ids, 9, gaps[:, :2])
    with refused(UnsupportedError, "a mask of responses with gaps (row 0)"):
        ResponseTokens(ids, ids, 9, gaps)
    with refused(SettingError, "the dtype of the argmax of responses is torch.float32"):
        ResponseTokens(ids, ids.float(), 9)
    with refused(SettingError, "a token in the ids of responses is 1, but must be 0 to 0"):
        ResponseTokens(ids, ids, 1)
    assert len(ResponseTokens(ids * 9, ids, 9, 0 * ids).ids) == 2  # what stands on padding does not matter


def test_settings_and_too_few_sequences_are_refused():
    own = tagged()
    with refused(EmptyError, "the list of responses is empty"):
        mh.text_pairs([])
    with refused(EmptyError, "(sizes (10, 0, 1))"):
        mh.text_pairs([own], (10, 0, 1))
    with refused(SettingError, "margin is -1"):
        mh.text_pairs([own], margin=-1)
    with refused(SettingError, "valid_share is 1.0, but must be between 0 and 1"):
        mh.text_pairs([own], valid_share=1.0)
    with refused(EmptyError, "the training part", "of model 0", "(margin 8)", "or a smaller margin"):
        mh.text_pairs([own], margin=8)
    with refused(EmptyError, "the validation part", "give more or longer sequences"):
        mh.text_pairs([tagged(8)], margin=2)


# --- two language models ---------------------------------------------------------------------------------------------


def qwen(seed, width=32):
    sizes = {"hidden_size": width, "intermediate_size": 48, "num_hidden_layers": 2, "initializer_range": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Qwen2Config(vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, **sizes)
        return mh.wrap(Qwen2ForCausalLM(config).eval().requires_grad_(False), name=f"qwen-{seed}")


def responses(model, n=64, prompt=6, length=14):
    """Greedy responses to prompts that all models share, padded on the left, and the argmax at every position."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY, (n, prompt), generator=generator)
    mask = (torch.arange(prompt) >= torch.randint(0, 3, (n, 1), generator=generator)).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    settings = {"max_new_tokens": length - prompt, "min_new_tokens": length - prompt, "do_sample": False}
    with torch.no_grad():
        whole = model.generate(inputs, **settings, pad_token_id=0)
        mask = torch.cat([mask, torch.ones(n, length - prompt, dtype=torch.long)], 1)
        logits = model.forward({"input_ids": whole, "attention_mask": mask})
    return ResponseTokens(whole, logits.argmax(-1), VOCABULARY, mask)


@pytest.fixture(scope="module")
def models():
    return [qwen(0), qwen(1, 40)]


@pytest.fixture(scope="module")
def written(models):
    return [responses(model) for model in models]


def test_labels_are_what_the_source_says_without_padding(models, written):
    """The stored argmax of padded rows is that of the packed ones: the source, left alone, is always right."""
    for made in mh.text_pairs(written, (40, 10, 10), margin=3):
        for source, model in enumerate(models):
            pairs = made[source, source]
            rows = [told(pairs, i) for i in range(len(pairs))]
            whole = torch.tensor([given[: c[-1] + 1] + read[c[-1] + 1 :] for c, given, read, _ in rows])
            said = model.forward(whole).argmax(-1)
            assert torch.equal(said[pairs.label_mask], pairs.labels[pairs.label_mask])


def loss(align, sets, source, target):
    """Over all wanted tokens of a direction."""
    with torch.no_grad():
        out = align.run(sets[source, target], source=source, target=target)
    return float(torch.nn.functional.cross_entropy(out.logits, out.labels))


def test_a_stepwise_fit_at_embed_lowers_the_loss(models, written):
    """Step by step: the checkpoint that `fit` keeps is chosen by whole trials, of which these models get none right."""
    train, valid, test = mh.text_pairs(written, (192, 32, 64), margin=3)
    align = mh.Alignment([model.at("embed") for model in models], rank=24)
    settings = mh.FitSettings(epochs=1, batch_size=64, learning_rate=2e-2)
    loop = FitLoop(align, mh.methods.stepwise(), (train, valid), settings, {})
    first, before = {way: loss(align, train, *way) for way in train}, mh.evaluate(align, test)
    for _ in range(60):
        loop.step()
    last, after = {way: loss(align, train, *way) for way in train}, mh.evaluate(align, test)
    for way in train:
        assert last[way] < 0.95 * first[way], (first, last)
        assert after.of(*way).trials == 64
    assert after.of(0, 0).token_accuracy > before.of(0, 0).token_accuracy
    fit = mh.fit(align, mh.methods.stepwise(), train, valid, settings, progress=False)
    assert (fit.steps, fit.stopped, fit.path) == (3, "epochs", "tail")


def test_the_shuffled_labels_control_runs(models, written):
    train, valid, test = mh.text_pairs(written, (32, 8, 8), margin=3)
    align = mh.Alignment([model.at("embed") for model in models], rank=8)
    settings = mh.FitSettings(epochs=1, batch_size=32)
    rows = ShuffledLabels(train, valid, settings).run(align, test).rows
    assert len(rows) == 4
    dealt = shuffle_labels(test, 0)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for way, pairs in test.items():
        for i in range(8):
            columns, _, _, _ = told(pairs, i)
            others, _, read, shown = told(dealt[way], i)
            source_columns, _, other_read, theirs = told(pairs, int(order[i]))
            assert columns == others
            assert list(shown.values()) == list(theirs.values())
            count = len(theirs) - 1
            u, v = columns[-1], source_columns[-1]
            assert read[u + 1 : u + 1 + count] == other_read[v + 1 : v + 1 + count]
