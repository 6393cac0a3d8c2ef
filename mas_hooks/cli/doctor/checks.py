"""The checks: each runs a model with hooks and returns what it saw, or raises `DiffersError`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.sites import Site, Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.tails.decoder import find_tail_start
from mas_hooks.hooks import names
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.taps import Edit

ROWS, LENGTH, PADDED, RANK = 3, 12, 4, 4
CLOSE, CLOSE_LOW_PRECISION = 1e-4, 5e-2
NO_TAIL = "not for this model: it runs whole forwards, which are right and slower"


class DiffersError(Exception):
    """What a check saw instead of what it asks for."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A model under examination. sites: one of each kind, in its middle block; rows and columns of `where` differ."""

    model: HookedModel
    sites: list[Site]
    ids: Tensor
    where: Where
    plain: Tensor

    @classmethod
    def of(cls, model: HookedModel) -> Patient:
        """Random ids, and what the model gives for them without hooks."""
        core: Any = model.module
        config = core.config.get_text_config()
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1, config.vocab_size, (ROWS, LENGTH), generator=generator)
        canonical = list(names.canonical_names(core, model.layer_path, model.family))
        if not canonical:
            raise DiffersError("it has no canonical sites; name its list of blocks by --layer-path")
        middle = f"blocks.{config.num_hidden_layers // 2}."
        kinds = [name for name in canonical if name.startswith(middle) or not name.startswith("blocks.")]
        sites = [model.at(name, width=config.hidden_size) for name in kinds]
        where = Where.one_per_row(torch.arange(ROWS) * 2 + PADDED)
        with torch.no_grad():
            return cls(model, sites, ids, where, model.forward(ids))

    @property
    def stream(self) -> Site:
        """The site of the swaps: the last of the kinds, what leaves the middle block."""
        return self.sites[-1]

    @property
    def place(self) -> str:
        """Where the checks look."""
        kinds = ", ".join(site.name.rpartition(".")[2] for site in self.sites)
        return f"at {kinds}" + (f" of block {self.stream.name.split('.')[1]}" if "." in self.stream.name else "")

    @property
    def close(self) -> float:
        """How near two ways to one number must come."""
        return CLOSE if self.plain.dtype in (torch.float32, torch.float64) else CLOSE_LOW_PRECISION


def _distance(logits: Tensor, expected: Tensor) -> float:
    return float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def check_unchanged(patient: Patient) -> str:
    """An edit that gives back what it got changes no bit of the logits."""
    for site in patient.sites:
        with torch.no_grad():
            logits = patient.model.run_with_hooks(patient.ids, [Edit(site, torch.clone, patient.where)])
        if not torch.equal(logits, patient.plain):
            raise DiffersError(f"at {site.name} the logits move by {_distance(logits, patient.plain):.1g}")
    return f"{patient.place}, bit for bit"


def check_effective(patient: Patient) -> str:
    """An edit that changes its cells changes the logits."""
    for site in patient.sites:
        with torch.no_grad():
            logits = patient.model.run_with_hooks(patient.ids, [Edit(site, torch.neg, patient.where)])
        if torch.equal(logits, patient.plain):
            raise DiffersError(f"an edit at {site.name} has no effect")
    return "at each of them"


def check_padding(patient: Patient) -> str:
    """Padding changes no logit: on the left for decoders, on the right for others."""
    ids, left = patient.ids, patient.model.family and patient.model.family.decoder
    empty = torch.zeros(ROWS, PADDED, dtype=ids.dtype)
    padded, mask = ([pad, real] if left else [real, pad] for real, pad in ((ids, empty), (torch.ones_like(ids), empty)))
    with torch.no_grad():
        logits = patient.model.forward({"input_ids": torch.cat(padded, 1), "attention_mask": torch.cat(mask, 1)})
    if logits.ndim == 3:
        logits = logits[:, PADDED:] if left else logits[:, :-PADDED]
    if (off := _distance(logits, patient.plain)) > patient.close:
        raise DiffersError(f"the logits move by {off:.1g}")
    return f"moves the logits by {off:.1g}"


def check_learning(patient: Patient) -> str:
    """The gradient of the logits reaches an alignment's map at every site."""
    for site in patient.sites:
        align = Alignment([site], rank=min(RANK, site.width - 1))
        given = torch.randn(ROWS, site.width, generator=torch.Generator().manual_seed(1))
        edit = align.edit(target=0, source=0, vectors=given.to(patient.plain.device), where=patient.where)
        patient.model.run_with_hooks(patient.ids, [edit]).float().square().mean().backward()
        gradients = [parameter.grad for parameter in align.parameters()]
        if any(grad is None or not grad.isfinite().all() or not grad.any() for grad in gradients):
            raise DiffersError(f"none, or not a number, at {site.name}")
    return "from each of them"


def check_tail(patient: Patient) -> str:
    """A swap run from its block on gives the logits and the gradient of a whole forward."""
    layered = patient.model.layer_path is not None and patient.model.family is None  # its tail is known once proven
    if find_tail_start(patient.model, patient.stream) is None and not layered:
        return NO_TAIL
    logits, gradients = {}, {}
    for path in ("reference", "auto"):
        align = Alignment([patient.stream], rank=min(RANK, patient.stream.width - 1))
        out = align.run(_pairs(patient), source=0, target=0, path=path)
        out.logits.float().logsumexp(-1).sum().backward()
        logits[path] = out.logits.detach().float()
        gradients[path] = torch.cat([part.grad.flatten() for part in align.parameters() if part.grad is not None])
    if out.path == "reference" and layered:
        return NO_TAIL
    if out.path == "reference":
        raise DiffersError("the tail gives other logits, so whole forwards are run, which are right and slower")
    off = [_distance(both["auto"], both["reference"]) for both in (logits, gradients)]
    if max(off) > patient.close:
        raise DiffersError(f"logits differ by {off[0]:.1g}, the gradient by {off[1]:.1g}")
    return f"logits within {off[0]:.1g}, gradient within {off[1]:.1g}"


def _pairs(patient: Patient) -> Pairs:
    ids = patient.ids
    after = torch.arange(LENGTH) >= patient.where.columns[:, None]
    return Pairs.from_tensors(ids.flip(0), patient.where, ids, patient.where, ids.roll(-1, 1), after)


def check_restored(patient: Patient) -> str:
    """Nothing is left on the model."""
    left = [path for path, part in patient.model.module.named_modules() if _ours(part)]
    if left:
        raise DiffersError(f"hooks are left on {left[0] or 'the model'}")
    return "no hook is left on the model"


def _ours(part: torch.nn.Module) -> bool:
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values(), vars(part).get("forward")]
    return any(getattr(hook, "__module__", "").startswith("mas_hooks") for hook in hooks)


CHECKS: dict[str, Callable[[Patient], str]] = {
    "an edit that changes nothing": check_unchanged,
    "an edit that changes something": check_effective,
    "padding": check_padding,
    "gradient to the map": check_learning,
    "tail = whole forward": check_tail,
    "hooks removed": check_restored,
}
