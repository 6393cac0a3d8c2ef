"""Tasks as grammars with causal programs, and their counterfactual trials. No torch, nothing but tokens."""

from mas_hooks.data.tasks.arithmetic import ArithmeticTask, arithmetic_task
from mas_hooks.data.tasks.base import AbstractProgram, AbstractTask, Variables
from mas_hooks.data.tasks.counterfactual import (
    Counterfactual,
    CounterfactualSettings,
    Party,
    continue_trial,
    draw_counterfactual,
)
from mas_hooks.data.tasks.numeric import VARIANTS, NumericTask, numeric_task
from mas_hooks.data.tasks.registry import TASKS, task
from mas_hooks.data.tasks.stepwise import draw_stepwise
from mas_hooks.data.tasks.trials import Trials
from mas_hooks.data.tasks.vocabulary import Vocabulary

__all__ = [
    "TASKS",
    "VARIANTS",
    "AbstractProgram",
    "AbstractTask",
    "ArithmeticTask",
    "Counterfactual",
    "CounterfactualSettings",
    "NumericTask",
    "Party",
    "Trials",
    "Variables",
    "Vocabulary",
    "arithmetic_task",
    "continue_trial",
    "draw_counterfactual",
    "draw_stepwise",
    "numeric_task",
    "task",
]
