"""Two models on one text: every real token is swapped, and must be followed by the next; padding is left out."""

import pytest
import torch

from mas_hooks.core.errors import EmptyError, SettingError, ShapeError
from mas_hooks.data.text_pairs import shared_text_pairs

IDS = torch.tensor([[5, 6, 7, 8], [3, 4, 0, 0]])


def test_every_position_and_its_next_token():
    pairs = shared_text_pairs(IDS)
    assert torch.equal(pairs.labels[:, :3], IDS[:, 1:])
    assert pairs.label_mask.tolist() == [[True, True, True, False]] * 2
    assert len(pairs.target_where) == len(pairs.source_where) == 8
    assert pairs.source_inputs is pairs.target_inputs is IDS
    assert torch.equal(pairs.target_where.gather(IDS[..., None])[:, 0], IDS.flatten())


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_left_out(side):
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    given = {"input_ids": IDS, "attention_mask": mask}
    if side == "left":
        given = {"input_ids": IDS.flip(1), "attention_mask": mask.flip(1)}
    pairs = shared_text_pairs(given)
    assert pairs.label_mask.sum(1).tolist() == [3, 1]
    assert torch.bincount(pairs.target_where.rows).tolist() == [4, 2]
    row, column = pairs.label_mask[1:].nonzero()[0].tolist()
    assert pairs.labels[1 + row, column] == given["input_ids"][1, column + 1]


def test_refusals():
    with pytest.raises(ShapeError, match=r"the ids of shared texts has shape \(2, 1\)"):
        shared_text_pairs(IDS[:, :1])
    with pytest.raises(SettingError, match=r"the dtype of the ids of shared texts is torch.float32"):
        shared_text_pairs(IDS.float())
    with pytest.raises(EmptyError, match="label_mask of pair 1 is empty"):
        shared_text_pairs({"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])})
