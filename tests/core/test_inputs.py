import pytest
import torch
from torch import nn

from mas_hooks.core import inputs
from mas_hooks.core.errors import MasHooksError, SettingError

IDS = torch.arange(6).view(2, 3)
MASK = torch.tensor([[0, 1, 1], [1, 1, 1]])


def test_the_leading_tensor_is_the_ids_then_the_embeddings_then_the_first():
    assert inputs.leading_tensor(IDS) is IDS
    assert inputs.leading_tensor({"attention_mask": MASK, "input_ids": IDS}) is IDS
    assert inputs.leading_tensor({"attention_mask": MASK, "inputs_embeds": IDS}) is IDS
    assert inputs.leading_tensor({"pixels": IDS}) is IDS
    with pytest.raises(MasHooksError):
        inputs.leading_tensor({})


def test_padding_is_told_by_the_attention_mask():
    assert inputs.padding_mask(IDS) is None
    assert inputs.padding_mask({"input_ids": IDS}) is None
    found = inputs.padding_mask({"input_ids": IDS, "attention_mask": MASK})
    assert found is not None
    assert found.tolist() == [[False, True, True], [True, True, True]]


def test_rows_and_cat_undo_each_other():
    for given in (IDS, {"input_ids": IDS, "attention_mask": MASK}):
        parts = [inputs.select_rows(given, slice(0, 1)), inputs.select_rows(given, torch.tensor([1]))]
        assert inputs.have_same_shapes(parts)
        whole = inputs.join_inputs(parts)
        assert torch.equal(inputs.leading_tensor(whole), IDS)
        assert type(whole) is type(given)


def test_inputs_of_other_lengths_or_names_are_not_alike():
    assert not inputs.have_same_shapes([IDS, IDS[:, :2]])
    assert not inputs.have_same_shapes([{"input_ids": IDS}, {"input_ids": IDS, "attention_mask": MASK}])
    assert not inputs.have_same_shapes([IDS, {"input_ids": IDS}])


def test_a_tensor_is_the_one_argument_and_a_mapping_is_keywords():
    class Two(nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return input_ids if attention_mask is None else input_ids * attention_mask

    assert torch.equal(inputs.call_module(Two(), IDS), IDS)
    assert torch.equal(inputs.call_module(Two(), {"attention_mask": MASK, "input_ids": IDS}), IDS * MASK)
    moved = inputs.to_device({"input_ids": IDS}, torch.device("meta"))
    assert inputs.leading_tensor(moved).device.type == "meta"


@pytest.mark.parametrize("given", ["The capital", ["one", "two"], [[1, 2, 3]], {"input_ids": [[1, 2]]}, None])
def test_texts_and_lists_are_no_inputs(given):
    with pytest.raises(
        SettingError, match=r"^the input of a model is a \w+, not a tensor of ids or a mapping of tensors; "
    ):
        inputs.leading_tensor(given)
