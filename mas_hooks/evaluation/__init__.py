"""What a fitted alignment is worth: IIA with intervals, floors, null spaces, and tests between groups of models."""

from mas_hooks.evaluation.evaluate import Evaluation, evaluate
from mas_hooks.evaluation.group_test import Estimate, GroupTest, Statistic, compare_groups, describe_group_test
from mas_hooks.evaluation.metrics import mean_interval, student_interval, wilson_interval
from mas_hooks.evaluation.null_share import natural_pairs, null_space_shares
from mas_hooks.evaluation.pair_scores import PairTable, pair_scores

__all__ = [
    "Estimate",
    "Evaluation",
    "GroupTest",
    "PairTable",
    "Statistic",
    "compare_groups",
    "describe_group_test",
    "evaluate",
    "mean_interval",
    "natural_pairs",
    "null_space_shares",
    "pair_scores",
    "student_interval",
    "wilson_interval",
]
