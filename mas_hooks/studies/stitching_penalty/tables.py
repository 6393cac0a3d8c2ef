"""Every value of the recipe `stitching-penalty` as tables, from records alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mas_hooks.core.records import Record
from mas_hooks.studies.stitching_penalty import claims


def models_table(rows: Sequence[Record]) -> str:
    """What every model costs alone, by the part of the texts."""
    losses = [row for row in rows if row.measure == "loss" and row.task]
    lines = ["| model | seed | train | valid | test (95%) |", "|" + " :-- |" * 5]
    for name, seed in dict.fromkeys((row.source_model, row.seed) for row in losses):
        by_part = {row.split: row for row in losses if (row.source_model, row.seed) == (name, seed)}
        alone = (f"{by_part[part].value:.3f}" for part in ("train", "valid"))
        lines.append(f"| {' | '.join((str(name), str(seed), *alone, claims.format_interval(by_part['test'])))} |")
    return "\n".join(lines)


def describe_difference(rows: Sequence[Record]) -> str:
    """How much better one model is alone: a penalty is read against the tail's loss, so a better head costs less."""
    losses = [row for row in rows if row.measure == "loss" and row.task and row.split == "test"]
    values = {(row.source_model, row.seed): float(row.value or 0.0) for row in losses}
    first, second = dict.fromkeys(row.source_model for row in losses)
    seeds = dict.fromkeys(row.seed for row in losses)
    differences = ", ".join(claims.format_number(values[first, seed] - values[second, seed]) for seed in seeds)
    return (
        f"The loss of {first} alone minus that of {second} alone (test rows, each seed): {differences}. A penalty is "
        "read against the tail's loss: the head of the better model costs less, that of the worse more. Where a stitch "
        "keeps all that its head knows, the two directions differ by twice this, whatever the activations."
    )


def penalties_table(rows: Sequence[Record]) -> str:
    """Every penalty, over the seeds and of each."""
    lines = ["| head → tail | behind block | penalty (95% over test rows) | each seed |", "|" + " :-- |" * 4]
    for row in overall_penalties(rows):
        seeds = [penalty for penalty in rows if is_penalty_of(penalty, row.comparison) and penalty.seeds is None]
        each = ", ".join(f"{penalty.value:.3f}" for penalty in seeds if layer_of(penalty) == layer_of(row))
        cells = (row.comparison, layer_of(row), claims.format_interval(row), each)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def differences_table(rows: Sequence[Record]) -> str:
    """Every difference of two penalties, as it was taken."""
    lines = [
        "| difference | behind block | mean (95% over test rows) | each seed | 95% over seeds |",
        "|" + " :-- |" * 5,
    ]
    for row in (row for row in rows if row.measure == "penalty_difference" and row.seeds is not None):
        here = [record for record in rows if claims.same_place(row)(record)]
        alone = [record for record in here if record.measure == row.measure and record.seeds is None]
        seeds = [claims.format_number(float(record.value or 0.0)) for record in alone]
        over = [
            claims.format_ends(record, 1) for record in here if record.measure == claims.OVER_SEEDS and len(seeds) > 1
        ]
        block = str(row.target_site).split(".")[1]
        cells = (
            f"{row.comparison} {row.variable}",
            block,
            claims.format_interval(row),
            ", ".join(seeds),
            *(over or [""]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layer_of(row: Record) -> int:
    """The block behind which a stitch is."""
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", row.target_site or "")
    return int(match[1]) if match else -1


def overall_penalties(rows: Iterable[Record]) -> list[Record]:
    """The penalties over all seeds."""
    return [row for row in rows if row.measure == "stitching_penalty" and row.seeds is not None]


def is_penalty_of(row: Record, comparison: str | None) -> bool:
    """Whether this is the penalty of a comparison, over all seeds or of one."""
    return row.measure == "stitching_penalty" and row.comparison == comparison
