"""What a process keeps, and how much memory there is to keep it in."""

import psutil
import torch

from mas_hooks.core import memory
from mas_hooks.core.memory import ProcessCache, free_bytes, spare_memory, total_bytes

CPU = torch.device("cpu")


def test_the_memory_of_the_system():
    assert total_bytes(CPU) == psutil.virtual_memory().total
    assert 0 < free_bytes(CPU) <= total_bytes(CPU)


def test_a_reserve_stays_free(monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda _: 1_000)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 900)
    assert spare_memory(CPU) == 0.4 * 900
    monkeypatch.setattr(memory, "free_bytes", lambda _: 250)
    assert spare_memory(CPU) == 50


def test_each_value_is_made_once_and_the_oldest_makes_room():
    calls, cache = [], ProcessCache[str](most=2)

    def get(key):
        return cache.get(key, lambda: calls.append(key) or key.upper())

    assert [get("a"), get("b"), get("a")] == ["A", "B", "A"]
    assert calls == ["a", "b"]
    get("c")  # b is the oldest by now
    assert [get("a"), get("b")] == ["A", "B"]
    assert calls == ["a", "b", "c", "b"]
    cache.clear()
    get("b")
    assert calls[-1] == "b"
    assert len(calls) == 5


def test_a_value_that_fails_is_not_kept():
    cache = ProcessCache[int]()
    for _ in range(2):
        try:
            cache.get("a", lambda: 1 // 0)
        except ZeroDivisionError:
            continue
        raise AssertionError
    assert cache.get("a", lambda: 3) == 3
