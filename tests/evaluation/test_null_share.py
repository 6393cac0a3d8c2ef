"""Null shares of whole alignments: hand-made models whose answer is known on paper, and trained toys."""

import math

import pytest
import torch
from torch import nn

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.core.sites import Where, recording
from mas_hooks.data.pairs import Pairs
from mas_hooks.evaluation import null_share as room
from mas_hooks.evaluation.null_share import natural_pairs, null_space_shares
from mas_hooks.evaluation.null_space import linear_part, null_share, null_space, received_by_target
from mas_hooks.hooks.wrap import wrap

TINY = 1e-7
"""A tolerance at which the null space of the hand-made models is their exact one."""
WIDE, TALL = 2.0, 0.5
"""The spreads of the causal and of the extraneous axis."""


class Looks(nn.Module):
    """Four tokens are the corners (±WIDE, ±TALL) of a plane; the answer depends on one direction of it."""

    def __init__(self, direction):
        super().__init__()
        corners = torch.cartesian_prod(torch.tensor([-WIDE, WIDE]), torch.tensor([-TALL, TALL]))
        self.embedding, self.head = nn.Embedding(4, 2), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.embedding.weight.copy_(corners)
            self.head.weight.copy_(torch.stack([torch.tensor(direction), -torch.tensor(direction)]))

    def forward(self, ids):
        return self.head(self.embedding(ids))


def corner_pairs(corners=(0, 1, 2, 3)):
    """Corners at the middle of three tokens, equally often; wanted there and, in half the rows, behind."""
    ids = torch.tensor([[row % 3, corners[row % len(corners)], row % 2] for row in range(96)])
    where = Where.one_per_row([1] * 96)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    mask[:, 1], mask[::2, 2] = True, True
    return Pairs.from_tensors(ids, where, ids.flip(0), where, torch.zeros_like(ids), mask)


def found(rows, measure, control=None):
    (row,) = [row for row in rows if (row.measure, row.control) == (measure, control)]
    return row


def plane(plan, source=(1.0, 0.0), target=(1.0, 0.0)):
    models = [wrap(Looks(looks).eval(), name=name) for name, looks in (("s", source), ("t", target))]
    return Alignment.from_plan(plan, [model.at("embedding") for model in models])


def shares(alignment, pairs=None, natural=None, **keys):
    keys = {"source": 0, "target": 1, "tolerances": (TINY,), **keys}
    return null_space_shares(alignment, pairs or corner_pairs(), natural or corner_pairs(), **keys)


def expected(causal, extraneous):
    """x₂² σ_e² / (x₁² σ_c² + x₂² σ_e²) for a read-out x₁ c + x₂ e."""
    return (extraneous * TALL) ** 2 / ((causal * WIDE) ** 2 + (extraneous * TALL) ** 2)


@pytest.mark.parametrize("row", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, -3.0)])
def test_a_stitch_reads_what_it_was_made_to_read(row):
    """The target looks at its first unit, so the first row of the stitch is all that counts."""
    alignment = plane(methods.stitch(1))
    alignment.direction_transports[0, 1].start(torch.tensor([row, (5.0, -7.0)]))
    rows = shares(alignment)
    assert found(rows, "null_share@1e-07").value == pytest.approx(expected(*row), abs=1e-5)
    assert found(rows, "null_share@1e-07", "itself").value == pytest.approx(0, abs=1e-5)
    assert found(rows, "null_share@1e-07", "everything").value == pytest.approx(expected(1, 1), abs=1e-5)
    assert found(rows, "null_dims@1e-07").value == pytest.approx(1, abs=1e-5)
    response = found(rows, "null_response@1e-07").value
    if 0 in row:
        assert response == pytest.approx(row[1], abs=1e-6)
    else:
        assert 0.001 < response < 0.999
    assert found(rows, "null_response@1e-07", "itself").value == pytest.approx(0, abs=1e-6)


def test_what_is_read_is_weighed_by_how_the_source_varies_in_its_own_trials():
    """Where the extraneous axis never moves in natural trials, nothing is read from it, whatever the pairs hold."""
    alignment = plane(methods.stitch(1))
    alignment.direction_transports[0, 1].start(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    rows = shares(alignment, natural=corner_pairs((0, 2)))
    assert found(rows, "null_share@1e-07").value == pytest.approx(0, abs=1e-5)
    assert found(rows, "null_response@1e-07").value > 0.001


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.0, math.pi / 2])
@pytest.mark.parametrize("into", [0.0, 0.8])
def test_a_map_reads_along_its_frame(angle, into):
    """One shared dim: cos c + sin e of the source. How it is written into the target scales all of it alike."""
    alignment = plane(methods.mas(MapSpec(rank=1, centre=True)))
    alignment.set_frames([torch.tensor([[math.cos(turn)], [math.sin(turn)]]) for turn in (angle, into)])
    rows = shares(alignment)
    share = expected(math.cos(angle), math.sin(angle))
    assert found(rows, "null_share@1e-07").value == pytest.approx(share, abs=1e-5)
    within = found(shares(alignment, target=0), "null_share@1e-07").value
    if math.cos(angle) < 1e-6:
        assert within is None  # what is read is written where the source itself does not look
    else:
        assert within == pytest.approx(share, abs=1e-5)


def test_what_the_target_ignores_is_not_read():
    """The stitch moves everything; only what arrives in the target's second unit counts there."""
    alignment = plane(methods.stitch(1), target=(0.0, 1.0))
    alignment.direction_transports[0, 1].start(torch.tensor([[5.0, -7.0], [0.0, 2.0]]))
    rows = shares(alignment)
    assert found(rows, "null_share@1e-07").value == pytest.approx(1, abs=1e-5)
    alignment.direction_transports[0, 1].start(torch.tensor([[5.0, -7.0], [0.0, 0.0]]))
    nothing = [row for row in shares(alignment) if row.control is None and row.measure != "null_dims@1e-07"]
    assert [(row.value, row.value_low, row.trials) for row in nothing] == [(None, None, 96)] * 2


@pytest.mark.parametrize("plan", [methods.mas(MapSpec(rank=1)), methods.stitch(1), methods.stitch(1, kind="affine")])
@pytest.mark.parametrize("tolerance", [0.1, 0.001])
def test_the_same_as_the_matrix_weighted_by_what_the_target_receives(plan, tolerance):
    looks, alignment = torch.tensor([[0.6, -0.8]]), plane(plan, source=(1.0, 0.3), target=(0.6, -0.8))
    h = alignment.models[0].module.embedding.weight.detach().repeat(24, 1)
    operator, way = alignment.swap_operator(), Direction(0, 1)
    matrix = linear_part(lambda rows: operator.swap(way, torch.zeros(len(rows), 2), rows).detach(), h)
    null = null_space(torch.tensor([[1.0, 0.3], [-1.0, -0.3]]), h, tolerance)
    share = null_share(received_by_target(matrix, looks), null).share
    assert 0.001 < share < 0.999
    rows = shares(alignment, tolerances=(tolerance,))
    assert found(rows, f"null_share@{tolerance:g}").value == pytest.approx(share, abs=1e-5)


@pytest.fixture(scope="module")
def natural(small_toys):
    return natural_pairs(small_toys[0].task, 400, seed=3)


def test_natural_trials_go_on_as_they_are(small_toys, natural):
    task = small_toys[0].task
    assert len(natural) == 400
    lengths = []
    for ids, labels, mask, column in zip(
        natural.target_inputs, natural.labels, natural.label_mask, natural.target_where.columns, strict=True
    ):
        whole = [task.vocabulary.tokens[one] for one in [*ids.tolist(), int(labels[-1])]]
        whole = whole[: whole.index("E") + 1]
        task.replay(whole)
        assert int(column) in task.swap_positions(whole)
        assert mask.nonzero()[:, 0].tolist() == list(range(int(column), len(whole) - 1))
        assert [task.vocabulary.tokens[one] for one in labels[mask].tolist()] == whole[int(column) + 1 :]
        lengths.append(int(mask.sum()))
    assert len(set(lengths)) > 5
    assert len(set(natural.target_where.columns.tolist())) > 8  # demo and response tokens
    assert natural.source_inputs is natural.target_inputs
    again, other = natural_pairs(task, 400, seed=3), natural_pairs(task, 400, seed=4)
    assert again.fingerprint == natural.fingerprint != other.fingerprint


@pytest.mark.parametrize("plan", [methods.mas(MapSpec(rank=4)), methods.stitch(1, rank=4), methods.stitch()])
def test_rows_of_toys(small_sites, small_pairs, natural, plan):
    alignment = Alignment.from_plan(plan, small_sites, seed=5)
    rows = null_space_shares(alignment, small_pairs[2], natural, source=0, target=1, most=100)
    per = [("dims", None), ("share", "everything")]
    per += [(what, control) for control in (None, "itself") for what in ("share", "response")]
    told = [(f"null_{what}@{end}", control) for end in ("0.1", "0.01", "0.001") for what, control in per]
    assert [(row.measure, row.control) for row in rows] == told
    for row in rows:
        assert (row.source_model, row.target_model, row.source, row.target) == ("gru-0", "gru-1", 0, 1)
        assert (row.method, row.k, row.source_site) == (plan.method, alignment.k, "state")
        assert row.value is not None
        if row.trials is None:
            assert row.value_low is row.value_high is None
            continue
        assert row.trials == 100
        assert 0 <= row.value_low < row.value < row.value_high <= 1
    for end in ("0.1", "0.01", "0.001"):
        floor, all_alike = (found(rows, f"null_share@{end}", control).value for control in ("itself", "everything"))
        assert floor < 0.2 * all_alike
        assert found(rows, f"null_share@{end}").value > floor  # random maps read what the source ignores
        assert found(rows, f"null_response@{end}", "itself").value < found(rows, f"null_response@{end}").value
    dims = [row.value for row in rows if row.measure.startswith("null_dims")]
    assert 16 > dims[0] > dims[1] > dims[2] > 0


def test_seeds_decide_and_nothing_else(small_sites, small_pairs, natural):
    alignment = Alignment(small_sites, rank=4)

    def values(seed):
        state = torch.random.get_rng_state()
        rows = null_space_shares(alignment, small_pairs[2], natural, source=1, target=0, tolerances=(0.01,), seed=seed)
        assert torch.equal(state, torch.random.get_rng_state())
        assert {row.seed for row in rows} == {seed}
        return [row.value for row in rows]

    assert values(0) == values(0) != values(1)


def test_a_swap_of_everything_within_a_model_is_the_floor(small_sites, natural):
    """On natural trials, with all dims swapped, what is composed is the source's own behaviour."""
    alignment = Alignment(small_sites, rank=16, init="identity")
    rows = null_space_shares(alignment, natural, natural, source=0, target=0, tolerances=(0.1,), most=400)
    for measure in ("null_share@0.1", "null_response@0.1"):
        one, floor = found(rows, measure).value, found(rows, measure, "itself").value
        assert one == pytest.approx(floor, rel=0.3)
        assert one < 0.5 * found(rows, "null_share@0.1", "everything").value


def test_rows_of_unequal_length_keep_their_own_answers(small_sites, small_pairs):
    """Each row of the composed behaviour holds the logits that the alignment's own run gives for that pair."""
    alignment, pairs = Alignment(small_sites, rank=4), small_pairs[2][0, 1]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        own = room.part_responses
        patch.setattr(room, "part_responses", lambda *args: seen.append(args) or own(*args))
        null_space_shares(alignment, small_pairs[2], pairs, source=0, target=1, tolerances=(0.01,), most=60)
    respond, h, *_ = seen[0]
    dense, run = respond(h), alignment.run(pairs, source=0, target=1)
    assert len(dense) == len(respond.index) == 60
    for logits, pair in zip(dense, respond.index.tolist(), strict=True):
        real = run.logits[run.pair == pair]
        torch.testing.assert_close(logits[: len(real)], real, rtol=1e-5, atol=1e-5)
        assert torch.equal(logits[len(real) :], torch.zeros_like(logits[len(real) :]))


def test_maps_that_are_not_linear_have_a_share_too(small_sites, small_pairs, natural):
    """The read-out is the gradient of what is composed, so it needs no matrix."""
    keys = {"source": 0, "target": 1, "tolerances": (0.01,), "most": 64}
    for alignment in (
        Alignment(small_sites, rank=4, kind="reversible", depth=1, hidden=8),
        Alignment.from_plan(methods.stitch(1, kind="affine", layer_norm="before"), small_sites),
    ):
        rows = null_space_shares(alignment, small_pairs[2], natural, **keys)
        assert 0 < found(rows, "null_share@0.01").value < 1


def test_what_has_no_null_share(small_toys, small_sites, small_pairs, natural):
    recorded = recording(torch.randn(9, 16), {"count": range(9)}, "cortex")
    mixed = Alignment([recorded, small_sites[1]], rank=4)
    one_way = Alignment.from_plan(methods.stitch(1, kind="affine", layer_norm="after"), small_sites)
    cells, test = Where([0, 0, 1], [0, 1, 1]), small_pairs[2]
    ids = torch.ones(2, 3, dtype=torch.long)
    several = Pairs.from_tensors(ids, cells, ids, cells, ids, ids.bool())
    with pytest.raises(
        UnsupportedError, match=r"^the null space of recording 'cortex' is not supported; name a source that can be run"
    ):
        null_space_shares(mixed, natural, natural, source=0, target=1)
    with pytest.raises(UnsupportedError, match=r"^a swap into recording 'cortex' is not supported; swap into models"):
        null_space_shares(mixed, natural, natural, source=1, target=0)
    with pytest.raises(UnknownNameError, match=r"^the alignment has no direction '1→0'\. .*There is: 0→1\.$"):
        null_space_shares(one_way, test, natural, source=1, target=0)
    alignment = Alignment(small_sites, rank=4)
    for given in ((several, natural), (test, several)):
        with pytest.raises(UnsupportedError, match=r"^the null share of pairs that swap several cells is not supp"):
            null_space_shares(alignment, *given, source=0, target=1)
    with pytest.raises(ShapeError, match=r"^the activations of a null space has shape \(9, 16\), but \(n, 16\) with n"):
        null_space_shares(alignment, test, natural, source=0, target=1, most=9)
    with pytest.raises(SettingError, match=r"^the tolerance of a null space is 2, but must be between 0 and 1\.$"):
        null_space_shares(alignment, test, natural, source=0, target=1, tolerances=(2,))
    with pytest.raises(SettingError, match=r"^the number of a site is 7, but must be one of 0 to 1\.$"):
        null_space_shares(alignment, test, natural, source=7, target=1)
    with pytest.raises(EmptyError, match=r"^the set of natural trials of multi_object is empty; ask for at least one"):
        natural_pairs(small_toys[0].task, 0)
