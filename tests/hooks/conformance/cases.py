"""The canonical names that each family must have, and the same edit said to the package and to the model by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from hooks.conformance.batches import ids, mask, moved
from hooks.conformance.hand import EMBED, Key, Run, hand_run
from hooks.conformance.hand_blocks import Fn
from hooks.conformance.tiny import HEADS, TINY
from torch import Tensor

import mas_hooks as mh

# Real cells of ids() under padding on either side; ragged: the rows have 3, 1 and 2 of them.
ROWS, COLUMNS = [0, 0, 0, 1, 2, 2], [2, 3, 9, 5, 1, 8]
WHERE = mh.Where(ROWS, COLUMNS)

PARALLEL = {"phi", "gptj", "gpt_neox", "falcon", "falcon-new", "falcon-new-one-norm"}
POST_NORM = {"bert", "opt-post", "bloom-post"}
WITH_MID = set(TINY) - PARALLEL - POST_NORM  # the stream after the attention is block input + attn_out
OWN = {"attn.hook_z": "z"} | {f"hook_{name}": name for name in ("resid_pre", "attn_out", "mlp_out", "resid_post")}
EVERY = ["embed", *(f"blocks.1.{name}" for name in [*OWN, "hook_resid_mid", "attn.hook_z[2]"])]
CASES = [(family, name) for family in TINY for name in EVERY if "mid" not in name or family in WITH_MID]


@cache
def model(family: str) -> Any:
    """The tiny model, made once a session; leave it as it is."""
    return TINY[family]()


@cache
def plain(family: str, padding: str = "left") -> Run:
    """The forward by hand without edits."""
    return edited_by_hand(family, (), padding)


def inputs(padding: str = "left") -> dict[str, Tensor]:
    """What the handle is given."""
    return {"input_ids": ids(), "attention_mask": mask(padding)}


def names_of(family: str, layer: int) -> list[str]:
    """The canonical names of one block, heads left out."""
    mid = ["hook_resid_mid"] if family in WITH_MID else []
    return [f"blocks.{layer}.{name}" for name in [*OWN, *mid]]


def key(name: str) -> tuple[Key, int | None]:
    """The hand's key of a canonical name, and which head it means (None: all)."""
    if name == "embed":
        return EMBED, None
    _, layer, own = name.split(".", 2)
    own, _, head = own.partition("[")
    return (int(layer), OWN.get(own, own.removeprefix("hook_"))), int(head.rstrip("]")) if head else None


def seen_at(name: str, run: Run) -> Tensor:
    """What the hand has at a canonical name: (batch, position, width of the name)."""
    own, head = key(name)
    return run.cache[own][..., _units(head, run.cache[own].shape[-1])]


def site_edit(handle: Any, name: str, fn: Fn = moved) -> mh.Edit:
    """`fn` on the ragged cells of a name, as the package does it."""
    return mh.Edit(handle.at(name), fn, WHERE)


def edited_by_hand(family: str, names: Sequence[str], padding: str = "left", fn: Fn = moved) -> Run:
    """`fn` on the ragged cells of all these names, as the hand does it."""
    edits: dict[Key, Fn] = {}
    for name in names:
        own, head = key(name)
        edits[own] = _then(edits.get(own), _at_cells(head, fn))
    with torch.set_grad_enabled(fn is not moved):
        return hand_run(family, model(family), ids(), mask(padding), edits)


def _units(head: int | None, width: int) -> slice:
    size = width // HEADS
    return slice(None) if head is None else slice(head * size, (head + 1) * size)


def _at_cells(head: int | None, fn: Fn) -> Fn:
    def edit(h: Tensor) -> Tensor:
        own, out = _units(head, h.shape[-1]), h.clone()
        out[ROWS, COLUMNS, own] = fn(h[ROWS, COLUMNS, own])
        return out

    return edit


def _then(first: Fn | None, second: Fn) -> Fn:
    return second if first is None else lambda h: second(first(h))
