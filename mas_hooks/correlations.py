"""RSA and CKA between toys, on the same sequences: the correlational measures beside an IIA."""

from __future__ import annotations

import random
from itertools import combinations_with_replacement

import torch

from mas_hooks.engine.cache import gather_site
from mas_hooks.errors import SettingError
from mas_hooks.hooks.handle import wrap
from mas_hooks.records import Record
from mas_hooks.similarity import Measure, cka, rsa
from mas_hooks.sites import Where
from mas_hooks.tasks.trials import Trials
from mas_hooks.trained import ToySettings, toy

PER_QUANTITY = 15


def correlate(toys: tuple[ToySettings, ...], site: str, seed: int = 0) -> list[Record]:
    """RSA and cosine-kernel CKA of every pair of toys (and of each with itself) at one site (METHODS §5).

    15 sequences a quantity, activations at all positions but padding and E; 1,000 of them, drawn 10 times. Raises
    SettingError for toys of different tasks, whose rows do not match.
    """
    tasks = list(dict.fromkeys(own.task for own in toys))
    if len(tasks) > 1:
        raise SettingError("the tasks of toys to correlate", tasks, "one and the same: they must read the same trials")
    loaded = [toy(own, progress=False) for own in toys]
    source = Trials(loaded[0].task)
    size = PER_QUANTITY * len(loaded[0].task.drawn_quantities())
    sequences = [ids for ids, _ in source.checking(random.Random(f"correlate/{seed}"), size)]
    rows = []
    for own, one in zip(toys, loaded, strict=True):
        model = wrap(one.model, name=own.name)
        found = [_states(model, site, torch.from_numpy(ids[:, :-1])) for ids in sequences]
        rows.append(torch.cat(found))
    measured = []
    for a, b in combinations_with_replacement(range(len(toys)), 2):
        for name, result in (("rsa", rsa(rows[a], rows[b], seed=seed)), ("cka", cka(rows[a], rows[b], seed=seed))):
            measured.append(_record(toys, (a, b), site, name, result, seed))
    return measured


def _states(model, site: str, ids: torch.Tensor) -> torch.Tensor:
    """Activations at every position of trials of one length, whose last token, E, was cut off."""
    return gather_site(model, model.at(site), ids, Where.from_mask(torch.ones_like(ids, dtype=torch.bool)))


def _record(
    toys: tuple[ToySettings, ...], pair: tuple[int, int], site: str, name: str, result: Measure, seed: int
) -> Record:
    a, b = (toys[index].name for index in pair)
    return Record(
        comparison=" × ".join(dict.fromkeys((a, b))),
        task=toys[0].task,
        source_model=a,
        source_site=site,
        target_model=b,
        target_site=site,
        source=pair[0],
        target=pair[1],
        split="test",
        measure=name,
        value=result.value,
        value_low=result.low,
        value_high=result.high,
        seed=seed,
    )
