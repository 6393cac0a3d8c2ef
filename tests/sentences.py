"""What an error must be like for the person who reads it."""

import re
from contextlib import contextmanager

import pytest


@contextmanager
def refused(kind, *words):
    """The block raises `kind`, in one sentence that holds all these words."""
    with pytest.raises(kind) as caught:
        yield
    said = str(caught.value)
    assert said.endswith("."), said
    assert "\n" not in said, said
    assert len(said) < 500, said
    assert len(re.findall(r"[a-z)'\"]\. [A-Z]", said)) <= 2, said  # beside the nearest name and the list of names
    assert type(caught.value) is kind
    for word in words:
        assert word in said, said
