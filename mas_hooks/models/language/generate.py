"""Greedy responses of a language model to prompts, stored with the model's next token at every position."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mas_hooks.core import checkpoints, files, fingerprints
from mas_hooks.core.errors import CheckpointError, EmptyError, SettingError, UnsupportedError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.settings import Settings
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.wrap import warn_in_train_mode

KIND = "mas_hooks.responses"
WORK, BATCHES, WHOLE = "told.json", "batches", "responses"
TENSORS = {"ids": "ids", "mask": "mask", "next_tokens": "own"}
"""The fields of `Responses` that are tensors, and the keys that they are stored under."""
NO_TOKEN = -100
"""Stands in `next_tokens` at padding; a loss leaves it out."""


class ResponseSettings(Settings):
    """How responses are generated. The defaults are the paper's.

    Example:
        >>> from mas_hooks.models.language import ResponseSettings
        >>> settings = ResponseSettings(tokens=48)
        >>> settings.prompt_tokens, settings.tokens
        (32, 48)
    """

    prompt_tokens: int = Field(default=32, ge=1)
    """Most tokens of a prompt: a longer one is cut off, a shorter one is padded on the left."""
    tokens: int = Field(default=64, ge=2)
    """Prompt and response together; after an end token the rest is padding."""
    batch: int = Field(default=32, ge=1)
    """Prompts at once, and the most that an interrupted run loses."""


@dataclass(frozen=True, eq=False)
class Responses:
    """Prompts and what the model wrote after them, all on the CPU.

    Attributes:
        ids: Tokens, (n, tokens), long.
        mask: (n, tokens), bool; False on padding at either end.
        next_tokens: (n, tokens), long: the model's argmax for the token after each position, by one forward over the
            finished ids, and NO_TOKEN on padding. The labels of a transfer from this model.
        prompt_tokens: Where the responses start.
        agreement: The share of written tokens that `next_tokens` repeats; below 1 only where rounding decides between
            near ties (bf16).

    Example:
        >>> import torch
        >>> from mas_hooks.models.language import Responses
        >>> from mas_hooks.models.language.generate import NO_TOKEN
        >>> responses = Responses(
        ...     ids=torch.tensor([[0, 3, 4, 5]]),
        ...     mask=torch.tensor([[False, True, True, True]]),
        ...     next_tokens=torch.tensor([[NO_TOKEN, 4, 5, 6]]),
        ...     prompt_tokens=2,
        ...     agreement=1.0,
        ... )
        >>> responses.ids[:, responses.prompt_tokens :]
        tensor([[4, 5]])
    """

    ids: Tensor
    mask: Tensor
    next_tokens: Tensor
    prompt_tokens: int
    agreement: float

    def texts(self, tokenizer: Any) -> list[str]:
        """The texts that the model wrote, without the prompts."""
        start = self.prompt_tokens
        rows = zip(self.ids[:, start:], self.mask[:, start:], strict=True)
        return [tokenizer.decode(ids[mask].tolist(), skip_special_tokens=True) for ids, mask in rows]


def generate_responses(
    model: HookedModel,
    prompts: Sequence[str],
    folder: Path | str,
    settings: ResponseSettings | None = None,
    *,
    progress: bool = True,
) -> Responses:
    """Generate a model's greedy responses to prompts, batch by batch; `folder` keeps each batch at once.

    A run of the same model, prompts and settings goes on after the last batch, or is read if it is finished.

    Args:
        model: A wrapped Hugging Face language model with its tokenizer.
        prompts: Texts of one token or more.
        folder: Where the work is kept.
        settings: Default: those of the paper.
        progress: Whether a bar is shown.

    Returns:
        The prompts and responses of all batches.

    Raises:
        SettingError: The model has no tokenizer or pad token, or the lengths do not fit each other.
        UnsupportedError: The model cannot generate.
        EmptyError: There is no prompt, or one without a token.
        CheckpointError: The folder holds other work.
        OutputFolderError: The folder cannot be written to.

    Example:
        >>> import torch
        >>> from mas_hooks.models.language import ResponseSettings, generate_responses, load_responses
        >>> from tempfile import TemporaryDirectory
        >>> import mas_hooks as mh
        >>> from mas_hooks.data.text.corpus import byte_pairs
        >>> from mas_hooks.models.language.small_lm import SmallModel, untrained_small_lm
        >>> module = untrained_small_lm(SmallModel(layers=1, width=8, heads=2, vocabulary=258))
        >>> model = mh.wrap(module, tokenizer=byte_pairs(["a text"], 258))
        >>> settings = ResponseSettings(prompt_tokens=4, tokens=6)
        >>> with TemporaryDirectory() as folder:
        ...     responses = generate_responses(model, ["To be", "or not"], folder, settings, progress=False)
        ...     again = load_responses(folder)
        >>> responses.ids.shape, torch.equal(responses.ids, again.ids)
        (torch.Size([2, 6]), True)
    """
    settings, folder = settings or ResponseSettings(), Path(folder)
    _check_generation(model, settings)
    rows, pad = _prompt_ids(model, prompts, settings)
    warn_in_train_mode(model)
    files.ensure_writable(folder)
    work = {
        "settings": settings.model_dump(mode="json"),
        "prompts": fingerprints.texts_fingerprint(rows),
        "model": fingerprints.model_fingerprint(model.module),
    }
    fingerprints.keep_or_compare(folder / WORK, work)
    if not checkpoints.checkpoint_exists(folder / WHOLE):
        _answer_all(model, rows, pad, settings, folder, progress=progress)
    return load_responses(folder)


def _check_generation(model: HookedModel, settings: ResponseSettings) -> None:
    if settings.tokens <= settings.prompt_tokens:
        allowed = f"more than the {settings.prompt_tokens} of the prompt"
        raise SettingError("ResponseSettings.tokens", settings.tokens, allowed)
    if not hasattr(model.module, "generate"):
        raise UnsupportedError(f"generating with {model.name}", "wrap a Hugging Face language model")


def _answer_all(
    model: HookedModel, rows: list[list[int]], pad: int, settings: ResponseSettings, folder: Path, *, progress: bool
) -> None:
    """Write the responses to all prompts, batch by batch; batches that are there already stay."""
    starts = range(0, len(rows), settings.batch)
    with progress_bar(len(rows), f"responses of {model.name}", shown=progress) as bar:
        for start in starts:
            part, batch = folder / BATCHES / f"{start:06d}", rows[start : start + settings.batch]
            if not checkpoints.checkpoint_exists(part):
                checkpoints.save_checkpoint(part, KIND, {}, _answer_batch(model, batch, pad, settings))
            bar.update(len(batch))
    _join_batches(folder, starts, settings)


def load_responses(folder: Path | str) -> Responses:
    """The finished responses of a folder. Raises CheckpointError where they are not complete.

    Example:
        >>> from mas_hooks.models.language import load_responses
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     load_responses(folder)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        mas_hooks.core.errors.CheckpointError: ...
    """
    config, tensors = checkpoints.load_checkpoint(Path(folder) / WHOLE, KIND)
    if not {"prompt_tokens", "agreement"} <= set(config) or not set(TENSORS.values()) <= set(tensors):
        raise CheckpointError(Path(folder) / WHOLE, "lacks a part", "delete the folder, and generate again")
    return Responses(**{field: tensors[key] for field, key in TENSORS.items()}, **config)


def _prompt_ids(model: HookedModel, prompts: Sequence[str], settings: ResponseSettings) -> tuple[list[list[int]], int]:
    """The first tokens of every prompt, without the end token that some tokenizers append; and the pad token."""
    if not prompts:
        raise EmptyError("the list of prompts", "give one or more")
    model.encode(prompts[0])  # raises where the tokenizer lacks something
    tokenizer: Any = model.tokenizer
    ends = {*_end_tokens(model), tokenizer.eos_token_id}
    rows = []
    for number, ids in enumerate(tokenizer(list(prompts))["input_ids"]):
        row = (ids[:-1] if ids and ids[-1] in ends else ids)[: settings.prompt_tokens]
        if not row:
            raise EmptyError(f"prompt {number}", "give prompts of one token or more")
        rows.append(row)
    return rows, tokenizer.pad_token_id


def _end_tokens(model: HookedModel) -> list[int]:
    ends: Any = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


@torch.no_grad()
def _answer_batch(model: HookedModel, rows: list[list[int]], pad: int, settings: ResponseSettings) -> dict[str, Tensor]:
    """One batch of responses: the tensors by their stored keys, each (n, tokens)."""
    start, ends = settings.prompt_tokens, torch.tensor(_end_tokens(model), dtype=torch.long)
    mask = torch.tensor([[0] * (start - len(row)) + [1] * len(row) for row in rows])
    ids = torch.tensor([[pad] * (start - len(row)) + row for row in rows])
    with _greedy(model.module, settings.tokens - start, pad, ends.tolist()):
        written = model.generate({"input_ids": ids, "attention_mask": mask}).cpu()
    ids = functional.pad(written, (0, settings.tokens - written.shape[1]), value=pad)
    ended = torch.isin(ids[:, start:], ends).long()
    real = torch.cat([mask.bool(), (ended.cumsum(1) - ended) == 0], dim=1)  # the first end token itself is real
    real[:, written.shape[1] :] = False
    ids = ids.masked_fill(~real, pad)
    following = model.forward({"input_ids": ids, "attention_mask": real.long()}).argmax(-1).cpu()
    fields = {"ids": ids, "mask": real, "next_tokens": following.masked_fill(~real, NO_TOKEN)}
    return {TENSORS[field]: tensor for field, tensor in fields.items()}


@contextmanager
def _greedy(module: Any, tokens: int, pad: int, ends: list[int]) -> Iterator[None]:
    """Set a model's penalties, minimum lengths and sampling aside, so that only the argmax decides.

    Arguments cannot do that: `generate` takes what it is not given from the model's own config.
    """
    from transformers import GenerationConfig

    config = module.generation_config
    module.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=tokens, pad_token_id=pad, eos_token_id=ends or None
    )
    try:
        yield
    finally:
        module.generation_config = config


def _join_batches(folder: Path, starts: Sequence[int], settings: ResponseSettings) -> None:
    """Put all batches into one checkpoint, then delete them."""
    parts = [checkpoints.load_checkpoint(folder / BATCHES / f"{start:06d}", KIND)[1] for start in starts]
    tensors = {name: torch.cat([part[name] for part in parts]) for name in TENSORS.values()}
    first = settings.prompt_tokens
    written = tensors["mask"][:, first:]
    repeated = tensors[TENSORS["next_tokens"]][:, first - 1 : -1] == tensors["ids"][:, first:]
    agreement = float(repeated[written].double().mean())
    checkpoints.save_checkpoint(folder / WHOLE, KIND, {"prompt_tokens": first, "agreement": agreement}, tensors)
    shutil.rmtree(folder / BATCHES, ignore_errors=True)
