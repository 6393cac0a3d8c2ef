"""Fingerprints are equal for equal things and differ for others."""

import pytest
import torch

from mas_hooks.core import fingerprints
from mas_hooks.core.errors import CheckpointError


def test_a_model_is_known_by_its_weights():
    model = torch.nn.Linear(4, 3)
    before = fingerprints.model_fingerprint(model), fingerprints.tensors_checksum(model.named_parameters())
    assert before == (fingerprints.model_fingerprint(model), fingerprints.tensors_checksum(model.named_parameters()))
    with torch.no_grad():
        model.weight[1, 2] += 1e-3
    assert fingerprints.model_fingerprint(model) != before[0]
    assert fingerprints.tensors_checksum(model.named_parameters()) != before[1]


def test_a_digest_goes_on_where_another_ended():
    a, b = ("a", torch.arange(3)), ("b", torch.ones(2, dtype=torch.bfloat16))
    parts = fingerprints.tensors_digest([b], fingerprints.tensors_digest([a]))
    assert parts.hexdigest() == fingerprints.tensors_digest([a, b]).hexdigest()
    assert parts.hexdigest() != fingerprints.tensors_digest([b, a]).hexdigest()


def test_texts_are_known_in_their_order():
    assert fingerprints.texts_fingerprint(["a", "b"]) == fingerprints.texts_fingerprint(iter(["a", "b"]))
    assert fingerprints.texts_fingerprint(["a", "b"]) != fingerprints.texts_fingerprint(["b", "a"])
    assert fingerprints.texts_fingerprint(["ab"]) != fingerprints.texts_fingerprint(["a", "b"])


def test_a_folder_is_known_by_its_files(tmp_path):
    (tmp_path / "a").write_bytes(bytes(300_000))
    first = fingerprints.files_fingerprint(tmp_path)
    assert fingerprints.files_fingerprint(tmp_path) == first
    (tmp_path / "a").write_bytes(bytes(299_999) + b"x")  # the end of a file is always read
    assert fingerprints.files_fingerprint(tmp_path) != first
    second = fingerprints.files_fingerprint(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprints.files_fingerprint(tmp_path) not in (first, second)


def test_other_work_in_a_folder_is_refused(tmp_path):
    path = tmp_path / "new" / "work.json"
    fingerprints.keep_or_compare(path, {"rank": 3, "seed": 0})
    fingerprints.keep_or_compare(path, {"rank": 3, "seed": 0})
    with pytest.raises(CheckpointError, match=r"new: was begun with other settings \(rank\); choose another folder"):
        fingerprints.keep_or_compare(path, {"rank": 4, "seed": 0})
