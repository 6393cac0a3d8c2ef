"""Run folders built by hand, as the recipes would write them."""

from __future__ import annotations

import math

from mas_hooks.core.records import Record

TRIALS = 1000


def wilson(share, trials=TRIALS, z=1.96):
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return round(centre - half, 4), round(centre + half, 4)


def final(iia, source, target, models, **keys):
    low, high = wilson(iia)
    values = {
        "recipe": "demo", "comparison": " × ".join(models), "method": "mas", "variable": "full", "task": "multi_object",
        "source_model": models[source], "target_model": models[target], "k": 16, "init": "random", "split": "test",
        "iia_low": low, "iia_high": high, "token_accuracy": min(1.0, iia + 0.01), "floor": 0.06, "trials": TRIALS,
        "seed": 0, "seconds": 12.5,
    }  # fmt: skip
    return Record(iia=iia, source=source, target=target, **(values | keys))


def directions(shares, models, **keys):
    """One final row per ordered pair, shares in row-major order."""
    n = len(models)
    return [final(shares[n * i + j], i, j, models, **keys) for i in range(n) for j in range(n)]


def similarity(measure, value, models, half=0.03, **keys):
    spread = {"value_low": round(value - half, 4), "value_high": round(min(1, value + half), 4)}
    sites = {"source_model": models[0], "target_model": models[-1], "source_site": "state", "target_site": "state"}
    return Record(recipe="demo", split="test", measure=measure, value=value, **(spread | sites | keys))


def curve(models, rise, last, top=0.99, **keys):
    """Validation rows of every direction, rising with time constant `rise` up to step `last`."""
    pairs = [(0, 0), (1, 1)] if keys.get("method") == "das" else [(i, j) for i in (0, 1) for j in (0, 1)]
    return [
        Record(
            recipe="demo", comparison=" × ".join(models), split="valid", source=i, target=j, step=step, floor=0.07,
            source_model=models[i], target_model=models[j], seed=0,
            iia=round((top - 0.01 * (i != j)) * (1 - 0.93 * math.exp(-step / (rise * (1 + 0.25 * i + 0.4 * j)))), 4),
            **({"k": 16} | keys),
        )
        for step in range(0, last + 1, 10)
        for i, j in pairs
    ]  # fmt: skip


GRUS = ("gru-0", "gru-1")


def demo():
    """What the demo writes: two GRUs, DAS and MAS on two variables, three controls, two starts, RSA, CKA."""
    rows = [final(0.994, i, i, GRUS, method="das", comparison=GRUS[i]) for i in (0, 1)]
    rows += [final(0.981 - 0.012 * i, i, i, GRUS, method="das", variable="count", comparison=GRUS[i]) for i in (0, 1)]
    rows += directions((0.993, 0.981, 0.976, 0.99), GRUS)
    rows += directions((0.962, 0.931, 0.944, 0.957), GRUS, variable="count", floor=0.085)
    rows += directions((0.04, 0.021, 0.034, 0.05), GRUS, control="untrained", floor=0.02)
    rows += directions((0.065, 0.058, 0.071, 0.062), GRUS, control="shuffled_labels")
    rows += directions((0.09, 0.066, 0.061, 0.084), GRUS, control="random_maps")
    for variable, top in (("full", 0.99), ("count", 0.96)):
        for init, rise, last in (("random", 75, 400), ("procrustes", 11, 150)):
            rows += curve(GRUS, rise, last, top, method="mas", variable=variable, init=init)
        rows += curve(GRUS, 60, 300, top + 0.005, method="das", variable=variable, init="random")
    return [*rows, similarity("rsa", 0.71, GRUS), similarity("cka", 0.93, GRUS, 0.02)]


def many(count=12, models=None):
    """`count` comparisons with one MAS fit, one control, RSA and CKA each."""
    rows = []
    for index in range(count):
        pair = models or (f"toxic-bert-{index}", f"nontoxic-bert-{index}")
        worst = 0.15 + 0.8 * ((index * 5) % 12) / 11
        rows += directions((0.97, worst, worst + 0.02, 0.96), pair)
        rows += directions((0.05, 0.04, 0.03, 0.06), pair, control="untrained")
        rows += [similarity("rsa", 0.9 - 0.05 * index, pair), similarity("cka", 0.97 - 0.03 * index, pair)]
    return rows


FOUR = ("gru-small", "gru-large", "lstm", "transformer")


def four():
    """Four models in one MAS fit, and DAS for one of them."""
    shares = [0.99 if i == j else 0.1 if 3 in (i, j) else 0.9 - 0.1 * i for i in range(4) for j in range(4)]
    return [*directions(shares, FOUR), final(0.97, 2, 2, FOUR, method="das", comparison="lstm")]


def alone():
    """One model only."""
    return [final(0.98, 0, 0, ("gru-0",), method="das"), final(0.9, 0, 0, ("gru-0",), method="das", variable="count")]


def seeds():
    """The same fit from three seeds."""
    return [
        row
        for seed, worst in enumerate((0.9, 0.96, 0.84))
        for row in directions((0.99, worst, 0.97, 0.98), GRUS, seed=seed)
    ]
