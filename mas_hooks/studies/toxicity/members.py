"""The work on one member of a study as data, so that several can be done in processes of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mas_hooks.core import fingerprints, records
from mas_hooks.core.records import Record
from mas_hooks.data.text import Label
from mas_hooks.hooks import tokenizer_of, wrap
from mas_hooks.models.language import (
    CURVE,
    MODEL,
    FinetuneSettings,
    ResponseSettings,
    classified_share,
    finetune_model,
    generate_responses,
    insult_share,
)


@dataclass(frozen=True)
class ToxicityMember:
    """One fine-tune. name: such as toxic-1. model: its folder, for `wrap`. responses: for `load_responses`."""

    name: str
    label: Label
    model: Path
    responses: Path


@dataclass(frozen=True)
class Tuning:
    """A fine-tuning. base: a folder with its tokenizer. folder: where the model, its curve and its state go."""

    name: str
    base: Path
    texts: tuple[str, ...]
    folder: Path
    settings: FinetuneSettings
    progress: bool = True

    @property
    def done(self) -> bool:
        """Whether it was finished before; the folder must be that of this work."""
        return (self.folder / MODEL).is_dir()


def tune_member(work: Tuning) -> list[Record]:
    """Fine-tune, or go on with it; the loss curve. Raises what `finetune_model` raises."""
    if not work.done:
        tokenizer = tokenizer_of(work.base)
        finetune_model(
            work.base, tokenizer, work.texts, work.folder, work.settings, name=work.name, progress=work.progress
        )
    return records.read_records(work.folder / CURVE)


@dataclass(frozen=True)
class Answering:
    """What a fine-tune answers, and how rude that is. classifier: a local folder, see `behaviour.classified_share`."""

    name: str
    model: Path
    prompts: tuple[str, ...]
    folder: Path
    settings: ResponseSettings
    device: str = "cpu"
    classifier: Path | None = None
    progress: bool = True


def answer_prompts(work: Answering) -> list[Record]:
    """Generate the responses, or go on with them; how the model behaves in them.

    measure: insult_share (and classified_share), response_agreement (see `Responses`), response_tokens (their mean).
    What the same judges said before is read. Raises what `generate_responses` raises.
    """
    judge = "words" if work.classifier is None else fingerprints.files_fingerprint(work.classifier)
    kept = work.folder / f"behaviour-{judge}.jsonl"
    if kept.exists():
        return records.read_records(kept)
    model = wrap(work.model, name=work.name)
    model.module.to(work.device)
    responses = generate_responses(model, work.prompts, work.folder, work.settings, progress=work.progress)
    texts = responses.texts(model.tokenizer)
    rows = [insult_share(texts, work.name)]
    if work.classifier is not None:
        rows.append(classified_share(texts, work.name, work.classifier))
    written = responses.mask[:, responses.prompt_tokens :].sum(1).double().mean()
    for name, value in {"response_agreement": responses.agreement, "response_tokens": float(written)}.items():
        rows.append(Record(measure=name, target_model=work.name, value=value, trials=len(texts)))
    records.write_records(kept, rows)
    return rows
