"""Comparisons as data: what a study runs in worker processes, with a function that runs one."""
