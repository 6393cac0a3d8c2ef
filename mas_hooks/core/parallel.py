"""Independent pieces of work in parallel processes that end with their parent.

The pool of the standard library, as joblib's loky has no way not to restart a worker whose memory grows by 300 MB (as
models in a `ProcessCache` do), with a warning that, taken as an error, kills its manager thread and hangs the run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from mas_hooks.core import progress

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Planned = TypeVar("Planned")


@dataclass(frozen=True)
class Work(Generic[Planned]):
    """A comparison as data, with the folder of its state, from which it resumes, and that of its fitted alignment."""

    name: str
    comparison: Planned
    state: Path
    alignment: Path
    progress: bool = True


def _start_worker(lock: Any, lines: Any) -> None:
    """Give a worker one thread, a line for its bars, and a watch that ends it when its parent ends in any way."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tqdm.set_lock(lock)
    with lines.get_lock():
        progress.take_line(lines.value)
        lines.value += 1
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def run_parallel(
    work: Callable[[Argument], Result], arguments: Sequence[Argument], jobs: int
) -> Iterator[tuple[Argument, Result]]:
    """Run independent pieces of work, and yield each argument with its result as it ends.

    Every piece runs on one thread whatever `jobs` is, so that numbers do not depend on it. An error of a piece, or an
    interruption, ends the other workers and comes out here.

    Args:
        work: a function of a module, so that a spawned worker can import it.
        arguments: one for each piece; plain data.
        jobs: processes; 1 runs the pieces here, in order.

    Returns:
        An iterator of (argument, result), in the order in which the pieces end.
    """
    if jobs <= 1 or len(arguments) <= 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for argument in arguments:
                yield argument, work(argument)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    tqdm.set_lock(context.RLock())
    shared = (tqdm.get_lock(), context.Value("i", 0))
    with ProcessPoolExecutor(min(jobs, len(arguments)), context, _start_worker, shared) as pool:
        waiting = {pool.submit(work, argument): argument for argument in arguments}
        running = True
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
            running = False
        finally:
            if running:  # interrupted, or a piece failed: end the others rather than wait for them
                for process in pool._processes.values():
                    process.terminate()
