"""RSA and CKA between toys, on the same sequences: the correlational measures beside an IIA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from mas_hooks.controls import reinitialised
from mas_hooks.engine.cache import gather_site
from mas_hooks.errors import SettingError
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.wrap import wrap
from mas_hooks.records import Record
from mas_hooks.similarity import Measure, cka, rsa
from mas_hooks.sites import Where
from mas_hooks.tasks.trials import Trials
from mas_hooks.trained import ToySettings, toy

PER_QUANTITY = 15


def correlate(
    toys: Sequence[ToySettings], sites: Sequence[str], seed: int = 0, pairs: Sequence[tuple[int, int]] | None = None
) -> list[Record]:
    """RSA and cosine-kernel CKA of toys, and of their untrained copies as a control.

    sites: one per toy. pairs: which toys to compare (their numbers), default every two.
    Grant 2025, App. A.3–A.4: 15 sequences a quantity, activations at all positions but padding and E; 1,000 of them,
    drawn 10 times.
    Raises SettingError for toys of different tasks, whose rows do not match.
    """
    if len(sites) != len(toys):
        raise SettingError("sites", sites, f"one per toy, {len(toys)}")
    tasks = [(own.task, dict(own.task_settings)) for own in toys]
    if any(own != tasks[0] for own in tasks):
        raise SettingError("the tasks of toys to correlate", tasks, "one and the same: they must read the same trials")
    loaded = [toy(own, progress=False) for own in toys]
    known = loaded[0].task
    size = PER_QUANTITY * len(known.drawn_quantities())
    sequences = [torch.from_numpy(ids) for ids, _ in Trials(known).checking(random.Random(f"correlate/{seed}"), size)]
    modules: dict[str | None, list[nn.Module]] = {
        None: [one.model for one in loaded],
        "untrained": [reinitialised(one.model, seed + index) for index, one in enumerate(loaded)],
    }
    measured = []
    for control, own in modules.items():
        models = [wrap(module, layer_path=one.layer_path) for module, one in zip(own, loaded, strict=True)]
        rows = [_states(model, site, sequences) for model, site in zip(models, sites, strict=True)]
        for a, b in combinations(range(len(toys)), 2) if pairs is None else pairs:
            for name, measure in (("rsa", rsa), ("cka", cka)):
                row = _record(toys, (a, b), sites, name, measure(rows[a], rows[b], seed=seed))
                measured.append(replace(row, control=control, seed=seed))
    return measured


def _states(model: HookedModel, site: str, sequences: list[Tensor]) -> Tensor:
    """Activations at every position but E of trials that are sorted into batches of one length."""
    found = []
    for ids in sequences:
        read = ids[:, :-1]
        found.append(gather_site(model, model.at(site), read, Where.from_mask(torch.ones_like(read, dtype=torch.bool))))
    return torch.cat(found)


def _record(
    toys: Sequence[ToySettings], pair: tuple[int, int], sites: Sequence[str], name: str, result: Measure
) -> Record:
    a, b = (toys[index].name for index in pair)
    return Record(
        comparison=f"{a} × {b}",
        task=toys[0].task,
        source_model=a,
        source_site=sites[pair[0]],
        target_model=b,
        target_site=sites[pair[1]],
        source=pair[0],
        target=pair[1],
        split="test",
        measure=name,
        value=result.value,
        value_low=result.low,
        value_high=result.high,
    )
