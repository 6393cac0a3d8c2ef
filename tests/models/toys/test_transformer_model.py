import cmath
import math

import pytest
import torch
from torch import nn

import mas_hooks as mh
from mas_hooks.core.errors import SettingError
from mas_hooks.models.toys.transformer import TransformerModel, rotate_half
from mas_hooks.training.controls import reinitialise_models

IDS = torch.tensor([[1, 2, 3, 4, 5, 2], [1, 6, 2, 0, 0, 0]])
VOCABULARY, WIDTH = 7, 12
NAMES = ["embed", *(f"blocks.{index}.hook_resid_{side}" for index in range(2) for side in ("pre", "post"))]


def model(heads=1, layers=2, width=WIDTH, seed=0):
    """Weights large enough for every part to matter."""
    torch.manual_seed(seed)
    made = TransformerModel(VOCABULARY, width, layers, heads, dropout=0.5).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "embedding.weight":
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made


# --- the forward, written out slowly: one trial, one position, one head at a time, in float64 -------------------------


def normed(x, weights, name):
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def gelu(x):
    return torch.stack([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def turned(x, position):
    """Complex numbers (unit i, unit i + half) times e^(position · 10000^(−i / half) · √−1)."""
    half = len(x) // 2
    pairs = [complex(x[i], x[i + half]) * cmath.exp(1j * position * 10_000 ** (-i / half)) for i in range(half)]
    return torch.tensor([one.real for one in pairs] + [one.imag for one in pairs], dtype=torch.float64)


def attended(stream, weights, at, heads):
    """What attention adds to the stream of every position."""
    width, added = len(stream[0]), []
    size = width // heads
    parts = [linear(normed(x, weights, f"{at}.norm"), weights, f"{at}.mix.query_key_value") for x in stream]
    for position in range(len(stream)):
        mixed = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            query, keys, values = (
                turned(parts[position][:width][own], position),
                [turned(parts[seen][width : 2 * width][own], seen) for seen in range(position + 1)],
                [parts[seen][2 * width :][own] for seen in range(position + 1)],
            )
            weight = torch.stack([query @ key / math.sqrt(size) for key in keys]).softmax(0)
            mixed.append(sum(share * value for share, value in zip(weight, values, strict=True)))
        added.append(linear(torch.cat(mixed), weights, f"{at}.output"))
    return added


def by_hand(own, ids, heads):
    """Logits of one trial, and the residual stream below, between and above the blocks."""
    weights = {name: tensor.double() for name, tensor in own.state_dict().items()}
    stream = [weights["embedding.weight"][token] for token in ids]
    streams = [torch.stack(stream)]
    for index in range(len(own.blocks)):
        at = f"blocks.{index}"
        stream = [a + b for a, b in zip(stream, attended(stream, weights, f"{at}.attention", heads), strict=True)]
        hidden = [gelu(linear(normed(x, weights, f"{at}.mlp.norm"), weights, f"{at}.mlp.hidden")) for x in stream]
        stream = [x + linear(h, weights, f"{at}.mlp.output") for x, h in zip(stream, hidden, strict=True)]
        streams.append(torch.stack(stream))
    return torch.stack([linear(normed(x, weights, "norm"), weights, "head") for x in stream]), streams


@pytest.mark.parametrize(("heads", "layers"), [(1, 2), (3, 1)])
def test_forward_written_out(heads, layers):
    own = model(heads, layers)
    for row in IDS:
        logits, _ = by_hand(own, row.tolist(), heads)
        torch.testing.assert_close(own(row[None])[0].double(), logits, rtol=1e-5, atol=1e-5)


def test_names_and_widths_of_its_sites():
    handle = mh.wrap(model(), layer_path="blocks")
    assert handle.hook_points()[:5] == NAMES
    assert {name: handle.at(name).width for name in NAMES} == dict.fromkeys(NAMES, WIDTH)
    assert handle.at("blocks.0.attention").width == WIDTH  # the stream between attention and network


def test_sites_hold_the_residual_stream():
    own = model()
    logits, cache = mh.wrap(own, layer_path="blocks").run_with_cache(IDS)
    _, streams = by_hand(own, IDS[0].tolist(), heads=1)
    for name, expected in zip(NAMES, [0, 0, 1, 1, 2], strict=True):
        torch.testing.assert_close(cache[name][0].double(), streams[expected], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, own(IDS))


def test_an_edit_after_layer_1_reaches_later_positions_only():
    own = model()
    handle = mh.wrap(own, layer_path="blocks")
    edit = mh.Edit(handle.at("blocks.0.hook_resid_post"), lambda h: h + torch.randn_like(h), mh.Where([0], [3]))
    changed = (handle.run_with_hooks(IDS, edit) - own(IDS)).abs().amax(-1) > 1e-6
    assert changed.tolist() == [[False] * 3 + [True] * 3, [False] * 6]


# --- what must hold of any weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(6))
def test_a_position_sees_only_what_came_before(position):
    own, changed = model(), IDS.clone()
    changed[:, position] = (changed[:, position] + 1) % VOCABULARY
    moved = (own(changed) - own(IDS)).abs().amax(-1) > 1e-6
    assert not moved[:, :position].any()
    assert moved[:, position:].all()


def test_padding_on_the_right_changes_nothing():
    own = model()
    padded = torch.cat([IDS, torch.zeros(2, 5, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(own(padded)[:, :6], own(IDS), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own(IDS)[1, :3], own(IDS[1:, :3])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [1, 7, 50])
def test_rotated_scores_tell_distance_not_place(shift):
    query, key = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def scores(at):
        first = torch.zeros(at, 8, dtype=torch.float64)
        return rotate_half(torch.cat([first, query]))[at:] @ rotate_half(torch.cat([first, key]))[at:].T

    torch.testing.assert_close(scores(shift), scores(0), rtol=0, atol=1e-5)  # angles are float32
    plain = query @ key.T
    torch.testing.assert_close(scores(0).diag(), plain.diag(), rtol=0, atol=1e-5)
    apart = ~torch.eye(5, dtype=torch.bool)
    assert ((scores(0) - plain).abs()[apart] > 1e-3).all()


def test_order_matters_through_rotary_positions_alone():
    own = model(layers=1)
    ids, swapped = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 3, 2, 4]])
    assert not torch.allclose(own(ids)[:, -1], own(swapped)[:, -1], atol=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mas_hooks.models.toys.transformer.rotate_half", lambda x: x)
        torch.testing.assert_close(own(ids)[:, -1], own(swapped)[:, -1], rtol=1e-5, atol=1e-5)


def test_parameters_counted_by_hand():
    block = 2 * 2 * WIDTH + 3 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * WIDTH + 8 * WIDTH**2 + 5 * WIDTH
    ends = VOCABULARY * WIDTH + 2 * WIDTH + (WIDTH + 1) * VOCABULARY
    own = TransformerModel(VOCABULARY, WIDTH)
    assert sum(parameter.numel() for parameter in own.parameters()) == 2 * block + ends
    assert len(own.blocks) == 2
    assert own.get_submodule("blocks.0.attention.mix").heads == 1


def test_dropout_acts_in_training_only():
    own = model()
    assert not torch.equal(own.train()(IDS), own(IDS))
    assert torch.equal(own.eval()(IDS), own(IDS))
    assert {part.p for part in TransformerModel(7).modules() if isinstance(part, nn.Dropout)} == {0.1}


def test_every_part_can_be_drawn_anew():
    own = model()
    fresh = reinitialise_models(own, seed=5)
    assert not torch.allclose(fresh(IDS), own(IDS))


@pytest.mark.parametrize(("width", "heads", "multiple"), [(13, 1, 2), (12, 4, 8)])
def test_a_head_needs_an_even_width(width, heads, multiple):
    told = f"^the width of a transformer is {width}, but must be a multiple of {multiple}: heads turn pairs"
    with pytest.raises(SettingError, match=told):
        TransformerModel(VOCABULARY, width, heads=heads)
