"""Every task by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from mas_hooks.core.errors import UnknownNameError
from mas_hooks.data.tasks.arithmetic import arithmetic_task
from mas_hooks.data.tasks.base import AbstractTask
from mas_hooks.data.tasks.numeric import VARIANTS, numeric_task

TASKS: dict[str, Callable[..., AbstractTask[Any]]] = {
    **{name: partial(numeric_task, name) for name in VARIANTS},
    "arithmetic": arithmetic_task,
}


def task(name: str, **settings: Any) -> AbstractTask[Any]:
    """The task `name`; `settings` go to `numeric_task` or `arithmetic_task`.

    Raises UnknownNameError for a task or a setting that does not exist, naming the nearest.

    Example:
        >>> import random
        >>> import mas_hooks as mh
        >>> counting = mh.task("single_object", max_quantity=3)
        >>> counting.sample(random.Random(0), quantity=2)
        ('B', 'D', 'D', 'T', 'R', 'R', 'E')
        >>> sorted(counting.variables)
        ['count', 'full', 'last_value']
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS, "mas_hooks.task")
    make = TASKS[name]
    known = [setting for setting in inspect.signature(make).parameters if setting != "name"]
    for setting in settings:
        if setting not in known:
            raise UnknownNameError("setting", setting, known, f"task {name}")
    return make(**settings)
