"""Tasks as grammars with causal programs, and their counterfactual trials. No torch, nothing but tokens."""

from mas_hooks.tasks.arithmetic import ArithmeticTask, arithmetic_task
from mas_hooks.tasks.catalogue import TASKS, task
from mas_hooks.tasks.causal_model import AbstractProgram, AbstractTask, Variables
from mas_hooks.tasks.counterfactual import Counterfactual, CounterfactualSettings, Party, continuation, draw
from mas_hooks.tasks.numeric import VARIANTS, NumericTask, numeric_task
from mas_hooks.tasks.stepwise import draw_stepwise
from mas_hooks.tasks.vocabulary import Vocabulary

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
    "Variables",
    "Vocabulary",
    "arithmetic_task",
    "continuation",
    "draw",
    "draw_stepwise",
    "numeric_task",
    "task",
]
