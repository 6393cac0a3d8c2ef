"""Pairs of models that read the same text: every position gives to itself, and what follows is the text's next token.

The pairs of a stitch (Lenc & Vedaldi 2015; Brown et al. 2023, §3): the tail of one model goes on from what the head of
another has made of the same tokens.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from mas_hooks import inputs as model_inputs
from mas_hooks.errors import SettingError, ShapeError
from mas_hooks.inputs import Inputs
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Where


def shared_texts(inputs: Inputs) -> Pairs:
    """One pair a row of ids (n, position): all real tokens are swapped, and each must be followed by the next.

    inputs: ids, or a mapping with `input_ids` and `attention_mask`; padding is neither swapped nor scored. Labels are
    scored at every real token with a real one behind it. Raises ShapeError for other than rows of ids, SettingError for
    features, EmptyError (of `Pairs`) for a row with less than two tokens.
    """
    ids, mask = model_inputs.leading(inputs), model_inputs.padding_mask(inputs)
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ShapeError("the ids of shared texts", tuple(ids.shape), "(n, position), two positions or more,")
    if ids.is_floating_point():
        raise SettingError("the dtype of the ids of shared texts", ids.dtype, "an integer: one token a position")
    real = torch.ones(ids.shape, dtype=torch.bool, device=ids.device) if mask is None else mask.to(ids.device)
    labels = functional.pad(ids[:, 1:], (0, 1))
    follows = real & functional.pad(real[:, 1:], (0, 1))
    where = Where.from_mask(real)
    return Pairs.from_tensors(inputs, where, inputs, where, labels, follows)
