"""What the paper says of toxic and nontoxic fine-tunes, and by which rules ours agrees: fixed before the kept run."""

from __future__ import annotations

from mas_hooks.evaluation import GroupTest
from mas_hooks.report import Claim
from mas_hooks.studies.toxicity.results import Results

RULES = (
    "*Above* means that the 95% interval of the difference of means, by resampling models, lies above 0; *not "
    "different* means that it contains 0. A difference with no interval (fewer than 3 models of a kind), or of scores "
    "that are all the same, is not comparable. These rules were fixed before the fits of this run."
)
PAPER = (
    ("toxic–toxic above toxic–nontoxic", "first", "toxic–toxic is above toxic–nontoxic"),
    (
        "nontoxic–nontoxic and toxic–nontoxic",
        "second",
        "nontoxic–nontoxic is not significantly different from the mixed pairs",
    ),
)


def toxicity_claims(results: Results) -> list[Claim]:
    """The paper's finding beside ours, on both scores; what was named beforehand is first."""
    claims = []
    for score in (results.chosen, results.other):
        for what, statistic, said in PAPER:
            test = results.test(score, statistic)
            if test is not None:
                beside = results.test("token accuracy without a swap", statistic)
                claims.append(
                    Claim(score, what, _describe_test(test), said, _agrees(test, statistic), _explain(test, beside))
                )
    return claims


def _describe_test(test: GroupTest) -> str:
    ends = "" if test.effect.low is None else f" ({test.effect.low:+.3f} to {test.effect.high:+.3f})"
    means = ", ".join(f"{group.label} {group.mean:.3f}" for group in test.groups)
    return f"difference {test.effect.value:+.3f}{ends}; {means}"


def _agrees(test: GroupTest, statistic: str) -> bool | None:
    low, high = test.effect.low, test.effect.high
    scores = [value for group in test.groups for value in group.values.values()]
    if low is None or high is None or max(scores) == min(scores):
        return None
    return low > 0 if statistic == "first" else low <= 0 <= high


def _explain(test: GroupTest, beside: GroupTest | None) -> str:
    """What the verdict has to be read against: chance, and the same difference where nothing was swapped."""
    without = "" if beside is None else f"; tokens right without a swap differ by {beside.effect.value:+.3f}"
    return f"p = {test.p_one:.2g} one-sided, the smallest that is possible {test.smallest_p:.2g}{without}"
