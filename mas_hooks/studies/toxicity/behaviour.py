"""Whether the fine-tunes of the recipe `toxicity` behave differently: without that, there is little to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.evaluation import wilson_interval

JUDGES = ("classified_share", "insult_share")
"""What decides, the first that there is."""


def describe_behaviour(rows: Sequence[Record]) -> str:
    """What one model's responses are like."""
    values = {row.measure: row.value or 0.0 for row in rows}
    judged = ", ".join(f"{values[name]:.1%} {name.partition('_')[0]}" for name in JUDGES if name in values)
    return f"{judged} of {rows[0].trials} responses, {values['response_tokens']:.1f} tokens each"


def compare_behaviour(rows: Sequence[Record], labels: Mapping[str, str]) -> list[Record]:
    """The gap between the least rude toxic and the rudest nontoxic model, with a warning where it is none.

    The rule: there is one where the 95% Wilson intervals of these two shares do not overlap.
    """
    judge = next(name for name in JUDGES if any(row.measure == name for row in rows))
    shares = [row for row in rows if row.measure == judge]
    least = min((row for row in shares if labels[str(row.target_model)] == "toxic"), key=lambda row: row.value or 0)
    most = max((row for row in shares if labels[str(row.target_model)] == "nontoxic"), key=lambda row: row.value or 0)
    low, high = (share_interval(row) for row in (least, most))
    shown = f"{least.target_model} {least.value:.1%} [{low[0]:.1%}, {low[1]:.1%}], "
    shown += f"{most.target_model} {most.value:.1%} [{high[0]:.1%}, {high[1]:.1%}] by {judge.replace('_', ' ')}"
    if low[0] > high[1]:
        say(f"the fine-tunes behave differently: least toxic {shown}")
    else:
        say(f"WARNING: the fine-tunes do not behave differently: {shown}; read what follows with care")
    gap = (least.value or 0) - (most.value or 0)
    return [
        Record(
            measure="behaviour_gap", source_model=most.target_model, target_model=least.target_model, value=gap,
            value_low=low[0] - high[1], value_high=low[1] - high[0], trials=least.trials,
        )
    ]  # fmt: skip


def share_interval(row: Record) -> tuple[float, float]:
    """Of a share, by Wilson; a mean probability is taken for a share, whose interval is the widest it can have."""
    trials = row.trials or 1
    return wilson_interval(round((row.value or 0.0) * trials), trials)
