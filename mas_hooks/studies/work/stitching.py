"""One stitch of two language models as data: train it, then measure its penalty on held-out texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mas_hooks.alignment import Alignment, Direction, PatchedDirections, Plan, TransportSpec, methods
from mas_hooks.core import checkpoints
from mas_hooks.core.errors import SettingError
from mas_hooks.core.memory import ProcessCache, spare_memory
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.text import pack_tokens, read_texts, split_corpus
from mas_hooks.data.text_pairs import shared_text_pairs
from mas_hooks.engine import ActivationCache
from mas_hooks.evaluation import student_interval
from mas_hooks.hooks import HookedModel
from mas_hooks.models.language import (
    SmallModel,
    block_count,
    check_blocks,
    check_context,
    check_same_tokens,
    load_language_model,
    load_weightless,
    pack_texts,
)
from mas_hooks.training import Fit, FitSettings, fit, pair_losses

KIND, LOSSES = "mas_hooks.stitched_losses", "losses"
WAY = Direction(0, 1)
Sizes = tuple[int, int, int]
PARTS = ("training", "validation", "test")


class StitchTexts(Settings):
    """What both models of a stitch read, in rows of one length.

    data: a text or JSON lines file, or a folder of them; None for the corpus that small models are trained on, their
    parts kept apart. sizes: at most so many rows for training, validation and test. seed: of the cut into parts.
    """

    data: str | None = None
    context: int = Field(default=64, ge=2)
    sizes: Sizes = (4_096, 128, 512)
    seed: int = 0

    def rows(self, model: HookedModel) -> list[Tensor]:
        """Ids (n, context) of each part, by the tokenizer of a model. Raises EmptyError where there is too little."""
        if min(self.sizes) < 1:
            raise SettingError("sizes", self.sizes, "three numbers of rows, 1 or more each")
        if self.data is None:
            corpus = pack_texts(len(model.tokenizer), self.context)
            if corpus.tokenizer.get_vocab() != model.tokenizer.get_vocab():
                raise SettingError(
                    "data", None, f"a file or folder of texts: {model.name} has another tokenizer than the small models"
                )
            parts = [corpus.train, corpus.valid, corpus.test]
        else:
            named = zip(PARTS, _split_texts(self.data, self.seed), strict=True)
            parts = [
                pack_tokens(model.tokenizer, part, self.context, f"the {name} part of {self.data}")
                for name, part in named
            ]
        return [part[:size] for part, size in zip(parts, self.sizes, strict=True)]

    def check(self, sources: Iterable[str | SmallModel]) -> None:
        """Check that models can read these rows, before any of them is loaded or trained.

        Raises CheckpointError for what is no model; SettingError for a model without known blocks, with other tokens
        than the first or with fewer positions than `context`; and what `rows` raises.
        """
        models = [load_weightless(source) for source in sources]
        for model in models:
            check_blocks(model)
            check_context(model, self.context)
            check_same_tokens(models[0], model)
        self.rows(models[0])


class StitchComparison(Settings):
    """Which head goes into which tail, behind which block, by which transport, learned how.

    source: the model whose blocks up to `layer` run; target: the model whose blocks behind it go on. Both as
    `load_language_model` takes them. texts: what they read. transport: of the stitch. seed: of its start.
    """

    source: str | SmallModel
    target: str | SmallModel
    layer: int = Field(ge=0)
    texts: StitchTexts = StitchTexts()
    transport: TransportSpec = TransportSpec(kind="affine", layer_norm="after")
    fit: FitSettings
    device: str = "cpu"
    seed: int = 0

    @property
    def site(self) -> str:
        """The residual stream behind the block."""
        return f"blocks.{self.layer}.hook_resid_post"

    @property
    def plan(self) -> Plan:
        """Trained into the target alone."""
        return methods.stitch(accessible=1, **self.transport.model_dump())


def run_stitching(work: Work[StitchComparison]) -> list[Record]:
    """Train and test one stitch: its validation losses first, then its penalty on the test rows.

    The losses of every test row stay in `work.state` (`read_losses`), so that stitches can be compared row by row.
    Continues where an interrupted run of the same work left off, and ends with the same numbers.
    """
    comparison = work.comparison
    source, target = load_pair(comparison, progress=work.progress)
    train, valid, test = _pairs(comparison)
    _check_room(comparison, source, train)
    alignment = Alignment.from_plan(
        comparison.plan, [source.at(comparison.site), target.at(comparison.site)], comparison.seed
    )
    fitted = fit(alignment, comparison.plan, train, valid, comparison.fit, folder=work.state, progress=work.progress)
    alignment.save_pretrained(work.alignment)
    stitched, alone = sequence_losses(alignment, test)
    checkpoints.save_checkpoint(work.state / LOSSES, KIND, {}, {"stitched": stitched, "alone": alone})
    described = Record(
        comparison=f"{source.name} → {target.name}",
        method=comparison.plan.method,
        source_model=source.name,
        target_model=target.name,
        source_site=comparison.site,
        target_site=comparison.site,
        source=0,
        target=1,
        init=comparison.transport.init,
        seed=comparison.seed,
    )
    values = {"stitching_penalty": stitched - alone, "stitched_loss": stitched, "own_loss": alone}
    final = [_final_record(described, name, losses, fitted) for name, losses in values.items()]
    return [*(_rename_curve(row, described) for row in fitted.curve), *final]


def sequence_losses(alignment: Alignment, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Nats a token of every row: of the stitched model (site 0 into site 1), and of site 1's model without a stitch.

    (n,) each, on the CPU. Their difference is the stitching penalty (Brown et al. 2023, §3); positive is worse.
    """
    swaps = PatchedDirections(alignment, pairs, [WAY], ActivationCache(alignment.sites, alignment.models))
    losses = []
    for edited in (True, False):
        sums, counts = zip(*swaps.measure_batches(pair_losses, edited=edited)[WAY], strict=True)
        losses.append((torch.cat(sums) / torch.cat(counts)).double().cpu())
    return losses[0], losses[1]


def read_losses(work: Work[StitchComparison]) -> tuple[Tensor, Tensor]:
    """What `run_stitching` kept of every test row: stitched, and the tail alone.

    Raises CheckpointError where the file is damaged.
    """
    _, tensors = checkpoints.load_checkpoint(work.state / LOSSES, KIND)
    return tensors["stitched"], tensors["alone"]


def interval_record(described: Record, values: Tensor) -> Record:
    """A record with the mean of independent values and its 95% interval (Student's t)."""
    numbers = values.tolist()
    low, high = student_interval(numbers)
    return Record(**{**vars(described), "value": float(np.mean(numbers)), "value_low": low, "value_high": high})


def load_pair(comparison: StitchComparison, *, progress: bool = True) -> tuple[HookedModel, HookedModel]:
    """Load both models, and check that they read the same tokens and have the block."""
    source, target = (
        load_once(name, comparison.device, progress=progress) for name in (comparison.source, comparison.target)
    )
    check_same_tokens(source, target)
    for model in (source, target):
        check_context(model, comparison.texts.context)
        if comparison.layer >= block_count(model):
            raise SettingError("layer", comparison.layer, f"a block of {model.name}, 0 to {block_count(model) - 1}")
    return source, target


_LOADED = ProcessCache[HookedModel](most=64)
_PAIRS = ProcessCache[list[Pairs]]()


def load_once(source: str | SmallModel, device: str, *, progress: bool = True) -> HookedModel:
    """Load a language model, once in a process.

    Args:
        source: A folder, an owner/model on the hub, or the settings of a small model.
        device: Where the model lies.
        progress: Whether bars are shown while a small model trains.

    Returns:
        The model; the same object for the same source and device.
    """
    key = f"{device} {source if isinstance(source, str) else source.key}"
    return _LOADED.get(key, lambda: load_language_model(source, device=device, progress=progress))


def _pairs(comparison: StitchComparison) -> list[Pairs]:
    """Training, validation and test pairs, kept until other texts are asked for in this process."""
    model = load_once(comparison.source, comparison.device)
    key = f"{comparison.texts.model_dump_json()} {len(model.tokenizer)}"
    return _PAIRS.get(key, lambda: [shared_text_pairs(rows) for rows in comparison.texts.rows(model)])


@lru_cache(maxsize=1)
def _split_texts(data: str, seed: int) -> Sequence[Sequence[str]]:
    return split_corpus(read_texts(data), seed)


def _check_room(comparison: StitchComparison, source: HookedModel, train: Pairs) -> None:
    """Raise SettingError where the source's vectors of all training tokens do not fit in memory."""
    width = source.at(comparison.site).width
    needed, room = len(train.source_where) * width * 4, spare_memory(source.device)
    if needed > room:
        most = max(1, int(room / needed * len(train)))
        allowed = f"at most about {most} training rows: {needed / 2**30:.1f} GiB of activations would not fit"
        raise SettingError("sizes", comparison.texts.sizes, allowed)


def _final_record(described: Record, measure: str, values: Tensor, fitted: Fit) -> Record:
    seconds = round(fitted.seconds, 3)
    keys = {"split": "test", "measure": measure, "trials": len(values), "step": fitted.best_step, "seconds": seconds}
    return interval_record(Record(**{**vars(described), **keys}), values)


def _rename_curve(row: Record, described: Record) -> Record:
    """A validation row under the names of the stitch; shares of right tokens say little of texts and are left out."""
    kept = {"split": row.split, "step": row.step, "measure": row.measure, "value": row.value, "trials": row.trials}
    return Record(**{**vars(described), **kept})
