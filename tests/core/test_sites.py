"""Cells of a batch, sites, recordings, and the inputs of models."""

import numpy as np
import pytest
import torch

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, PositionError, SettingError, ShapeError
from mas_hooks.core.sites import Site, Where, recording

H = torch.arange(24.0).view(2, 3, 4)


class Handle:
    name = "mine"


def test_gather_and_scatter_by_the_book():
    where = Where([1, 0, 1], [2, 0, 0])
    assert torch.equal(where.gather(H), torch.stack([H[1, 2], H[0, 0], H[1, 0]]))
    vectors = torch.randn(3, 4, dtype=torch.float64)
    written = where.scatter(H, vectors)
    assert written.dtype == H.dtype
    assert torch.equal(where.gather(written), vectors.float())
    untouched = ~torch.tensor([[True, False, False], [True, False, True]])
    assert torch.equal(written[untouched], H[untouched])
    assert torch.equal(H, torch.arange(24.0).view(2, 3, 4))


def test_scatter_lets_gradients_through_to_both():
    h, vectors = H.clone().requires_grad_(), torch.ones(1, 4, requires_grad=True)
    Where([0], [1]).scatter(h, vectors).sum().backward()
    expected = torch.ones(2, 3, 4)
    expected[0, 1] = 0
    assert torch.equal(h.grad, expected)
    assert torch.equal(vectors.grad, torch.ones(1, 4))


def test_ways_to_make_a_where():
    assert Where.one_per_row([2, 0]).rows.tolist() == [0, 1]
    mask = torch.tensor([[False, True], [True, True]])
    assert (Where.from_mask(mask).rows.tolist(), Where.from_mask(mask).columns.tolist()) == ([0, 1, 1], [1, 0, 1])
    assert len(Where([], [])) == 0
    assert Where([0], [1]).rows.dtype == Where([], []).columns.dtype == torch.int64


@pytest.mark.parametrize(("rows", "columns"), [([0, 1], [0]), ([[0]], [[1]])])
def test_uneven_cells_are_refused(rows, columns):
    with pytest.raises(ShapeError, match=r"Where\(rows, columns\) has shape .* but two equally long lists of integers"):
        Where(rows, columns)


@pytest.mark.parametrize(("row", "column"), [(2, 0), (-1, 0), (0, 3), (1, -1)])
def test_cells_outside_are_named(row, column):
    with pytest.raises(PositionError) as caught:
        Where([0, row], [0, column]).check(2, 3, None, "the batch")
    assert str(caught.value) == (
        f"position {column} of row {row} is not in the batch: rows run 0 to 1, positions 0 to 2."
    )


def test_cells_on_padding_are_named():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    Where([0, 1], [2, 0]).check(2, 3, mask, "the batch")
    with pytest.raises(PositionError) as caught:
        Where([0, 1], [2, 1]).check(2, 3, mask, "the batch")
    assert str(caught.value) == (
        "position 1 of row 1 is not in the batch: that cell is padding (attention_mask 0); "
        "mas_hooks.positions counts tokens."
    )


def test_a_site_in_words():
    assert str(Site(Handle(), "state", 4)) == "mine:state"
    assert str(Site(Handle(), "head", 4, "input")) == "mine:head:input"


def test_recordings_of_rows_and_of_sequences():
    flat = recording(np.ones((5, 4)), {"count": range(5)}, "area V4")
    assert flat.activations.shape == (5, 1, 4)
    assert flat.activations.dtype == torch.float32
    assert flat.variables["count"].shape == (5, 1)
    assert (flat.width, str(flat)) == (4, "area V4")
    long = recording(H, {"count": np.zeros((2, 3))}, "area V4")
    assert torch.equal(long.activations, H)


def test_recordings_that_do_not_fit():
    with pytest.raises(ShapeError, match="recording 'area V4' has shape \\(4,\\), but \\(rows, width\\) or"):
        recording(torch.zeros(4), {}, "area V4")
    with pytest.raises(ShapeError, match="variable 'count' of recording 'area V4' has shape \\(3,\\), but \\(2, 3\\)"):
        recording(H, {"count": np.zeros(3)}, "area V4")


def test_leading_tensor():
    ids, other = torch.zeros(2, 3), torch.zeros(5)
    assert model_inputs.leading_tensor(ids) is ids
    for name in ("input_ids", "inputs_embeds"):
        assert model_inputs.leading_tensor({"other": other, name: ids}) is ids
    assert model_inputs.leading_tensor({"tokens": ids, "other": other}) is ids
    with pytest.raises(EmptyError, match="the mapping of inputs is empty; give it what the model takes, by name"):
        model_inputs.leading_tensor({})


def test_rows_mask_and_device_of_inputs():
    mapping = {"input_ids": torch.arange(6).view(3, 2), "attention_mask": torch.tensor([[1, 0], [1, 1], [0, 1]])}
    taken = model_inputs.select_rows(mapping, torch.tensor([2, 0]))
    assert torch.equal(taken["input_ids"], torch.tensor([[4, 5], [0, 1]]))
    assert torch.equal(model_inputs.padding_mask(taken), torch.tensor([[False, True], [True, False]]))
    assert torch.equal(model_inputs.select_rows(mapping["input_ids"], slice(1, 2)), torch.tensor([[2, 3]]))
    assert model_inputs.padding_mask(mapping["input_ids"]) is None
    assert model_inputs.padding_mask({"input_ids": taken["input_ids"]}) is None
    meta = torch.device("meta")
    assert model_inputs.to_device(mapping, meta)["input_ids"].device == meta
    assert model_inputs.to_device(mapping["input_ids"], meta).device == meta


def test_call_by_keyword_or_alone():
    class Taking(torch.nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    assert model_inputs.call_module(Taking(), H) == ((H,), {})
    assert model_inputs.call_module(Taking(), {"x": H}) == ((), {"x": H})


def test_where_takes_whole_numbers_only():
    with pytest.raises(SettingError, match=r"Where\(rows\) is \[0.5\], but must be a list of integers"):
        Where([0.5], [1])
