"""Independent pieces of work in parallel processes that end with their parent."""

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
    """A comparison as data, where its interrupted state lies, and where the fitted alignment goes."""

    name: str
    comparison: Planned
    state: Path
    alignment: Path
    progress: bool = True


def _start_worker(lock: Any, lines: Any) -> None:
    """One thread a process, a line for its bars, and an end when the parent ends, however it ends."""
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
    """Each argument with its result, as they are finished; `work` is a function of the library, so that it travels.

    Every piece runs on one thread whatever `jobs` is, so that numbers do not depend on it.
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
            if running:  # interrupted, or one piece failed: end the others rather than wait for them
                for process in pool._processes.values():
                    process.terminate()
