"""RSA and CKA between models on the same sequences: the correlational measures beside an IIA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from mas_hooks.core.errors import SettingError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.records import Record
from mas_hooks.core.sites import Where
from mas_hooks.data.tasks import Trials
from mas_hooks.data.text_pairs import ResponseTokens, split_rows
from mas_hooks.engine import gather_site
from mas_hooks.hooks import HookedModel, wrap
from mas_hooks.models.language import TextSettings, load_text_models
from mas_hooks.models.toys import ToySettings, load_toy
from mas_hooks.similarity import Measure, cka, rsa
from mas_hooks.training import reinitialise_models

PER_QUANTITY = 15
SEQUENCES = 200


def correlate(
    toys: Sequence[ToySettings], sites: Sequence[str], seed: int = 0, pairs: Sequence[tuple[int, int]] | None = None
) -> list[Record]:
    """Measure RSA and cosine-kernel CKA of toys, and of their untrained copies as a control.

    Grant 2025, App. A.3–A.4: 15 sequences a quantity, activations at all positions but padding and E; 1,000 of them,
    drawn 10 times.

    Args:
        toys: The toys, all of one task.
        sites: The site of each toy.
        seed: Of the sequences, of the draws and of the untrained copies.
        pairs: The numbers of the toys to compare; default every two.

    Returns:
        One record for each pair, measure and control.

    Raises:
        SettingError: The sites do not match the toys, or the toys have different tasks and read different trials.
    """
    if len(sites) != len(toys):
        raise SettingError("sites", sites, f"a list of {len(toys)}, one per toy")
    tasks = [(sets.task, dict(sets.task_settings)) for sets in toys]
    if any(sets != tasks[0] for sets in tasks):
        raise SettingError(
            "the list of the toys' tasks", tasks, "a single task repeated: all toys read the same trials"
        )
    loaded = [load_toy(sets, progress=False) for sets in toys]
    shared_task = loaded[0].task
    size = PER_QUANTITY * len(shared_task.draw_quantities())
    sequences = [
        torch.from_numpy(ids) for ids, _ in Trials(shared_task).checking(random.Random(f"correlate/{seed}"), size)
    ]
    sets: dict[str | None, list[nn.Module]] = {
        None: [toy.model for toy in loaded],
        "untrained": [reinitialise_models(toy.model, seed + index) for index, toy in enumerate(loaded)],
    }
    measured = []
    for control, copies in sets.items():
        models = [wrap(module, layer_path=toy.layer_path) for module, toy in zip(copies, loaded, strict=True)]
        rows = [_states(model, site, sequences) for model, site in zip(models, sites, strict=True)]
        for a, b in combinations(range(len(toys)), 2) if pairs is None else pairs:
            for name, measure in (("rsa", rsa), ("cka", cka)):
                result = measure(rows[a], rows[b], seed=seed)
                row = _row((toys[a].name, toys[b].name), (a, b), (sites[a], sites[b]), name, result)
                measured.append(replace(row, task=toys[0].task, control=control, seed=seed))
    return measured


def correlate_texts(
    texts: TextSettings, sites: Sequence[str], *, resamples: int = 10, progress: bool = True
) -> list[Record]:
    """Measure RSA and cosine-kernel CKA of every two language models at each site, on the same texts.

    The texts are test sequences, as many of each model (`SEQUENCES` in all). The rows are their tokens: 1,000 of them,
    drawn `resamples` times.

    Args:
        texts: The models and their responses.
        sites: The sites; each is compared with itself.
        resamples: How often rows are drawn.
        progress: Whether a bar is shown.

    Returns:
        One record for each site, pair and measure.
    """
    models, numbers = load_text_models(texts), range(len(texts.models))
    ids, real = _test_texts(models.responses(), texts.seed)
    pairs, measured = list(combinations(numbers, 2)), []
    with progress_bar(len(pairs) * len(sites), "RSA and CKA", shown=progress) as shown:
        for site in sites:
            rows = [models.states(number, site, ids, real) for number in numbers]
            for a, b in pairs:
                named = (texts.models[a].name, texts.models[b].name)
                for name, measure in (("rsa", rsa), ("cka", cka)):
                    result = measure(rows[a], rows[b], resamples=resamples, seed=texts.seed)
                    measured.append(replace(_row(named, (a, b), (site, site), name, result), seed=texts.seed))
                shown.update()
    return measured


def _test_texts(written: Sequence[ResponseTokens], seed: int) -> tuple[Tensor, Where]:
    """Test sequences of every model without padding on the left, and the cells of their tokens."""
    width = max(int(responses.lengths.max()) for responses in written)
    ids, lengths = [], []
    for responses in written:
        test = split_rows(max(len(responses.ids) for responses in written), seed)[2]
        rows = test[test < len(responses.ids)][: max(1, SEQUENCES // len(written))]
        packed = responses.pack_rows(width)
        ids.append(packed.ids[rows])
        lengths.append(packed.lengths[rows])
    return torch.cat(ids), Where.from_mask(torch.arange(width) < torch.cat(lengths)[:, None])


def _states(model: HookedModel, site: str, sequences: list[Tensor]) -> Tensor:
    """Activations at every position but E of trials; each batch holds trials of one length."""
    batches = []
    for ids in sequences:
        read = ids[:, :-1]
        batches.append(
            gather_site(model, model.at(site), read, Where.from_mask(torch.ones_like(read, dtype=torch.bool)))
        )
    return torch.cat(batches)


def _row(
    names: tuple[str, str], numbers: tuple[int, int], sites: tuple[str, str], name: str, result: Measure
) -> Record:
    """One measure of two models."""
    return Record(
        comparison=" × ".join(names),
        source_model=names[0],
        source_site=sites[0],
        target_model=names[1],
        target_site=sites[1],
        source=numbers[0],
        target=numbers[1],
        split="test",
        measure=name,
        value=result.value,
        value_low=result.low,
        value_high=result.high,
    )
