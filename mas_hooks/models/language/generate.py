"""What a language model answers to prompts: greedy, stored with the model's own next token at every position."""

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
TOLD, BATCHES, WHOLE = "told.json", "batches", "responses"
NO_TOKEN = -100
"""In `next_tokens`, where there is padding: what a loss leaves out."""


class ResponseSettings(Settings):
    """How responses are generated. The defaults are the paper's."""

    prompt_tokens: int = Field(default=32, ge=1)
    """A prompt is its first so many tokens; a shorter one is padded on the left."""
    tokens: int = Field(default=64, ge=2)
    """Prompt and response together; what an end token leaves free is padded on the right."""
    batch: int = Field(default=32, ge=1)
    """Prompts at once, and what an interrupted run loses at most."""


@dataclass(frozen=True, eq=False)
class Responses:
    """Prompts with what the model wrote after them, all on the CPU.

    ids (n, tokens) long; mask (n, tokens) bool, False on padding at either end; next_tokens (n, tokens) long, the model's
    argmax for the token after each position, by one forward over the finished ids, NO_TOKEN on padding: the labels
    of a transfer from this model. prompt_tokens: where the responses start. agreement: the share of written tokens
    that `next_tokens` repeats; below 1 only where rounding decides between near ties (bf16).
    """

    ids: Tensor
    mask: Tensor
    next_tokens: Tensor
    prompt_tokens: int
    agreement: float

    def texts(self, tokenizer: Any) -> list[str]:
        """What the model wrote, without the prompts."""
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
    """Generate the model's greedy responses to prompts, batch by batch, each kept in `folder` as soon as it is there.

    A run of the same model, prompts and settings goes on after the last batch, or is read if it was finished.
    Raises SettingError (no tokenizer or pad token, lengths), EmptyError (no prompt, or one without a token),
    CheckpointError (other work in the folder) and OutputFolderError.
    """
    settings, folder = settings or ResponseSettings(), Path(folder)
    if settings.tokens <= settings.prompt_tokens:
        allowed = f"more than the {settings.prompt_tokens} of the prompt"
        raise SettingError("ResponseSettings.tokens", settings.tokens, allowed)
    if not hasattr(model.module, "generate"):
        raise UnsupportedError(f"generating with {model.name}", "wrap a Hugging Face language model")
    rows, pad = _prompt_ids(model, prompts, settings)
    warn_in_train_mode(model)
    files.ensure_writable(folder)
    same = {"settings": settings.model_dump(mode="json"), "prompts": fingerprints.texts_fingerprint(rows)}
    fingerprints.keep_or_compare(folder / TOLD, same | {"model": fingerprints.model_fingerprint(model.module)})
    if checkpoints.checkpoint_exists(folder / WHOLE):
        return load_responses(folder)
    with progress_bar(len(rows), f"responses of {model.name}", shown=progress) as bar:
        for start in range(0, len(rows), settings.batch):
            part, own = folder / BATCHES / f"{start:06d}", rows[start : start + settings.batch]
            if not checkpoints.checkpoint_exists(part):
                checkpoints.save_checkpoint(part, KIND, {}, _answer_batch(model, own, pad, settings))
            bar.update(len(own))
    _join(folder, range(0, len(rows), settings.batch), settings)
    return load_responses(folder)


def load_responses(folder: Path | str) -> Responses:
    """The finished responses of a folder. Raises CheckpointError where they are not whole."""
    config, tensors = checkpoints.load_checkpoint(Path(folder) / WHOLE, KIND)
    if not {"prompt_tokens", "agreement"} <= set(config) or not {"ids", "mask", "own"} <= set(tensors):
        raise CheckpointError(Path(folder) / WHOLE, "lacks a part", "delete the folder, and generate again")
    return Responses(tensors["ids"], tensors["mask"], tensors["own"], **config)


def _prompt_ids(model: HookedModel, prompts: Sequence[str], settings: ResponseSettings) -> tuple[list[list[int]], int]:
    """The first tokens of every prompt, without the end token that some tokenizers put behind; and the pad token."""
    if not prompts:
        raise EmptyError("the list of prompts", "give one or more")
    model.encode(prompts[0])  # tells what is missing of the tokenizer
    tokenizer: Any = model.tokenizer
    ends = {*_end_tokens(model), tokenizer.eos_token_id}
    rows = []
    for number, ids in enumerate(tokenizer(list(prompts))["input_ids"]):
        kept = (ids[:-1] if ids and ids[-1] in ends else ids)[: settings.prompt_tokens]
        if not kept:
            raise EmptyError(f"prompt {number}", "give prompts of one token or more")
        rows.append(kept)
    return rows, tokenizer.pad_token_id


def _end_tokens(model: HookedModel) -> list[int]:
    found: Any = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    return [] if found is None else [found] if isinstance(found, int) else list(found)


@torch.no_grad()
def _answer_batch(model: HookedModel, rows: list[list[int]], pad: int, settings: ResponseSettings) -> dict[str, Tensor]:
    """One batch of responses: ids, mask and own, each (n, tokens)."""
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
    own = model.forward({"input_ids": ids, "attention_mask": real.long()}).argmax(-1).cpu()
    return {"ids": ids, "mask": real, "own": own.masked_fill(~real, NO_TOKEN)}


@contextmanager
def _greedy(module: Any, tokens: int, pad: int, ends: list[int]) -> Iterator[None]:
    """Nothing but the argmax decides: a model's own penalties, minimum lengths and sampling are set aside meanwhile.

    They cannot be passed over by arguments: `generate` fills what it is not given from the model's own.
    """
    from transformers import GenerationConfig

    own = module.generation_config
    module.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=tokens, pad_token_id=pad, eos_token_id=ends or None
    )
    try:
        yield
    finally:
        module.generation_config = own


def _join(folder: Path, starts: Sequence[int], settings: ResponseSettings) -> None:
    """Put all batches into one checkpoint; they are deleted when it is whole."""
    parts = [checkpoints.load_checkpoint(folder / BATCHES / f"{start:06d}", KIND)[1] for start in starts]
    tensors = {name: torch.cat([part[name] for part in parts]) for name in ("ids", "mask", "own")}
    first = settings.prompt_tokens
    written = tensors["mask"][:, first:]
    repeated = tensors["own"][:, first - 1 : -1] == tensors["ids"][:, first:]
    agreement = float(repeated[written].double().mean())
    checkpoints.save_checkpoint(folder / WHOLE, KIND, {"prompt_tokens": first, "agreement": agreement}, tensors)
    shutil.rmtree(folder / BATCHES, ignore_errors=True)
