"""Running a command of the command line inside the test, on a saved model."""

import pytest
import torch
from hooks.conformance.tiny import TINY
from transformers import MambaConfig, MambaForCausalLM

from mas_hooks.cli import main


def save(folder, family, dtype=torch.float32, *, weights=True):
    """The folder of a saved tiny model, as an argument."""
    TINY[family]().to(dtype).save_pretrained(folder / family)
    if not weights:
        (folder / family / "model.safetensors").unlink()
    return str(folder / family)


def save_mamba(folder):
    """The same of a family that is not in the table."""
    torch.manual_seed(0)
    MambaForCausalLM(MambaConfig(vocab_size=80, hidden_size=32, num_hidden_layers=2)).save_pretrained(folder / "m")
    return str(folder / "m")


def out(capsys, *arguments, status=0):
    if status:
        with pytest.raises(SystemExit) as ended:
            main.main(list(arguments))
        assert ended.value.code == status
    else:
        main.main(list(arguments))
    return capsys.readouterr()


def lines_of(text, word):
    return [line.split() for line in text.splitlines() if word in line]
