"""The benchmark of the align stage, on small models on the CPU."""

import json

import pytest
import torch
from sentences import refused
from transformers import Qwen2Config, Qwen2ForCausalLM

from mas_hooks.cli.main import main
from mas_hooks.core.errors import DeviceError
from mas_hooks.studies.registry import load_study

SMALL = {"tokens": 26, "models": 3, "steps": 1}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A saved model of two blocks."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = Qwen2Config(vocab_size=40, num_attention_heads=2, num_key_value_heads=1, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(path)
    return path


def test_every_fit_has_a_row_with_speed_and_memory(tiny, tmp_path):
    path = tmp_path / "rows.json"
    flags = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    main(["bench", "toxicity-align", "--model", str(tiny), "--json", str(path), *flags])
    rows = json.loads(path.read_text())
    assert [(row["variant"], row["models"]) for row in rows] == [
        ("model 0 alone", 1),
        ("models 0 and 1", 2),
        ("all together", 3),
    ]
    for row in rows:
        assert row["tokens_per_s"] == pytest.approx(row["pairs_per_s"] * 26)
        assert row["pairs_per_s"] == pytest.approx(1_000 * row["models"] ** 2 * 4 / row["ms_median"])
        assert row["peak_mb"] > 0
        assert (row["width"], row["rank"], row["dtype"], row["backend"]) == (16, 8, "float32", "tail")


def test_every_pair_where_asked(tiny):
    study = load_study("benchmarks", "toxicity-align")
    rows = study.main(study.settings(model=str(tiny), every=True, **SMALL))
    assert [row.models for row in rows] == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_made():
    study = load_study("benchmarks", "toxicity-align")
    with refused(DeviceError, "cuda"):
        study.main(study.settings(model="qwen2-1.5b", device="cuda"))
