"""Records of a toxicity run by hand: every fit with the scores that a test says, and no model."""

from itertools import combinations, product

from mas_hooks.core.records import Record, write_records
from mas_hooks.core.run_folder import RunFolder

ALIGN = {"sites": ["embed"], "rank": None, "score": "token_accuracy", "statistic": "first"}


def names(splits=3):
    return [f"{label}-{number + 1}" for label in ("toxic", "nontoxic") for number in range(splits)]


def kind(one, other):
    return f"{one.rpartition('-')[0]}–{other.rpartition('-')[0]}"


def swap(comparison, source, target, models, tokens, **changed):
    told = {
        "recipe": "toxicity",
        "comparison": comparison,
        "method": "stepwise_mas",
        "variable": "full",
        "source_model": source,
        "target_model": target,
        "source": models.index(source),
        "target": models.index(target),
        "source_site": "embed",
        "target_site": "embed",
        "k": 8,
        "init": "random",
        "split": "test",
        "iia": tokens / 2,
        "iia_low": max(0, tokens / 2 - 0.1),
        "iia_high": tokens / 2 + 0.1,
        "token_accuracy": tokens,
        "floor": 0.01,
        "token_floor": 0.4,
        "trials": 50,
        "seed": 0,
    }
    return Record(**(told | changed))


def fit(comparison, chosen, models, score, **changed):
    """Every direction of a fit, with what it cost."""
    rows = [swap(comparison, a, b, models, score(a, b), **changed) for a, b in product(chosen, repeat=2)]
    rows += [
        swap(comparison, a, b, models, 0.42, control="random_maps", **changed) for a, b in product(chosen, repeat=2)
    ]
    for measure, value, seconds in (("steps", 10.0, 2.5), ("parameters", 8.0 * 32 * len(chosen), None)):
        told = {
            "recipe": "toxicity",
            "comparison": comparison,
            "split": "train",
            "k": 8,
            "source_site": "embed",
            "measure": measure,
        }
        rows.append(Record(**(told | changed), value=value, seconds=seconds))
    for a, b in product(chosen, repeat=2):
        for measure, value in (("agreement", 0.5), ("agreement_tokens", 0.9)):
            told = {"source_model": a, "target_model": b, "comparison": comparison, "source_site": "embed"}
            rows.append(Record(recipe="toxicity", split="test", measure=measure, value=value, **told))
    return rows


def study(splits=3, *, score=None, sweep=True, together=True):
    """All records of a run. score: of a direction, by source and target; default higher within the toxic ones."""
    models, rows = names(splits), []
    score = score or (lambda a, b: 1.0 if a == b else {"toxic–toxic": 0.9, "toxic–nontoxic": 0.6}.get(kind(a, b), 0.65))
    rows += [Record(recipe="toxicity", measure="insult_share", target_model=m, value=0.9, trials=40) for m in models]
    for a, b in combinations(models, 2):
        for measure, value in (("rsa", 0.7), ("cka", 0.8)):
            told = {"source_model": a, "target_model": b, "source_site": "embed", "target_site": "embed"}
            rows.append(
                Record(recipe="toxicity", split="test", comparison=f"{a} × {b}", measure=measure, value=value, **told)
            )
    if together:
        rows += fit("together", models, models, lambda a, b: score(a, b) - 0.05)
    for a, b in combinations(models, 2):
        rows += fit(f"{a} × {b}", (a, b), models, score)
    for a in models:
        rows += fit(f"{a} × {a}", (a,), models, score)
    first = (models[0], models[1])
    rows += [
        swap(" × ".join(first), a, b, models, 0.45, control=control)
        for control in ("untrained", "shuffled_labels")
        for a, b in product(first, repeat=2)
    ]
    if sweep:
        for rank in (2, 4):
            rows += fit(" × ".join(first), first, models, lambda a, b, rank=rank: 0.5 + 0.05 * rank, k=rank)
        rows += fit(" × ".join(first), first, models, lambda a, b: 0.55, source_site="blocks.1.hook_resid_post")
    return rows


def folder(path, rows, **align):
    """A run folder with these records."""
    settings = {"align": ALIGN | align, "data": ["embedded"]}
    run = RunFolder.open(path, "toxicity", settings, resume=False)
    write_records(run.path / "records.jsonl", rows)
    return run.path
