"""The process cache keeps the last values, and memory is counted in bytes."""

import torch

from mas_hooks.core.memory import ProcessCache, free_bytes, spare_memory, total_bytes


def test_the_process_cache_keeps_the_last_keys():
    cache, calls = ProcessCache(most=2), []
    for key in "abacab":
        assert cache.get(key, lambda key=key: calls.append(key) or key.upper()) == key.upper()
    assert calls == ["a", "b", "c", "b"]  # a was used again before c came, so b had to go
    cache.clear()
    cache.get("a", lambda: calls.append("again"))
    assert calls[-1] == "again"


def test_the_cpu_has_memory_and_a_store_gets_a_part_of_what_is_free():
    cpu = torch.device("cpu")
    assert 0 < free_bytes(cpu) < total_bytes(cpu)
    assert spare_memory(cpu) < free_bytes(cpu)
