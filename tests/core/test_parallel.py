import os
import subprocess
import sys
import time
from pickle import dumps, loads

import pytest
import torch

from mas_hooks.core.errors import DeviceError, OutputFolderError, RankError, UnknownNameError
from mas_hooks.core.parallel import run_parallel
from mas_hooks.data.tasks import task
from mas_hooks.evaluation.metrics import wilson_interval


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_argument_comes_back_with_its_result(jobs):
    found = dict(run_parallel(abs, [-1, -2, -3], jobs))
    assert found == {-1: 1, -2: 2, -3: 3}


def test_inline_work_runs_on_one_thread_and_gives_the_others_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads = [count for _, count in run_parallel(lambda _: torch.get_num_threads(), [0, 1], 1)]
        assert threads == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_process_arrives():
    with pytest.raises(TypeError):
        list(run_parallel(abs, ["a", "b"], 2))


def test_results_arrive_with_objects_of_the_library():
    assert callable(wilson_interval)
    assert dict(run_parallel(os.path.basename, ["a/b", "c/d"], 2)) == {"a/b": "b", "c/d": "d"}


SLEEPER = """
import sys, time
from mas_hooks.core.parallel import run_parallel
if __name__ == "__main__":
    print("up", flush=True)
    list(run_parallel(time.sleep, [100.0, 100.5], 2))
"""


def children(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def alive(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def until(condition, seconds=120.0):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: len(children(parent.pid)) >= 2)
        workers = children(parent.pid)
        time.sleep(3)  # let the workers finish starting
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: not any(alive(pid) for pid in workers))


def test_our_errors_arrive_from_another_process_as_they_were():
    with pytest.raises(UnknownNameError, match="Did you mean 'multi_object'"):
        list(run_parallel(task, ["multi_objct", "multi_objct"], 2))


@pytest.mark.parametrize(
    "error",
    [RankError(9, 3, "the state"), OutputFolderError("a", "full", "make room"), DeviceError.missing("cuda")],
)
def test_every_error_travels(error):
    back = loads(dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
