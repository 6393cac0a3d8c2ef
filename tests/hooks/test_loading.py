"""Saved models from their folders: the same model, its tokenizer and dtype; no network, no foreign code."""

import json
import socket
import sys

import pytest
import tiny_tokenizers
import torch
from hooks.conformance.backend_models import hf, lora, quiet_peft
from hooks.conformance.batches import ids, mask
from hooks.conformance.tiny import TINY, VOCABULARY
from sentences import refused
from transformers import BertConfig, BertForSequenceClassification

import mas_hooks as mh
from mas_hooks.core.errors import CheckpointError, MissingPackageError, UnsupportedError
from mas_hooks.hooks import loading

FAMILIES = ("gpt2", "qwen2", "gemma2", "bloom", "opt", "falcon", "mixtral", "bert")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        pytest.fail("something asked the network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def saved(tmp_path):
    """A saved Qwen2 with a tokenizer of its own."""
    folder = tmp_path / "qwen"
    hf().save_pretrained(folder)
    tiny_tokenizers.words().save_pretrained(folder)
    return folder


def change(folder, name="config.json", **entries):
    path = folder / name
    told = {key: value for key, value in (json.loads(path.read_text()) | entries).items() if value is not None}
    path.write_text(json.dumps(told))


def test_the_socket_is_watched():
    with pytest.raises(pytest.fail.Exception):
        socket.create_connection(("127.0.0.1", 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_model_that_was_saved(family, tmp_path):
    model = TINY[family]()
    model.save_pretrained(tmp_path / family)
    found = mh.wrap(str(tmp_path / family))
    inputs = {"input_ids": ids(), "attention_mask": mask("left")}
    with torch.no_grad():
        assert torch.equal(found.forward(inputs), mh.wrap(model).forward(inputs))
    assert (found.name, found.tokenizer, found.module.training) == (family, None, False)
    assert found.hook_points() == mh.wrap(model).hook_points()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_folder_keeps_its_dtype(tmp_path, dtype):
    hf().to(dtype).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in mh.wrap(tmp_path).module.parameters()} == {dtype}


def test_a_folder_in_several_files(tmp_path):
    hf().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    with torch.no_grad():
        assert torch.equal(mh.wrap(tmp_path).forward(ids()), mh.wrap(hf()).forward(ids()))


@pytest.mark.parametrize("make", [tiny_tokenizers.words, tiny_tokenizers.byte_pairs])
def test_the_tokenizer_in_a_folder_reads_texts_as_it_did_when_it_was_saved(tmp_path, make):
    """transformers' AutoTokenizer reads a tokenizer of no class in a Qwen2 folder as Qwen2's, and finds no word."""
    tokenizer = make()
    TINY["qwen2"](vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = mh.wrap(tmp_path).encode(tiny_tokenizers.TEXTS)
    wanted = tokenizer(tiny_tokenizers.TEXTS, padding=True, return_tensors="pt")
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert found["input_ids"].shape[1] > 4


def test_a_given_tokenizer_goes_before_the_one_in_the_folder(saved):
    own = tiny_tokenizers.words(side="right")
    assert mh.wrap(saved, tokenizer=own).tokenizer is own
    change(saved, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]})
    with refused(UnsupportedError, "the tokenizer's code in", "wrap(…, tokenizer=…)"):
        mh.wrap(saved)
    (saved / "tokenizer_config.json").write_text("{")
    with refused(CheckpointError, "tokenizer_config.json: cannot be read"):
        mh.wrap(saved)
    assert mh.wrap(saved, tokenizer=own).tokenizer is own


def test_a_classifier_folder_gives_classes(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, num_labels=3, **sizes)).eval()
    model.save_pretrained(tmp_path)
    handle = mh.wrap(tmp_path)
    edit = mh.Edit(handle.at("blocks.0.hook_resid_post"), torch.zeros_like, mh.Where([0, 1], [0, 3]))
    with torch.no_grad():
        plain, edited = handle.forward(ids()), handle.run_with_hooks(ids(), [edit])
        assert torch.equal(plain, model(ids()).logits)
    assert plain.shape == (3, 3)
    assert not torch.allclose(plain[:2], edited[:2])
    assert torch.allclose(plain[2], edited[2])


def test_an_adapter_folder_is_put_on_its_base(saved, tmp_path):
    from peft import PeftModel

    adapted = lora(loading.load_folder(saved), untrained=False)
    adapted.save_pretrained(tmp_path / "adapter")
    with quiet_peft(), torch.no_grad():
        handle = mh.wrap(tmp_path / "adapter")
        assert torch.equal(handle.forward(ids()), mh.wrap(adapted).forward(ids()))
        assert not torch.allclose(handle.forward(ids()), mh.wrap(saved).forward(ids()))
    assert "base_model.model.model.layers.1" in handle.hook_points()
    assert isinstance(adapted, PeftModel)


def test_an_adapter_without_its_base_or_without_peft(saved, tmp_path, monkeypatch):
    adapter = tmp_path / "adapter"
    lora(loading.load_folder(saved)).save_pretrained(adapter)
    monkeypatch.setitem(sys.modules, "peft", None)
    with refused(MissingPackageError, "needs peft, which is not installed", "pip install 'mas-hooks[language]'"):
        mh.wrap(adapter)
    monkeypatch.undo()
    change(adapter, "adapter_config.json", base_model_name_or_path="Qwen/Qwen2-7B")
    with refused(CheckpointError, "adapter of 'Qwen/Qwen2-7B'", "PeftModel.from_pretrained(base, folder)"):
        mh.wrap(adapter)
    change(adapter, "adapter_config.json", base_model_name_or_path=str(adapter))
    with refused(CheckpointError, "is an adapter of an adapter", "merge that one first"):
        mh.wrap(adapter)
    change(adapter, "adapter_config.json", base_model_name_or_path=str(saved))
    (adapter / "adapter_model.safetensors").unlink()
    with refused(CheckpointError, "holds no safetensors weights"):
        mh.wrap(adapter)


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2-7B", "nowhere/at/all", "~/models/mine"])
def test_a_name_that_is_no_folder_is_not_looked_for_elsewhere(name):
    remedy = "load the model yourself and wrap the object"
    with refused(CheckpointError, name, "no folder here, and nothing is downloaded", remedy):
        mh.wrap(name)


def test_a_file_in_place_of_a_folder(saved):
    with refused(CheckpointError, "model.safetensors: is a file", "give the folder"):
        mh.wrap(saved / "model.safetensors")


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text('{"model_type": '), "config.json: cannot be read"),
    "no type": (lambda f: change(f, model_type=None), "is of model type None, which transformers does not have"),
    "unknown type": (lambda f: change(f, model_type="qwen99"), "is of model type 'qwen99', which transformers"),
    "unknown class": (lambda f: change(f, architectures=["MyNet"]), "was saved from 'MyNet', which transformers"),
    "no causal model": (lambda f: change(f, model_type="t5", architectures=None), "its model cannot be loaded"),
    "wrong value": (lambda f: change(f, hidden_size="wide"), "Field 'hidden_size' expected int, got str"),
    "other sizes": (lambda f: change(f, hidden_size=64), "its model cannot be loaded (RuntimeError"),
    "more blocks": (lambda f: change(f, num_hidden_layers=4, layer_types=None), "lacks 12 of its model's weights"),
    "quantized": (
        lambda f: change(f, quantization_config={"quant_method": "aqlm"}),
        "ImportError: Using `aqlm`",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no safetensors weights"),
    "pickled": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin can run code and is not read",
    ),
    "cut off": (lambda f: _cut(f / "model.safetensors", 0.5), "SafetensorError"),
    "empty": (lambda f: _cut(f / "model.safetensors", 0), "SafetensorError"),
}


def _cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_named_with_what_is_wrong(saved, kind):
    damage, told = DAMAGE[kind]
    damage(saved)
    with refused(CheckpointError, str(saved), told):
        mh.wrap(saved)


@pytest.mark.parametrize("entries", [{"model_type": "mine"}, {"architectures": ["MyNet"]}])
def test_code_in_a_folder_is_not_run(saved, entries):
    (saved / "modeling_mine.py").write_text("raise SystemExit('the code of the folder was run')")
    change(saved, auto_map={"AutoModelForCausalLM": "modeling_mine.MyNet", "AutoConfig": "modeling_mine.C"}, **entries)
    with refused(UnsupportedError, f"running the code that comes with {saved}", "load the model yourself"):
        mh.wrap(saved)
    with refused(UnsupportedError, "running the code"):
        loading.load_skeleton(saved)


@pytest.mark.parametrize("architectures", [["Qwen2ForCausalLM"], None])
def test_code_beside_a_class_that_transformers_has_is_left_alone(saved, architectures):
    (saved / "modeling_mine.py").write_text("raise SystemExit('the code of the folder was run')")
    code = {"AutoModelForCausalLM": "modeling_mine.MyNet", "AutoConfig": "modeling_mine.C"}
    change(saved, auto_map=code, architectures=architectures)
    assert type(mh.wrap(saved).module).__name__ == "Qwen2ForCausalLM"
    assert type(loading.load_skeleton(saved)).__name__ == "Qwen2ForCausalLM"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skeleton_has_the_names_and_widths_without_any_weight(family, tmp_path):
    model = TINY[family]()
    model.save_pretrained(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    bare, full = mh.wrap(loading.load_skeleton(tmp_path)), mh.wrap(model)
    assert all(parameter.is_meta for parameter in bare.module.parameters())
    assert bare.hook_points() == full.hook_points()
    names = [name for name in full.hook_points() if name.startswith(("embed", "blocks"))]
    assert [bare.at(name).width for name in names] == [full.at(name).width for name in names]
