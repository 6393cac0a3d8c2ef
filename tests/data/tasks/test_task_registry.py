import ast
import pickle
import random
from pathlib import Path

import pytest

import mas_hooks.data.tasks
from mas_hooks.core.errors import UnknownNameError
from mas_hooks.data.tasks import TASKS, arithmetic_task, numeric_task, task


def test_every_task_by_name():
    names = ["multi_object", "single_object", "same_object", "modulo", "rounding", "arithmetic"]
    assert list(TASKS) == names
    assert [task(name).name for name in names] == names
    assert task("modulo", void_probability=0.2) == numeric_task("modulo", void_probability=0.2)
    assert task("arithmetic", max_operations=3) == arithmetic_task(max_operations=3)


def test_unknown_names_are_told():
    with pytest.raises(UnknownNameError, match=r"has no task 'modullo'\. Did you mean 'modulo'"):
        task("modullo")
    with pytest.raises(UnknownNameError, match=r"has no setting 'void_probabilty'\. Did you mean 'void_prob"):
        task("modulo", void_probabilty=0.2)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_travel_to_other_processes(name):
    sent = task(name)
    came = pickle.loads(pickle.dumps(sent))
    assert came == sent
    assert hash(came) == hash(sent)
    assert came.sample(random.Random(0)) == sent.sample(random.Random(0))


def test_the_room_exports_what_it_lists():
    assert all(hasattr(mas_hooks.data.tasks, name) for name in mas_hooks.data.tasks.__all__)


def test_no_torch_in_here():
    files = list(Path(mas_hooks.data.tasks.__file__).parent.glob("*.py"))
    imports = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    named = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert "numpy" in named
    assert not any(name.startswith("torch") for name in named)
